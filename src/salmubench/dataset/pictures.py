"""Encoded pictures by one running number, wherever they lie: parquet rows, files named by a parquet row, tar members.

Nothing is held in memory but the row group or the tar member in hand, and no file stays open, so that a store is
cheap to build and safe to hand to threads, forked or spawned workers.
"""

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from salmubench.dataset.hub import POINTER, refuse_pointer
from salmubench.errors import UserError

PICTURE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")


class PictureSource(Protocol):
    """The pictures of one file, numbered from 0."""

    def __len__(self) -> int: ...

    def stream(self, rows: NDArray[np.int64]) -> Iterator[bytes]:
        """The encoded pictures of ``rows``, shape (n,), ascending."""
        ...

    def describe(self, row: int) -> str:
        """File and row, for a message to the user."""
        ...


def open_parquet(path: Path) -> Any:
    """Opens a parquet file's footer; its data are read later.

    Raises:
        UserError: the file is missing, cut short or no parquet.
    """
    refuse_pointer(path)
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(f"{path}", "not a whole parquet file", error) from error


def read_columns(path: Path, columns: list[str]) -> Any:
    """A table of some of a parquet file's columns.

    Raises:
        UserError: the file or its data are damaged.
    """
    try:
        return open_parquet(path).read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(f"{path}", "its rows cannot be read", error) from error


def _damaged(where: str, what: str, error: BaseException) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
    return UserError(f"{where}: {what} ({reason}); build or download it again")


class ParquetPictures:
    """The ``image`` column of one parquet file: struct{bytes, path}, bytes, or a path.

    Args:
        path: the parquet file.
        root: the folder that picture paths are relative to, where they are not to the parquet file's own.

    Raises:
        UserError: the file is damaged, or the column holds something else.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self.root = root
        opened = open_parquet(path)
        metadata, kind = opened.metadata, opened.schema_arrow.field("image").type
        if not _may_hold_pictures(kind):
            raise UserError(
                f"{path}: the column 'image' holds {kind}, not pictures; make it bytes or a struct with bytes"
            )
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = np.cumsum([0, *sizes], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def stream(self, rows: NDArray[np.int64]) -> Iterator[bytes]:
        """One row group at a time: memory is bounded by the largest of them."""
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        for group in np.unique(groups):
            column = self._column(int(group))
            for row in rows[groups == group]:
                yield self._picture(column[int(row - self._starts[group])].as_py(), int(row))

    def _column(self, group: int) -> Any:
        try:
            return open_parquet(self.path).read_row_group(group, columns=["image"], use_threads=False).column("image")
        except (pa.ArrowException, OSError) as error:
            rows = f"{self.path}, rows {self._starts[group]} to {self._starts[group + 1] - 1}"
            raise _damaged(rows, "cannot be read", error) from error

    def _picture(self, value: dict[str, Any] | bytes | str | None, row: int) -> bytes:
        encoded = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(encoded, bytes):
            return encoded
        path = value.get("path") if isinstance(value, dict) else value
        if not isinstance(path, str):
            raise UserError(f"{self.path}, row {row}: there is no picture; mend or drop the row")
        for folder in (self.root, self.path.parent):
            try:
                return (folder / path).read_bytes()
            except (OSError, ValueError):  # a zero byte in a path is a ValueError
                continue
        raise UserError(
            f"{self.path}, row {row}: its picture {path} is not in {self.root}; put it there or mend the path"
        )

    def describe(self, row: int) -> str:
        """``data/forget-00000-of-00001.parquet, row 12``; rows count from 0."""
        inside = self.path.is_relative_to(self.root)
        return f"{self.path.relative_to(self.root) if inside else self.path}, row {row}"


def _may_hold_pictures(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name in ("bytes", "path") for field in kind)
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_null)
    return is_text(plain) or any(test(plain) for test in binary)


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is one of the three that hold text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


@dataclass(frozen=True)
class Span:
    """Where a tar member's bytes lie."""

    offset: int
    size: int


