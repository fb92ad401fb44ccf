"""Several training processes as one: who they are, and the two places where open_clip_train would let them differ.

Shares of a batch differ by a sample or so, because sensitive pairs ride along. open_clip's loss gathers equal shares
only, and its batch normalisation sees a share alone; with these here, the step of n processes is that of one with the
whole batch, up to rounding. DistributedDataParallel averages gradients over processes.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import open_clip
import torch
import torch.distributed as dist
import torch.nn.functional as F
from open_clip_train.distributed import init_distributed_device
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from salmubench.errors import RunError, UserError

Value = TypeVar("Value")


class Ranks:
    """The training processes, of which this is number ``rank``; one of one where torchrun has not started it.

    Args:
        members: open_clip_train's own description of the device and the processes.
    """

    def __init__(self, members: dict[str, Any]) -> None:
        self.members = members
        self.rank: int = members["rank"]
        self.size: int = members["world_size"]

    def from_first(self, function: Callable[[], Value]) -> Value:
        """What ``function`` gives in the first process, given to all; what it raises ends them all.

        Raises:
            UserError: in the first process, which raised it.
            RunError: in the first process, which raised it.
        """
        if self.size == 1:
            return function()
        outcome: list[Any] = [None]
        if self.rank == 0:
            try:
                outcome = [function()]
            except (UserError, RunError) as error:
                outcome = [error]
        dist.broadcast_object_list(outcome, src=0)
        if not isinstance(outcome[0], (UserError, RunError)):
            value: Value = outcome[0]
            return value
        raise outcome[0] if self.rank == 0 else SystemExit(outcome[0].exit_code)

    def device(self, arguments: Namespace) -> torch.device:
        """In place of the engine's ``init_distributed_device``, which would join the processes a second time."""
        vars(arguments).update(self.members)
        return torch.device(arguments.device)


def started_by_torchrun() -> bool:
    """Whether this is a process that torchrun has started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Joins the processes that torchrun has started, each on its device; leaves them at the end."""
    if not started_by_torchrun():
        yield Ranks({"device": device, "rank": 0, "local_rank": 0, "world_size": 1, "distributed": False})
        return
    members = Namespace(device=device)
    init_distributed_device(members)
    try:
        yield Ranks(vars(members))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def parallel(model: nn.Module, device_ids: list[torch.device], **options: Any) -> nn.Module:
    """DistributedDataParallel, which refuses the list of devices that open_clip_train passes where they are CPUs."""
    devices = None if device_ids[0].type == "cpu" else device_ids
    return DistributedDataParallel(model, device_ids=devices, **options)


class _Summed(torch.autograd.Function):
    """Sum over processes; the gradient of a sum of losses by a part is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Summed.forward(ctx, gradient)


def summed(part: Tensor) -> Tensor:
    """The sum of all processes' ``part``, with gradients."""
    total: Tensor = _Summed.apply(part)
    return total


class WholeBatchLoss(open_clip.ClipLoss):  # type: ignore[misc]
    """CLIP's loss over the whole batch from shares of any size: local rows against gathered columns, with gradients.

    Rows are gathered as a sum of shares that are padded to their places: no collective takes unequal shares everywhere.
    With N pairs in all and p processes, process k returns p/N times the sum over its own rows, so that the average
    over processes is the mean over N and so is its gradient. The value that it shows is that mean in every process.
    """

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        output_dict: bool = False,
    ) -> dict[str, Tensor] | Tensor:
        """The loss of shares of shape (n_k, d)."""
        shares = torch.zeros(self.world_size, dtype=torch.int64, device=image_features.device)
        shares[self.rank] = len(image_features)
        dist.all_reduce(shares)
        sizes = shares.tolist()
        before, after = sum(sizes[: self.rank]), sum(sizes[self.rank + 1 :])
        images, texts = (summed(F.pad(features, (0, 0, before, after))) for features in (image_features, text_features))
        rows = torch.arange(len(image_features), device=image_features.device) + before
        sums = [
            F.cross_entropy(logit_scale * features @ others.T, rows, reduction="sum")
            for features, others in ((image_features, texts), (text_features, images))
        ]
        loss = (sums[0] + sums[1]) / 2 * self.world_size / sum(sizes)
        shown = loss.detach().clone()
        dist.all_reduce(shown)
        loss = loss + (shown / self.world_size - loss).detach()
        return {"contrastive_loss": loss} if output_dict else loss


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over all processes' samples, on a CPU; torch's SyncBatchNorm is for GPUs alone."""

    def forward(self, input: Tensor) -> Tensor:
        """As the superclass, over the whole batch."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        number = summed(torch.tensor(values.numel() / values.shape[1]))
        mean = summed(values.sum((0, 2, 3))) / number
        centred = values - mean[:, None, None]
        variance = summed(centred.square().sum((0, 2, 3))) / number
        with torch.no_grad():
            share = self.momentum or 0.0
            self.running_mean.lerp_(mean, share)  # type: ignore[union-attr]
            self.running_var.lerp_(variance * number / (number - 1), share)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = torch.rsqrt(variance + self.eps) * self.weight
        normed: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normed.to(input.dtype)


def share_statistics(model: nn.Module) -> nn.Module:
    """The model with a ``SharedBatchNorm`` in the place of each batch normalisation, the same weights."""
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            shared.load_state_dict(child.state_dict())
            setattr(model, name, shared)
        else:
            share_statistics(child)
    return model
