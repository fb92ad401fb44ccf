"""Embeddings on disk, so that no picture or caption is encoded twice with the same model and the same arithmetic.

A shelf (one model, one tower) is a folder of segments: immutable files, each written whole and named by its own hash.
So there are no locks: processes that run at once may at worst write the same embedding twice, a killed one leaves
whole segments behind and goes on from them, and a damaged one is told by its name and dropped. A cache that fails in
any way costs time, never a result.
"""

import hashlib
import io
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from salmubench.atomic import replacing, sha256_file
from salmubench.encoders.encoder import Encoder, Tower
from salmubench.errors import RunError, UserError

FORMAT = 2
KEY_BYTES = 16
DEFAULT_GIGABYTES = 5.0
"""About ten times the official evaluation with ViT-B/16 and ImageNet-1k: 240,000 inputs of 512 numbers are 0.5 GB."""
SEGMENT_INPUTS = 1024
SEGMENT_BYTES = 1 << 25
SEGMENT_SECONDS = 30.0
"""A segment is written after so many inputs, bytes or seconds: that is all that a killed run loses."""
PACKAGES = ("torch", "torchvision", "open_clip_torch", "pillow", "numpy")
"""Another version of these may round, resize, decode or cut a caption otherwise."""

log = logging.getLogger(__name__)


def content_key(content: bytes) -> bytes:
    """The head of the content's SHA-256."""
    return hashlib.sha256(content).digest()[:KEY_BYTES]


def cache_folder() -> Path:
    """``SALMUBENCH_CACHE``, or ``salmubench`` in the user's cache folder."""
    named = os.environ.get("SALMUBENCH_CACHE")
    if named:
        return Path(named)
    shared = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(shared) if shared else Path.home() / ".cache") / "salmubench"
    except RuntimeError:  # a user without a home, as containers have them
        return Path(tempfile.gettempdir()) / "salmubench"


class Cache:
    """Shelves of one kind.

    Args:
        folder: where they lie; need not be there.
        gigabytes: what all may take together; the least recently used segments go first.
    """

    def __init__(self, folder: Path, gigabytes: float) -> None:
        self.folder = folder
        self.bytes = int(min(gigabytes * 1e9, sys.maxsize))
        self.works = True

    def open(self, name: str, value: np.dtype[Any]) -> "Shelf":
        """The shelf ``name`` of arrays of type ``value``. Use it in a ``with``: its end writes what is left."""
        return Shelf(self, self.folder / name, value)

    def write(self, path: Path, content: bytes) -> None:
        """Writes a segment and makes room for it; a disk that takes none ends the writing with a note."""
        if not self.works:
            return
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(content)
            self._trim()
        except (UserError, RunError, OSError) as error:
            self.works = False
            log.warning("Note: %s are not kept for the next run (%s)", self.folder.name, error)

    def _trim(self) -> None:
        found = []
        for path in self.folder.glob("*/*"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process made room
                continue
            found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


class EmbeddingCache(Cache):
    """The shelves of all models, one for each model and tower.

    Args:
        folder: by default ``cache_folder()``.
        gigabytes: what all may take together.
    """

    def __init__(self, folder: str | Path | None = None, *, gigabytes: float = DEFAULT_GIGABYTES) -> None:
        super().__init__((cache_folder() if folder is None else Path(folder)) / "embeddings", gigabytes)

    def shelf(self, encoder: Encoder, tower: Tower, batch_size: int) -> "Shelf":
        """The embeddings of one model's tower."""
        return self.open(shelf_name(encoder, tower, batch_size), np.dtype(("<f4", (encoder.dimension,))))


def shelf_name(encoder: Encoder, tower: Tower, batch_size: int) -> str:
    """A hash over all that an embedding's bits depend on but its input."""
    device = encoder.device
    facts = {
        "format": FORMAT,
        "tower": tower.method,
        "inputs": tower.alike(encoder),
        "weights": encoder.weights_sha256,
        "model": encoder.config["model_cfg"],
        "precision": encoder.precision,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "batch": batch_size,
        "versions": [version(package) for package in PACKAGES],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    return f"{encoder.weights_sha256[:12]}-{tower.method.removeprefix('encode_')}-{digest[:32]}"


class Shelf:
    """Arrays by content key: embeddings of one model's tower. ``get`` and ``put`` may come from two threads.

    Args:
        cache: writes the segments.
        folder: where they lie; need not be there.
        value: type of an array, shape included.
    """

    def __init__(self, cache: Cache, folder: Path, value: np.dtype[Any]) -> None:
        self.cache, self.folder = cache, folder
        self.layout = np.dtype([("key", f"V{KEY_BYTES}"), ("vector", value)])
        self.paths: list[Path] = []
        self.segments: list[NDArray[np.void]] = []
        self.place: dict[bytes, tuple[int, int]] = {}
        self.used: set[int] = set()
        self.new: list[tuple[bytes, NDArray[Any]]] = []
        self.written = time.monotonic()
        with suppress(OSError):  # not ours to look into
            for path in sorted(folder.glob("*.npy")):
                self._open(path)

    def _open(self, path: Path) -> None:
        try:
            if sha256_file(path) != path.stem:
                raise ValueError("its content is not what was written")
            segment = np.load(path, mmap_mode="r", allow_pickle=False)
            if segment.dtype != self.layout:
                raise ValueError("it holds something else")
        except FileNotFoundError:  # another process made room
            return
        except (OSError, ValueError) as error:
            log.warning("Note: %s: dropped from the cache (%s)", path, error)
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return
        keys = segment["key"].tobytes()
        for row in range(len(segment)):
            self.place[keys[row * KEY_BYTES : (row + 1) * KEY_BYTES]] = (len(self.segments), row)
        self.paths.append(path)
        self.segments.append(segment)

    def get(self, key: bytes) -> NDArray[Any] | None:
        """The array, or None."""
        found = self.place.get(key)
        if found is None:
            return None
        number, row = found
        if number not in self.used:
            self.used.add(number)
            with suppress(OSError):  # gone by now, or not ours to touch
                os.utime(self.paths[number])
        vector: NDArray[Any] = self.segments[number]["vector"][row]
        return vector

    def put(self, keys: Sequence[bytes], vectors: NDArray[Any]) -> None:
        """Keeps new arrays, (n, ...)."""
        self.new += zip(keys, vectors, strict=True)
        full = len(self.new) >= SEGMENT_INPUTS or len(self.new) * self.layout.itemsize >= SEGMENT_BYTES
        if full or time.monotonic() - self.written > SEGMENT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what has been put since."""
        self.written = time.monotonic()
        if not self.new:
            return
        segment = np.empty(len(self.new), self.layout)
        segment["key"] = np.frombuffer(b"".join(key for key, _ in self.new), f"V{KEY_BYTES}")
        segment["vector"] = [vector for _, vector in self.new]
        self.new = []
        stream = io.BytesIO()
        np.save(stream, segment, allow_pickle=False)
        content = stream.getvalue()
        self.cache.write(self.folder / f"{hashlib.sha256(content).hexdigest()}.npy", content)

    def __enter__(self) -> "Shelf":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