@dataclass(frozen=True)
class TarSample:
    """The members of a webdataset tar that share a key: the file name up to the first dot."""

    key: str
    members: dict[str, Span]

    def picture_extension(self) -> str | None:
        """The extension of the sample's picture, or None where it has none."""
        return next((extension for extension in PICTURE_EXTENSIONS if extension in self.members), None)


def index_tar(path: Path) -> list[TarSample]:
    """The samples of a webdataset tar, in order; reads headers only.

    Raises:
        UserError: the file is missing, cut short or no tar.
    """
    samples: list[TarSample] = []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if not samples or samples[-1].key != key:
                    samples.append(TarSample(key, {}))
                samples[-1].members[extension.lower()] = Span(member.offset_data, member.size)
            end = archive.offset
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _damaged(f"{path}", "not a whole tar", error) from error
    # tarfile takes a cut header for the end of the archive; a whole one ends in a block of zeros.
    if next(read_spans(path, [Span(end, tarfile.BLOCKSIZE)])) != bytes(tarfile.BLOCKSIZE):
        raise UserError(f"{path}: the tar is cut short; build or download it again")
    return samples


def read_spans(path: Path, spans: Sequence[Span]) -> Iterator[bytes]:
    """The bytes at ``spans`` of one file, in the order given."""
    with path.open("rb") as stream:
        for span in spans:
            stream.seek(span.offset)
            yield stream.read(span.size)


@dataclass(frozen=True)
class TarPictures:
    """The pictures of one webdataset tar."""

    path: Path
    keys: tuple[str, ...]
    spans: tuple[Span, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.spans)

    def stream(self, rows: NDArray[np.int64]) -> Iterator[bytes]:
        """One member at a time, front to back."""
        return read_spans(self.path, [self.spans[row] for row in rows])

    def describe(self, row: int) -> str:
        """``general_knowledge/test/0.tar, sample s0000012``."""
        return f"{'/'.join(self.path.parts[-3:])}, sample {self.keys[row]}"


class PictureStore:
    """Encoded pictures by one running number: the sources' pictures one after another."""

    def __init__(self, sources: Sequence[PictureSource] = ()) -> None:
        self.sources = tuple(sources)
        self._starts = np.cumsum([0, *map(len, self.sources)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def stream(self, index: NDArray[np.int64]) -> Iterator[bytes]:
        """The encoded pictures at ``index``, shape (n,), ascending and distinct; memory does not grow with n.

        Raises:
            UserError: a file is damaged or lacks a picture; the message names file and row.
        """
        if np.any(np.diff(index) <= 0):
            raise ValueError("picture numbers must be ascending and distinct")
        if len(index) and not 0 <= index[0] <= index[-1] < len(self):
            raise IndexError(f"picture numbers run from 0 to {len(self) - 1}")
        cuts = np.searchsorted(index, self._starts)
        for source, start, first, last in zip(self.sources, self._starts, cuts, cuts[1:], strict=False):
            if first < last:
                yield from source.stream(index[first:last] - start)

    def read(self, index: int) -> bytes:
        """One encoded picture."""
        return next(self.stream(np.array([index], dtype=np.int64)))

    def describe(self, index: int) -> str:
        """File and row of a picture, for a message to the user; rows count from 0."""
        source = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self.sources[source].describe(int(index - self._starts[source]))


def decode_picture(content: bytes, where: str) -> Image.Image:
    """Decodes a picture of any mode to RGB, turned upright as its EXIF data say.

    Raises:
        UserError: it does not decode; the message begins with ``where``.
    """
    if content.startswith(POINTER):
        raise UserError(f"{where}: a git-lfs pointer, not the picture itself; run `git lfs pull` in its folder")
    try:
        picture = Image.open(io.BytesIO(content))
        ImageOps.exif_transpose(picture, in_place=True)  # else it copies every picture
        return picture.convert("RGB")
    except UnidentifiedImageError as error:
        raise UserError(f"{where}: not a picture of a known format; replace it or drop the row") from error
    except Exception as error:  # whatever a decoder makes of broken bytes: OSError, SyntaxError, struct.error, ...
        raise UserError(f"{where}: the picture does not decode ({error}); replace it or drop the row") from error
