"""The sidecar of a report: one row an outcome of each headline number, in parquet.

It is read as a stranger's file: of any size, with any content.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from salmubench.atomic import replacing
from salmubench.dataset.schema import CaptionInfo
from salmubench.errors import UserError
from salmubench.evaluation.metric import MetricResult, title
from salmubench.evaluation.report import Report, outcomes_path

SCHEMA = pa.schema(
    [
        ("metric", pa.string()),
        ("file_name", pa.string()),
        ("identity_id", pa.string()),
        ("data_field", pa.string()),
        ("style", pa.string()),
        ("value", pa.float64()),
        ("rank", pa.int64()),
        ("best", pa.string()),
    ]
)
"""``metric`` is a number's title (``RetFail R@1``), ``identity_id`` "" for nobody; field and style are null where a row
has none, rank and best everywhere but in RetFail's rows."""
NEEDED = ("metric", "file_name", "identity_id", "value")
MOST_ROWS = 20_000_000
"""Far more than any evaluation has; a file that claims more is not read."""
SAME_MEAN = 1e-9
"""A report's value and the mean of its outcomes are the same sum; only another order of summing may part them."""


@dataclass(frozen=True)
class Outcomes:
    """The rows of one number, in the order of file names: arrays of shape (n,), "" where a row has no such text."""

    file_name: NDArray[np.object_]
    identity_id: NDArray[np.object_]
    data_field: NDArray[np.object_]
    style: NDArray[np.object_]
    value: NDArray[np.float64]


def write_outcomes(
    report: Path, results: Iterable[tuple[str, MetricResult]], captions: Mapping[str, CaptionInfo]
) -> None:
    """Writes the sidecar of ``report`` atomically.

    Args:
        report: where the report will stand.
        results: (metric key, result), in the order of tables.
        captions: file name -> field and style, where they are known.
    """
    tables = [_table(key, result, captions) for key, result in results]
    with replacing(outcomes_path(report)) as temporary:
        pq.write_table(pa.concat_tables([SCHEMA.empty_table(), *tables]), temporary, compression="zstd")


def _table(key: str, result: MetricResult, captions: Mapping[str, CaptionInfo]) -> pa.Table:
    rows = len(result.outcomes)
    nobody = [""] * rows
    names = nobody if result.file_name is None else result.file_name.tolist()
    known = [captions.get(name) for name in names]
    columns = {
        "file_name": names,
        "identity_id": nobody if result.identity_id is None else result.identity_id.tolist(),
        "data_field": [info and info.data_field for info in known],
        "style": [info and info.style for info in known],
    }
    tables = []
    for number, outcomes in result.numbers().items():
        own = {} if number else result.columns
        more = {name: own.get(name, pa.nulls(rows)) for name in ("rank", "best")}
        tables.append(
            pa.table({"metric": [title(key, number)] * rows, **columns, "value": outcomes, **more}, schema=SCHEMA)
        )
    return pa.concat_tables(tables)


def read_table(report: Path, *numbers: str) -> pa.Table | None:
    """The rows of a report's sidecar, of some numbers alone where they are named; None where there is no sidecar.

    Columns that a sidecar of an older version lacks are null.

    Raises:
        UserError: the file is no such sidecar, or is too large.
    """
    path = outcomes_path(report)
    if not path.is_file():
        return None
    try:
        with pq.ParquetFile(path) as file:
            rows, found = file.metadata.num_rows, file.schema_arrow.names
        if rows > MOST_ROWS:
            raise UserError(f"{path}: has {rows} rows, more than any evaluation; evaluate the checkpoint again")
        for name in NEEDED:
            if name not in found:
                raise UserError(f"{path}: lacks the column {name!r}; evaluate the checkpoint again")
        present = [field for field in SCHEMA if field.name in found]
        filters = [("metric", "in", list(numbers))] if numbers else None
        table = pq.read_table(path, columns=[field.name for field in present], filters=filters)
        table = table.cast(pa.schema(present))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a sidecar of per-row outcomes ({error}); evaluate the checkpoint again") from None
    for name in NEEDED:
        if table[name].null_count or (name == "value" and not pc.all(pc.is_finite(table[name])).as_py() and len(table)):
            raise UserError(f"{path}: the column {name!r} has empty or not finite cells; evaluate the checkpoint again")
    for place, field in enumerate(SCHEMA):
        if field.name not in found:
            table = table.add_column(place, field, pa.nulls(len(table), field.type))
    return table


def read_outcomes(report: Path, number: str) -> dict[str, list[Any]] | None:
    """One number's rows, a list a column; None where there is no sidecar or no such row.

    Raises:
        UserError: the sidecar cannot be read.
    """
    table = read_table(report, number)
    return None if table is None or len(table) == 0 else table.to_pydict()


def read_belonging(report: Report, path: Path) -> dict[str, Outcomes] | None:
    """Every number's outcomes by its title, in the order of file names; None where there is no sidecar.

    Args:
        report: the report.
        path: where it stands.

    Raises:
        UserError: the sidecar cannot be read, or is not that of this report: its rows or means are others.
    """
    table = read_table(path)
    if table is None:
        return None
    found = {
        name: _rows(table.filter(pc.equal(table["metric"], name))) for name in table["metric"].unique().to_pylist()
    }
    for key, entry in report.metrics.items():
        for number, value in entry.numbers().items():
            rows = found.get(title(key, number))
            if (
                rows is None
                or (entry.rows is not None and len(rows.value) != entry.rows)
                or not abs(rows.value.mean() - value) <= SAME_MEAN
            ):
                raise UserError(
                    f"{outcomes_path(path)}: its rows of {title(key, number)} do not give the report's value, so it "
                    "belongs to another report; evaluate the checkpoint again"
                )
    return found


def _rows(table: pa.Table) -> Outcomes:
    names = ("file_name", "identity_id", "data_field", "style")  # as objects: one long name must not widen all others
    texts = [pc.fill_null(table[name], "").to_numpy(zero_copy_only=False) for name in names]
    order = np.argsort(texts[0], kind="stable")
    return Outcomes(*(column[order] for column in (*texts, table["value"].to_numpy())))
