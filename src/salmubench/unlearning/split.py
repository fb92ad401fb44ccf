"""A step's pairs divided among processes and, in each, among forward passes; the loss stays that of the whole batch.

A contrastive loss compares each pair with every other, so summing the losses of parts would change it. Instead the
parts' embeddings are brought together and the loss is computed on all of them, everywhere alike. Backwards, each part
takes its rows of the gradient: with several passes it is encoded once more for that, so that one part's activations
are held at a time (GradCache, arXiv 2101.06983; torch's checkpointing does it and replays the random numbers).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, PartialState
from torch import Tensor, distributed, nn
from torch.utils.checkpoint import checkpoint

from salmubench.errors import UserError

KeyT = TypeVar("KeyT", bound=str)
MAX_CHUNKS = 10**6


@dataclass(frozen=True)
class Split:
    """How steps are divided; by default not at all.

    Attributes:
        chunks: forward passes that a process makes of its share of a step.
        process: number of this process.
        processes: how many there are.
    """

    chunks: int = 1
    process: int = 0
    processes: int = 1

    @classmethod
    def of(cls, accelerator: Accelerator, chunks: int) -> "Split":
        """The accelerator's processes, with ``chunks`` passes each.

        Raises:
            UserError: ``chunks`` is no number of passes.
        """
        if not 1 <= chunks <= MAX_CHUNKS:
            raise UserError(f"--chunks {chunks}: give the number of forward passes that a step is cut into, 1 or more")
        return cls(chunks, accelerator.process_index, accelerator.num_processes)

    def require_fit(self, smallest: int) -> None:
        """Checks that no part of a step is empty.

        Args:
            smallest: pairs of the smallest step.

        Raises:
            UserError: there are more parts than pairs.
        """
        if self.processes * self.chunks > smallest:
            raise UserError(
                f"--chunks {self.chunks}: {self.processes} process(es) with as many passes each, and a step of "
                f"{smallest} pairs; lower --chunks or raise --batch-size"
            )

    def share(self, size: int) -> slice:
        """Which of a step's ``size`` pairs this process encodes; sizes of shares differ by one at most."""
        small, longer = divmod(size, self.processes)
        start = self.process * small + min(self.process, longer)
        return slice(start, start + small + (self.process < longer))

    def encode(
        self, model: nn.Module, pictures: Mapping[str, Tensor], captions: Mapping[KeyT, Tensor], size: int
    ) -> tuple[dict[str, Tensor], dict[KeyT, Tensor], Tensor]:
        """Embeds a step.

        Args:
            model: open_clip's, (pictures, captions) to (image features, text features, logit scale).
            pictures: this process's share by set, each (s, 3, h, w); each pass embeds those of all sets together.
            captions: its share by need, each (s, context).
            size: pairs b of the whole step.

        Returns:
            Float32 image embeddings by set and text embeddings by need, of the whole step, each (b, d), and the scale.
        """
        parts = []
        for number in range(self.chunks):
            images, texts = (
                [value.tensor_split(self.chunks)[number] for value in values.values()]
                for values in (pictures, captions)
            )
            arguments = torch.cat(images), torch.cat(texts)
            # Without gradient there is nothing to encode again for.
            again = self.chunks > 1 and torch.is_grad_enabled()
            output = checkpoint(model, *arguments, use_reentrant=False) if again else model(*arguments)
            image, text, scale, *_ = output
            counts = [len(value) for value in images], [len(value) for value in texts]
            parts.append((*image.float().split(counts[0]), *text.float().split(counts[1])))
        found = [torch.cat(column) for column in zip(*parts, strict=True)]
        if self.processes > 1:
            whole: Tensor = _Gather.apply(torch.cat(found, dim=1), self, size)
            found = list(whole.tensor_split(len(found), dim=1))
        texts_found = dict(zip(captions, found[len(pictures) :], strict=True))
        return dict(zip(pictures, found, strict=False)), texts_found, scale.float()

    def total(self, value: Tensor) -> Tensor:
        """The sum over processes, in place."""
        if self.processes > 1:
            distributed.all_reduce(value)
        return value

    def mean(self, value: Tensor) -> Tensor:
        """The mean over processes, in place: of their gradients, the gradient of the loss. See ``_Gather``."""
        return self.total(value).div_(self.processes) if self.processes > 1 else value

    @contextmanager
    def one_first(self) -> Iterator[None]:
        """Lets a machine's first process do something before its others, which may then find it done."""
        if self.processes == 1:
            yield
            return
        with PartialState().local_main_process_first():
            yield


WHOLE = Split()


class _Gather(torch.autograd.Function):
    """A process's rows to the rows of all, (s, n) to (b, n).

    Every process computes the same loss of all rows, hence the same gradient, and only its own rows lead to its graph.
    That gradient counts once for each process, so that a mean over processes is the gradient of the loss by a weight:
    a sum of what the rows give, and unchanged where each process has the whole (the logit scale).
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, split: Split, size: int) -> Tensor:
        ctx.split, ctx.size = split, size
        whole = own.new_zeros(size, own.shape[1])
        whole[split.share(size)] = own
        return split.total(whole)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        split: Split = ctx.split
        return gradients[0][split.share(ctx.size)] * split.processes, None, None
