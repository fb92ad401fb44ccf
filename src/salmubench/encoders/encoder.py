"""A dual encoder: encodes pictures and captions. ``checkpoint.py`` loads one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from salmubench.dataset.pictures import decode_picture
from salmubench.errors import RunError
from salmubench.jobs import cores
from salmubench.progress import Progress, silent

PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""fp32 computes everything in float32 (no TF32); the others run under autocast. Embeddings are float32 always."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """A loaded checkpoint.

    Attributes:
        name: the checkpoint's folder, file stem or hub repository.
        architecture: open_clip's name of the architecture, or a short description where it has none.
        weights_sha256: of the weights file's bytes.
        config: ``{"model_cfg", "preprocess_cfg"}``, what ``save_checkpoint`` takes.
        precision: a key of ``PRECISIONS``.
        device: where the model lies.
        model: the open_clip model, in eval mode.
        tokenizer: texts to token ids, shape (b, context_length).
        preprocess: an RGB picture to a tensor, shape (3, size, size).
    """

    name: str
    architecture: str
    weights_sha256: str
    config: dict[str, Any]
    precision: str
    device: torch.device
    model: nn.Module
    tokenizer: Callable[[Sequence[str]], Tensor]
    preprocess: Callable[[Image.Image], Tensor]

    @property
    def dimension(self) -> int:
        """Length d of an embedding."""
        return int(self.config["model_cfg"]["embed_dim"])

    def encode_pictures(
        self,
        pictures: Iterable[tuple[str, bytes]],
        total: int,
        *,
        batch_size: int = 256,
        progress: Progress = silent,
    ) -> NDArray[np.float32]:
        """Embeds encoded pictures. They are decoded by a few threads, one batch ahead of the model.

        Args:
            pictures: (where the picture lies, its bytes) for each; read as a stream, never held as a whole.
            total: how many there are.
            batch_size: pictures a forward pass; changes speed and memory, not results.
            progress: shows the pictures done.

        Returns:
            L2-normalised embeddings, shape (total, d).

        Raises:
            UserError: a picture does not decode; the message says which.
            RunError: an embedding is not finite.
        """
        batches = self._decoded(pictures, batch_size)
        return self._encode("encode_image", batches, total, "encoding pictures", progress)

    def encode_texts(
        self, texts: Sequence[str], *, batch_size: int = 256, progress: Progress = silent
    ) -> NDArray[np.float32]:
        """Embeds captions.

        Returns:
            L2-normalised embeddings in the order of ``texts``, shape (len(texts), d).

        Raises:
            RunError: an embedding is not finite.
        """
        batches = (self.tokenizer(batch) for batch in _batched(texts, batch_size))
        return self._encode("encode_text", batches, len(texts), "encoding captions", progress)

    def _decoded(self, pictures: Iterable[tuple[str, bytes]], batch_size: int) -> Iterator[Tensor]:
        ahead: deque[list[Future[Tensor]]] = deque()
        with ThreadPoolExecutor(min(16, cores())) as pool:
            try:
                for batch in _batched(pictures, batch_size):
                    ahead.append([pool.submit(self._prepare, *picture) for picture in batch])
                    if len(ahead) > 1:
                        yield torch.stack([future.result() for future in ahead.popleft()])
                while ahead:
                    yield torch.stack([future.result() for future in ahead.popleft()])
            finally:
                pool.shutdown(cancel_futures=True)

    def _prepare(self, where: str, content: bytes) -> Tensor:
        return self.preprocess(decode_picture(content, where))

    def _encode(
        self, tower: str, batches: Iterable[Tensor], total: int, description: str, progress: Progress
    ) -> NDArray[np.float32]:
        features = np.empty((total, self.dimension), np.float32)
        encode = getattr(self.model, tower)
        done = 0
        with torch.inference_mode(), self._arithmetic(), progress(description, total) as advance:
            for batch in batches:
                embedded = functional.normalize(encode(batch.to(self.device)).float(), dim=-1)
                features[done : done + len(embedded)] = embedded.cpu().numpy()
                done += len(embedded)
                advance(len(embedded))
        if done != total:
            raise ValueError(f"{done} inputs came where {total} were announced")
        if not np.isfinite(features).all():
            raise RunError(
                f"{self.name}: the model gives embeddings that are not finite; its weights are broken, train it again"
            )
        return features

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        dtype = PRECISIONS[self.precision]
        autocast: AbstractContextManager[Any] = (
            torch.autocast(self.device.type, dtype=dtype) if dtype is not None else nullcontext()
        )
        # Left alone, cuDNN picks its algorithm, and TF32, by the batch's shape: scores would move with the batch size.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=dtype is not None), autocast:
            yield


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
