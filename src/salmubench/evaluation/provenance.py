"""Where a report's numbers come from: weights, data, software, and what the checkpoint's training looked at."""

import hashlib
import json
import platform
import resource
import shlex
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from salmubench.atomic import read_json
from salmubench.dataset.schema import HOLDOUT_SPLITS
from salmubench.dataset.store import Benchmark, GeneralKnowledge
from salmubench.encoders.checkpoint import FOLDER_PREFIX, RECORD_FILE
from salmubench.encoders.encoder import Encoder
from salmubench.errors import UserError
from salmubench.evaluation.report import Provenance

PACKAGES = ("salmubench", "torch", "torchvision", "open_clip_torch", "numpy", "scikit-learn", "pillow")


def provenance(
    encoder: Encoder,
    checkpoint: str | Path,
    data: str | Path,
    whole: Benchmark,
    measured: Benchmark,
    *,
    limit: int | None,
    seed: int,
    skipped: list[str],
) -> Provenance:
    """All that is known before the measuring; ``run`` holds what the unlearning cost, if anything.

    Args:
        encoder: the loaded checkpoint.
        checkpoint: as the user named it.
        data: as the user named it; the report keeps a folder's name, not its path.
        whole: the benchmark.
        measured: the part of it that ``limit`` leaves.
        limit: rows kept of each set, if any.
        seed: of the sample and the intervals.
        skipped: pictures that were left out because they are broken.
    """
    record, consumed = _unlearning(checkpoint, encoder.weights_sha256)
    holdouts = {name for split in HOLDOUT_SPLITS for name in whole.sets[split].file_name}
    sets = {name: len(pairs) for name, pairs in sorted(measured.sets.items())}
    if measured.general_knowledge is not None:
        sets["general_knowledge"] = len(measured.general_knowledge.label)
    gpu = f" ({torch.cuda.get_device_name(encoder.device)})" if encoder.device.type == "cuda" else ""
    return Provenance(
        weights_sha256=encoder.weights_sha256,
        architecture=encoder.architecture,
        data=str(data) if "://" in str(data) else Path(data).resolve().name,
        data_revision=whole.revision,
        general_knowledge=None if whole.general_knowledge is None else _fingerprint(whole.general_knowledge),
        association_split=whole.association_split,
        sets=sets,
        precision=encoder.precision,
        device=f"{encoder.device.type}{gpu}",
        seed=seed,
        versions=_versions(),
        unlearning=None if record is None else {key: value for key, value in record.items() if key != "run"},
        touched_holdout=None if consumed is None else not holdouts.isdisjoint(consumed),
        limit=limit,
        skipped_pictures=skipped,
        run={} if record is None else _cost(record),
    )


def _cost(record: dict[str, Any]) -> dict[str, Any]:
    """Seconds, pairs a second, data wait and peak memory of an unlearning run; not its paths."""
    run = record.get("run")
    cost = {key: value for key, value in run.items() if isinstance(value, int | float)} if isinstance(run, dict) else {}
    return {"unlearning": cost} if cost else {}


def _fingerprint(knowledge: GeneralKnowledge) -> str:
    """A hash of what GenKnow asks: classes, templates and the labels in their order."""
    asked = [knowledge.class_names, knowledge.templates, knowledge.label.tolist()]
    return f"sha256:{hashlib.sha256(json.dumps(asked).encode()).hexdigest()}"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
    return found | {"torch": torch.__version__}  # says which CUDA it was built for


def _unlearning(checkpoint: str | Path, weights_sha256: str) -> tuple[dict[str, Any] | None, set[str] | None]:
    """The record of the unlearning run that made a checkpoint, and the file names that the run consumed.

    A record beside the weights that speaks of other weights is none of theirs.
    """
    path = Path(str(checkpoint).removeprefix(FOLDER_PREFIX))
    folder = path if path.is_dir() else path.parent
    if not (folder / RECORD_FILE).is_file():
        return None, None
    record = read_json(folder / RECORD_FILE)
    if not isinstance(record, dict):
        raise UserError(f"{folder / RECORD_FILE}: not the record of an unlearning run; remove it or run again")
    if record.get("weights_sha256") != weights_sha256:
        return None, None
    rows = folder / str(record.get("rows_file", ""))
    if not rows.is_file():
        return record, None
    try:
        return record, set(pq.read_table(rows, columns=["file_name"]).column("file_name").to_pylist())
    except (OSError, ValueError) as error:
        raise UserError(f"{rows}: not a table of consumed rows ({error}); run the unlearning again") from error


def run_facts(started: float) -> dict[str, Any]:
    """What differs between two identical runs. ``started`` is from ``time.perf_counter()``."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    facts: dict[str, Any] = {
        "seconds": round(time.perf_counter() - started, 3),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        facts["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated()
    return facts
