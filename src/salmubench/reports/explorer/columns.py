"""Which models stand side by side: the budgets of one method share a column and are stepped through."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from salmubench.atomic import read_json
from salmubench.encoders.checkpoint import FOLDER_PREFIX, RECORD_FILE
from salmubench.encoders.encoder import Encoder
from salmubench.reports.redact import plain

SETTINGS = ("method", "method_sha256", "options", "scope", "learning_rate", "batch_size", "warmup_share",
            "weight_decay", "seed", "precision", "model_sha256", "data_sha256")  # fmt: skip
"""What a record says of a run beside its budget: runs that agree in these are budgets of one method."""
ROLES = {
    "clean": "never saw these facts",
    "compromised": "was trained on all of them",
}
"""What a benchmark's bounds are, by the names that its other verbs know them by."""


@dataclass(frozen=True)
class Step:
    """One model of a column: its number among all models, and its budget where it has one."""

    model: int
    label: str = ""


@dataclass
class Column:
    """What one column of the page shows; ``steps`` in order of their budget."""

    title: str
    about: str
    role: str
    steps: list[Step] = field(default_factory=list)


def _record(checkpoint: str) -> Mapping[str, Any] | None:
    """The record beside an unlearned checkpoint, or None."""
    path = Path(checkpoint.removeprefix(FOLDER_PREFIX)) / RECORD_FILE
    record = read_json(path) if path.is_file() else None
    if not isinstance(record, dict) or not isinstance(record.get("method"), str):
        return None
    return record if isinstance(record.get("budget"), int | float) else None


def columns(checkpoints: Sequence[str], encoders: Sequence[Encoder]) -> list[dict[str, Any]]:
    """The page's columns, in the order in which the models were named.

    Runs that differ in nothing but their budget share one; it begins with the model that they started from, as budget
    0, where that one is among ``encoders``.

    Raises:
        UserError: a record beside a checkpoint cannot be read.
    """
    records = [_record(checkpoint) for checkpoint in checkpoints]
    runs: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        key = repr([record.get(name) for name in SETTINGS]) if record else f"model {number}"
        runs.setdefault(key, []).append(number)
    made = []
    for numbers in runs.values():
        record, encoder = records[numbers[0]], encoders[numbers[0]]
        if record is None:
            name = plain(encoder.name, 60)
            role = name.lower() if name.lower() in ROLES else ""
            made.append(Column(name.capitalize() if role else name, ROLES.get(role, ""), role, [Step(numbers[0])]))
        else:
            made.append(_method(record, [(float(records[n]["budget"]), n) for n in numbers], encoders))  # type: ignore[index]
    titles = [column.title for column in made]
    for column in made:
        if titles.count(column.title) > 1:
            column.title = f"{column.title} ({plain(checkpoints[column.steps[-1].model], 80)})"
    return [asdict(column) for column in made]


def _method(record: Mapping[str, Any], runs: list[tuple[float, int]], encoders: Sequence[Encoder]) -> Column:
    name = plain(record["method"], 60)
    if len(runs) == 1:
        return Column(f"{name} {runs[0][0]:g}×", "unlearned", "", [Step(runs[0][1])])
    steps = [Step(number, f"{budget:g}×") for budget, number in sorted(runs)]
    start = [n for n, encoder in enumerate(encoders) if encoder.weights_sha256 == record.get("model_sha256")]
    return Column(name, "unlearned, budget by budget", "", [Step(number, "0×") for number in start[:1]] + steps)
