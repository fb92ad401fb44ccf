"""Writes the splits of the official layout: parquet files of so many rows, each whole or not there."""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from salmubench.atomic import replacing
from salmubench.dataset.schema import Row

ROWS_PER_FILE = 2000
"""Rows of one file, 100 MB at 512 px: what a build that is killed draws again at most."""
ROWS_PER_GROUP = 100
"""Rows of one parquet row group: what ``PictureStore.stream`` holds in memory (100 pictures of 512 px are 5 MB)."""

_FEATURES = (
    '{"info": {"features": {"image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"}, '
    '"identity_id": {"dtype": "string", "_type": "Value"}, "file_name": {"dtype": "string", "_type": "Value"}}}}'
)
SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("text", pa.string()),
        ("identity_id", pa.string()),
        ("file_name", pa.string()),
    ],
    metadata={"huggingface": _FEATURES},
)


def parts(count: int, size: int) -> list[range]:
    """Cuts ``count`` things into runs of ``size``, the last one shorter; one empty run if there are none."""
    return [range(first, min(first + size, count)) for first in range(0, max(count, 1), size)]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Writes one file, a row group at a time: pictures as they are (they are compressed already), all else zstd."""
    columns = ("image.bytes", "image.path", "text", "identity_id", "file_name")
    compression = {column: "NONE" if column == "image.bytes" else "ZSTD" for column in columns}
    remaining = iter(rows)
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(
            temporary,
            SCHEMA,
            compression=compression,
            use_dictionary=["identity_id"],
            write_statistics=["identity_id", "file_name"],
        ) as writer,
    ):
        group, first = list(islice(remaining, ROWS_PER_GROUP)), True
        while group or first:
            content = {
                "image": [{"bytes": row.image, "path": row.file_name} for row in group],
                "text": [row.text for row in group],
                "identity_id": [row.identity_id for row in group],
                "file_name": [row.file_name for row in group],
            }
            writer.write_table(pa.table(content, schema=SCHEMA))
            group, first = list(islice(remaining, ROWS_PER_GROUP)), False


def resume_split(
    folder: Path, split: str, count: int, rows: Callable[[range], Iterable[Row]], *, rows_per_file: int | None = None
) -> list[Path]:
    """Writes those of ``folder/data/<split>-00000-of-0000N.parquet`` that are not there yet.

    The files carry the Hugging Face feature metadata, so that ``datasets.load_dataset`` decodes the pictures; their
    bytes depend on the rows alone.

    Args:
        folder: the evaluation or training folder.
        split: its name.
        count: rows of the split.
        rows: gives the rows of a run; called for the files that are missing.
        rows_per_file: how the rows are cut into files; ``ROWS_PER_FILE`` by default.

    Returns:
        The files, in order; one without rows if there are none.
    """
    runs = parts(count, rows_per_file or ROWS_PER_FILE)
    paths = [folder / "data" / f"{split}-{place:05d}-of-{len(runs):05d}.parquet" for place in range(len(runs))]
    for path, run in zip(paths, runs, strict=True):
        if not path.is_file():
            write_rows(path, rows(run))
    return paths


def write_split(folder: Path, split: str, rows: Iterable[Row], *, rows_per_file: int | None = None) -> list[Path]:
    """Writes a split anew, as ``resume_split`` does, in place of the files that it has."""
    content = list(rows)
    for stale in (folder / "data").glob(f"{split}-*.parquet"):
        stale.unlink()
    return resume_split(
        folder, split, len(content), lambda run: content[run.start : run.stop], rows_per_file=rows_per_file
    )
