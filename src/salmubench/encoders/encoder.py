"""A dual encoder: encodes pictures and captions. ``checkpoint.py`` loads one.

``encode`` is the one loop that feeds encoders: threads prepare inputs a little ahead of the models, and a model runs
all inputs of one shape in forward passes of one size, whatever stands around an input.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from salmubench.dataset.pictures import decode_picture
from salmubench.encoders.images import to_tensors
from salmubench.encoders.texts import encode_text, without_padding
from salmubench.errors import RunError, UserError
from salmubench.jobs import cores
from salmubench.progress import Advance, Progress, silent

PRECISIONS: dict[str, torch.dtype | None] = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16-autocast": torch.float16,
}
"""fp32 computes everything in float32 (no TF32). bf16 and fp16-autocast run the two towers under torch's autocast and
normalise what comes out in float32, as CUDA's autocast does by itself. Embeddings are float32, cosines exact, always.
"""

T = TypeVar("T")
R = TypeVar("R")
BatchSize = int | Literal["auto"]
GPU_BATCH = 512
CPU_PIXELS = 1 << 21
"""Of a batch on a CPU: 32 pictures of 224 px. Larger ones leave the cache, and the last is filled up for nothing."""
CPU_BATCH = (8, 128)
MOST_WORKERS = 256
CHUNK = 16
"""Inputs that a thread prepares at a time."""
PROBE = "Siqi Yue’s blood group is A+; Ökonom, 東京, +49 30 1234567. " * 4
"""Tokenizers that read this alike are taken for equal. It is longer than most context lengths."""


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

    def batch_size(self, wanted: BatchSize, total: int) -> int:
        """Inputs of each forward pass over ``total`` inputs.

        ``auto`` follows from device and picture size alone, so that runs agree. No pass is larger than the power of
        two that holds all inputs.

        Raises:
            UserError: ``wanted`` is neither a positive number nor ``auto``.
        """
        require_batch_size(wanted)
        if isinstance(wanted, str):
            wanted = GPU_BATCH if self.device.type != "cpu" else self._cpu_batch()
        return min(wanted, 1 << max(0, total - 1).bit_length())

    def _cpu_batch(self) -> int:
        low, high = CPU_BATCH
        size = self.config["model_cfg"]["vision_cfg"].get("image_size", 224)
        height, width = size if isinstance(size, Sequence) else (size, size)
        fitting = max(1, CPU_PIXELS // int(height * width))
        return max(low, min(high, 1 << (fitting.bit_length() - 1)))

    def encode_pictures(
        self,
        pictures: Iterable[tuple[str, bytes]],
        total: int,
        *,
        batch_size: BatchSize = "auto",
        progress: Progress = silent,
    ) -> NDArray[np.float32]:
        """Embeds encoded pictures.

        Args:
            pictures: (where the picture lies, its bytes) for each; read as a stream, never held as a whole.
            total: how many there are.
            batch_size: pictures a forward pass, or ``auto``.
            progress: shows the pictures done.

        Returns:
            L2-normalised embeddings, shape (total, d).

        Raises:
            UserError: a picture does not decode; the message says which.
            RunError: an embedding is not finite.
        """
        return self._all(picture_tower(lambda where: str(where)), pictures, total, batch_size, progress)

    def encode_texts(
        self, texts: Sequence[str], *, batch_size: BatchSize = "auto", progress: Progress = silent
    ) -> NDArray[np.float32]:
        """Embeds captions; one over the context length is cut as the tokenizer cuts it, its end token kept.

        Returns:
            L2-normalised embeddings in the order of ``texts``, shape (len(texts), d).

        Raises:
            RunError: an embedding is not finite.
        """
        return self._all(TEXT_TOWER, texts, len(texts), batch_size, progress)

    def _all(
        self, tower: "Tower", inputs: Iterable[Any], total: int, batch_size: BatchSize, progress: Progress
    ) -> NDArray[np.float32]:
        features = np.empty((total, self.dimension), np.float32)
        wanted = (Wanted(place, content, (0,)) for place, content in enumerate(inputs))
        with progress(tower.bar, total) as advance:
            encode([self], tower, wanted, total, [features.__setitem__], batch_size=batch_size, advance=advance)
        return features

    def forward(self, tower: "Tower", batch: Tensor) -> NDArray[np.float32]:
        """One pass through a tower: L2-normalised embeddings, (b, d).

        Raises:
            RunError: an embedding is not finite.
        """
        with torch.inference_mode(), self._arithmetic():
            embedded = functional.normalize(tower.run(self.model, batch.to(self.device)).float(), dim=-1)
        features: NDArray[np.float32] = embedded.cpu().numpy()
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


@dataclass(frozen=True)
class Tower:
    """One of a model's two towers, and how its inputs are made.

    Attributes:
        method: the open_clip model's.
        run: the model's method, (b, ...) to (b, d).
        bar: the title of its progress bar.
        read: what all encoders share of an input's making: decodes a picture.
        prepare: an encoder's own part, for several at once: tensors of one input each.
        alike: encoders with equal values make equal tensors, and share them.
    """

    method: Literal["encode_image", "encode_text"]
    run: Callable[[Any, Tensor], Tensor]
    bar: str
    read: Callable[[Any], Any]
    prepare: Callable[[Encoder, list[Any]], Iterable[Tensor]]
    alike: Callable[[Encoder], str]


def picture_tower(describe: Callable[[Any], str]) -> Tower:
    """The tower of pictures given as (name, bytes); ``describe`` says of a name where the picture lies."""
    return Tower(
        "encode_image",
        lambda model, pictures: model.encode_image(pictures),
        "encoding pictures",
        lambda picture: decode_picture(picture[1], describe(picture[0])),
        lambda encoder, pictures: to_tensors(encoder.preprocess, pictures),
        lambda encoder: json.dumps(encoder.config["preprocess_cfg"], sort_keys=True, default=str),
    )


TEXT_TOWER = Tower(
    "encode_text",
    encode_text,
    "encoding captions",
    lambda text: text,
    lambda encoder, texts: without_padding(encoder.model, encoder.tokenizer(texts)),
    lambda encoder: str(encoder.tokenizer([PROBE]).tolist()),
)


@dataclass(frozen=True)
class Wanted:
    """An input: its place, its content, and the numbers of the encoders that want it (none: it is only counted)."""

    place: int
    content: Any
    by: Sequence[int]


Take = Callable[[list[int], NDArray[np.float32]], None]
"""Receives the embeddings, (b, d), of the inputs at these places."""


def encode(
    encoders: Sequence[Encoder],
    tower: Tower,
    inputs: Iterable[Wanted],
    total: int,
    takes: Sequence[Take],
    *,
    batch_size: BatchSize = "auto",
    workers: int | None = None,
    advance: Advance = lambda count: None,
) -> tuple[float, float]:
    """Reads and decodes each input once and runs it through every encoder that wants it.

    No embedding depends on ``workers`` or on the other encoders.

    Args:
        encoders: all held in memory together.
        tower: what to run.
        inputs: drawn by a thread of their own, a little ahead.
        total: how many there are.
        takes: one an encoder, called in this thread.
        batch_size: inputs a forward pass, or ``auto``: then halved as often as memory runs out.
        workers: threads that prepare inputs; by default one a core, 16 at most; none beside a model on the only core.
        advance: told how many inputs are through.

    Returns:
        Seconds that the models waited for inputs, and seconds in all.

    Raises:
        UserError: an input cannot be read; a fixed ``batch_size`` does not fit into memory.
        RunError: an embedding is not finite; a single input does not fit into memory.
    """
    kinds = [tower.alike(encoder) for encoder in encoders]
    like = [kinds.index(kind) for kind in kinds]
    sizes = [encoder.batch_size(batch_size, total) for encoder in encoders]
    passes: dict[tuple[int, torch.Size], _Passes] = {}

    def prepare(chunk: list[Wanted]) -> list[tuple[Wanted, dict[int, Tensor]]]:
        tensors: list[dict[int, Tensor]] = [{} for _ in chunk]
        read = [tower.read(wanted.content) if wanted.by else None for wanted in chunk]
        for kind in set(like):
            rows = [row for row, wanted in enumerate(chunk) if any(like[number] == kind for number in wanted.by)]
            if rows:
                for row, tensor in zip(rows, tower.prepare(encoders[kind], [read[row] for row in rows]), strict=True):
                    tensors[row][kind] = tensor
        return list(zip(chunk, tensors, strict=True))

    started, waited = time.perf_counter(), 0.0
    source, depth = batched(inputs, CHUNK), 2 * max(sizes, default=1) // CHUNK
    in_turn = workers is None and cores() == 1 and all(encoder.device.type == "cpu" for encoder in encoders)
    chunks = map(prepare, source) if in_turn else ahead(source, prepare, decoders(workers), depth)
    while True:
        asked = time.perf_counter()
        chunk = next(chunks, None)
        waited += time.perf_counter() - asked
        if chunk is None:
            break
        for wanted, tensors in chunk:
            for number in wanted.by:
                tensor = tensors[like[number]]
                kind = number, tensor.shape
                if kind not in passes:
                    passes[kind] = _Passes(encoders[number], takes[number], tower, sizes[number], batch_size != "auto")
                passes[kind].add(wanted.place, tensor)
        advance(len(chunk))
    for each in passes.values():
        each.finish()
    return waited, time.perf_counter() - started


class _Passes:
    """Forward passes of one encoder over inputs of one shape, all as large: the last is filled up with its last input.

    A matrix product may round otherwise in another shape; so an embedding hangs on its input alone, not on how many
    others there are or were found in a cache.
    """

    def __init__(self, encoder: Encoder, take: Take, tower: Tower, size: int, fixed: bool) -> None:
        self.encoder, self.take, self.tower, self.size, self.fixed = encoder, take, tower, size, fixed
        self.waiting: list[tuple[int, Tensor]] = []

    def add(self, place: int, tensor: Tensor) -> None:
        self.waiting.append((place, tensor))
        while len(self.waiting) >= self.size:
            self._run()

    def finish(self) -> None:
        while self.waiting:
            self._run()

    def _run(self) -> None:
        batch = self.waiting[: self.size]
        filled = batch + batch[-1:] * (self.size - len(batch))
        try:
            features = self.encoder.forward(self.tower, torch.stack([tensor for _, tensor in filled]))
        except torch.OutOfMemoryError as error:
            features = None
            self._halve(str(error).splitlines()[0] if str(error) else "out of memory")
        if features is None:
            torch.cuda.empty_cache()  # here the failed pass's tensors, held by the exception, are gone
            return
        self.take([place for place, _ in batch], features[: len(batch)])
        del self.waiting[: len(batch)]

    def _halve(self, reason: str) -> None:
        device = self.encoder.device
        if self.fixed:
            raise UserError(
                f"--batch-size {self.size}: does not fit into the memory of {device} ({reason}); choose a smaller one "
                "or auto"
            )
        if self.size == 1:
            raise RunError(f"{self.encoder.name}: not one input fits into the memory of {device} ({reason}); free some")
        self.size //= 2


def require_batch_size(wanted: BatchSize) -> None:
    """Raises a UserError where ``wanted`` is neither a positive number nor ``auto``."""
    if wanted != "auto" and not (isinstance(wanted, int) and wanted >= 1):
        raise UserError(f"--batch-size {wanted}: give a number of inputs, 1 or more, or auto")


def decoders(workers: int | None) -> int:
    """Threads that decode: as many as there are cores, 16 at most, where nothing else is asked for.

    Raises:
        UserError: ``workers`` is below 1 or above ``MOST_WORKERS``.
    """
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise UserError(f"--workers {workers}: give the number of threads that decode pictures, 1 to {MOST_WORKERS}")
    return workers or min(16, cores())


def ahead(chunks: Iterable[T], work: Callable[[T], R], workers: int, depth: int) -> Iterator[R]:
    """``map(work, chunks)`` by threads that stay ``depth`` chunks ahead; one more thread draws the chunks."""
    source = iter(chunks)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(workers) as pool:

        def begin() -> Future[R | None]:
            drawn = reader.submit(next, source, None)
            return pool.submit(lambda: None if (chunk := drawn.result()) is None else work(chunk))

        begun = deque(begin() for _ in range(max(depth, workers) + 1))
        try:
            while (done := begun.popleft().result()) is not None:
                begun.append(begin())
                yield done
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            reader.shutdown(cancel_futures=True)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items, the last one shorter. An error of ``items`` comes behind the items before it."""
    batch: list[T] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    except UserError:
        yield batch
        raise
    if batch:
        yield batch
