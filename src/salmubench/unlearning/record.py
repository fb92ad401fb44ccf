"""What a run leaves behind: its settings, its record (written last) and the rows that it saw."""

import platform
import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from salmubench.atomic import read_json, replacing, sha256_file, write_json
from salmubench.encoders.checkpoint import RECORD_FILE, WEIGHTS_FILE
from salmubench.errors import UserError

ROWS_FILE = "rows.parquet"
LIBRARIES = ("salmubench", "torch", "open_clip_torch", "accelerate", "numpy", "pillow")


@dataclass(frozen=True)
class Settings:
    """All that determines a run's weights on a given machine. Two runs with equal settings are the same run.

    ``method_sha256`` is that of the method's file: an edited method is another one.
    """

    method: str
    method_sha256: str
    options: Mapping[str, Any]
    scope: str
    budget: float
    learning_rate: float
    batch_size: int
    warmup_share: float
    weight_decay: float
    seed: int
    precision: str
    chunks: int
    processes: int
    compiled: bool
    model_sha256: str
    data_sha256: str

    def require_same(self, found: Mapping[str, Any], out: Path) -> None:
        """Checks that what lies in ``out`` was begun with these settings.

        Raises:
            UserError: it was not; the message names the first setting that differs.
        """
        for key, value in asdict(self).items():
            if found.get(key) != value:
                raise UserError(
                    f"{out}: holds a run with {key} {found.get(key)!r}, not {value!r}; give another --out or remove it"
                )


def is_finished(out: Path, settings: Settings) -> bool:
    """Whether ``out`` holds this very run, complete and unchanged.

    Raises:
        UserError: it holds a finished run with other settings.
    """
    if not (out / RECORD_FILE).exists():
        return False
    record = read_json(out / RECORD_FILE)
    if not isinstance(record, dict):
        raise UserError(f"{out / RECORD_FILE}: not the record of an unlearning run; remove it or run again")
    settings.require_same(record, out)
    weights = out / WEIGHTS_FILE
    return weights.exists() and sha256_file(weights) == record.get("weights_sha256")


def write_rows(out: Path, seen: Mapping[str, tuple[tuple[str, ...], NDArray[Any]]]) -> None:
    """Writes rows.parquet: file_name, set and count (how often the run saw the row) of every row consumed.

    Args:
        seen: set name -> (file names, counts).
    """
    names = [name for files, _ in seen.values() for name in files]
    sets = [key for key, (files, _) in seen.items() for _ in files]
    counts = [int(count) for _, values in seen.values() for count in values]
    table = pa.table({"file_name": names, "set": sets, "count": pa.array(counts, pa.int64())})
    with replacing(out / ROWS_FILE) as temporary:
        pq.write_table(table, temporary)


def write_record(out: Path, settings: Settings, facts: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Writes record.json; what differs between two identical runs (times, paths, memory) stands under ``run``."""
    versions = {library: version(library) for library in LIBRARIES}
    record = {"schema": 1, **asdict(settings), **facts, "weights_sha256": sha256_file(out / WEIGHTS_FILE)}
    record |= {"rows_file": ROWS_FILE, "versions": {"python": platform.python_version(), **versions}, "run": dict(run)}
    write_json(out / RECORD_FILE, record)


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of the process, or of the GPU where the model lies on one, in MB (10^6 bytes)."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)
