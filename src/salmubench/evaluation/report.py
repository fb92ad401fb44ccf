"""The report contract: ``report.json`` as a typed model, its JSON schema, and the sidecar of per-row outcomes."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError

from salmubench.atomic import read_json, write_json
from salmubench.errors import UserError
from salmubench.evaluation.metric import metrics as registry

FailureMode = Literal["ineffective", "catastrophic", "over-generalised"]
Label = Literal["forgets", "ineffective", "catastrophic", "over-generalised"]
MOST_BYTES = 64 << 20
"""The official evaluator's file lists 30,468 outcomes in less than 1 MB."""
ROUNDING = 1e-3
"""A cosine of float32 vectors may round to a little more than 1."""


def _ascending(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError("it ends below its beginning")
    return interval


Number = Annotated[float, Strict()]
"""Not a text or a truth value that could be read as one."""
Count = Annotated[int, Strict(), Field(ge=0)]
Interval = Annotated[tuple[Number, Number], AfterValidator(_ascending)]


class Group(BaseModel):
    """A metric's value over the rows of one field or caption style."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    rows: Count
    value: Number
    interval: Interval | None = None


class MetricEntry(BaseModel):
    """One metric in a report. ``value`` is null where the metric was skipped, and ``reason`` says why.

    Further headline numbers of a metric (RetFail's ``R@1``) stand beside ``value`` under their own name, their
    intervals in ``intervals``. ``options`` names what was set to other than the default of the metric's definition.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, Number] = Field(init=False)

    value: Number | None
    interval: Interval | None = None
    version: Annotated[int, Strict()] = 1
    target: Literal["clean", "compromised"]
    rows: Count | None = None
    reason: str | None = None
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    intervals: dict[str, Interval | None] = Field(default_factory=dict)
    by_field: dict[str, Group] = Field(default_factory=dict)
    by_style: dict[str, Group] = Field(default_factory=dict)

    def numbers(self) -> dict[str, float]:
        """Every headline number: the value under ``""``, then the others by name; none where it was skipped."""
        return {} if self.value is None else {"": self.value, **(self.model_extra or {})}

    def interval_of(self, number: str) -> tuple[float, float] | None:
        """The interval of one of ``numbers``."""
        return self.intervals.get(number) if number else self.interval


class Verdict(BaseModel):
    """What a method did, judged between the Clean and the Compromised bound (rule: ``evaluation/verdict.py``)."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    label: Label
    failure_modes: list[FailureMode]
    leakage_reduction: Number
    inter_identity_kept: Number
    intra_identity_kept: Number
    general_knowledge_kept: Number | None
    words: str


class Provenance(BaseModel):
    """Where a report's numbers come from. ``run`` holds what differs between two identical runs: times and memory."""

    model_config = ConfigDict(extra="allow", frozen=True)

    weights_sha256: str
    architecture: str
    data: str
    data_revision: str
    general_knowledge: str | None = None
    association_split: str | None
    sets: dict[str, Count]
    limit: int | None = Field(None, ge=1)
    skipped_pictures: list[str] = Field(default_factory=list)
    precision: str
    device: str
    seed: int
    versions: dict[str, str]
    unlearning: dict[str, Any] | None = None
    touched_holdout: bool | None = None
    run: dict[str, Any] = Field(default_factory=dict)


class Report(BaseModel):
    """One checkpoint's ten metrics on one data set."""

    model_config = ConfigDict(populate_by_name=True, frozen=True)

    schema_: Literal[1] = Field(1, alias="schema")
    name: str
    metrics: dict[str, MetricEntry]
    verdict: Verdict | None = None
    provenance: Provenance

    def comparable(self) -> dict[str, Any]:
        """The report as JSON without what may differ between two identical runs (times, dates, memory, paths)."""
        content = self.model_dump(mode="json", by_alias=True)
        content["provenance"].pop("run")
        return content


def outcomes_path(report: Path) -> Path:
    """The sidecar of ``x.json``: ``x.outcomes.parquet``, one row an outcome (see ``evaluation/outcomes.py``)."""
    return report.with_suffix(".outcomes.parquet")


def write_report(report: Report, path: Path) -> None:
    """Writes ``report.json`` atomically. Write the sidecar first: a report that is there is complete."""
    write_json(path, report.model_dump(mode="json", by_alias=True))


def read_report(path: Path) -> Report:
    """Reads and checks a report.

    Raises:
        UserError: the file is missing, too large, is no JSON or breaks the schema; the message names the first
            offending member.
    """
    return parse_report(read_result(path), path)


def read_result(path: Path) -> Any:
    """The JSON of a report, ours or the official evaluator's.

    Raises:
        UserError: the file is missing, is no JSON or far larger than any report.
    """
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path}: larger than any report ({path.stat().st_size >> 20} MB); give a report's file")
    return read_json(path)


def parse_report(content: Any, path: Path) -> Report:
    """A report from its decoded JSON.

    Raises:
        UserError: it breaks the schema, or a number is outside its metric's range; the message names ``path`` and the
            first offending member.
    """
    if is_official(content):
        raise UserError(f"{path}: the official evaluator's file; give a report, which `salmubench evaluate` writes")
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no JSON object, as a report is one; give a file of `salmubench evaluate`")
    if "probes" in content:
        raise UserError(f"{path}: what `salmubench attack` wrote; give a report, which `salmubench evaluate` writes")
    try:
        report = Report.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where, problem = ".".join(map(str, first["loc"])), first["msg"]
        if first["type"] == "missing":
            problem = "it is missing"
        raise UserError(
            f"{path}: not a SALMUBench report ({where}: {problem}); evaluate the checkpoint again"
        ) from None
    for key, entry in report.metrics.items():
        if (odd := impossible(key, entry)) is not None:
            raise UserError(f"{path}: not a SALMUBench report (metrics.{key}: {odd}); evaluate the checkpoint again")
    return report


def is_official(content: Any) -> bool:
    """Whether decoded JSON looks like the official evaluator's."""
    return isinstance(content, dict) and all(isinstance(content.get(name), dict) for name in ("efficacy", "utility"))


def impossible(key: str, entry: MetricEntry) -> str | None:
    """The first number of an entry that is outside its metric's range, in words; None where all can be.

    A metric that this version does not know is not judged.
    """
    if key not in registry:
        return None
    low, high = registry[key].spec.limits
    bounds = [end for name in entry.numbers() for end in entry.interval_of(name) or ()]
    groups = [*entry.by_field.values(), *entry.by_style.values()]
    parts = [number for group in groups for number in (group.value, *(group.interval or ()))]
    for number in (*entry.numbers().values(), *bounds, *parts):
        if not low - ROUNDING <= number <= high + ROUNDING:
            return f"{number:g} is outside its range, {low:g} to {high:g}"
    return None


def report_schema() -> dict[str, Any]:
    """The published JSON schema of ``report.json``."""
    return Report.model_json_schema(by_alias=True)
