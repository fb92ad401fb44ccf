"""Per-row outcomes: the sidecar parquet beside a report."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from salmubench.errors import UserError
from salmubench.evaluation.report import outcomes_path

COLUMNS = ("file_name", "identity_id", "value", "rank", "best")


def read_outcomes(report: Path, metric: str) -> dict[str, list[Any]] | None:
    """One metric's rows from a report's sidecar, a list a column; None where there is no sidecar or no such row.

    Raises:
        UserError: the sidecar cannot be read.
    """
    path = outcomes_path(report)
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path, columns=["metric", *COLUMNS], filters=[("metric", "==", metric)])
        rows: dict[str, list[Any]] = table.select(COLUMNS).to_pydict()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"{path}: not a sidecar of per-row outcomes ({error}); evaluate the checkpoint again") from None
    return rows if rows["value"] else None
