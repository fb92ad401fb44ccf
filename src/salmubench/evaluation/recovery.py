"""What a recovery attack found: ``attack.json`` as a typed model, and how its numbers come from per-row outcomes.

It stands beside a report's ten metrics and never enters them. Every number may have its 95 % interval (people are
resampled), what a model that knows nothing would reach (``chance``), what Clean gives under the same attack
(``control``) and the recovered share (``recovered``), all by the number's name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from salmubench.atomic import write_json
from salmubench.errors import UserError
from salmubench.evaluation.bootstrap import percentiles, resampled_means
from salmubench.evaluation.metric import Floats
from salmubench.evaluation.report import Provenance, read_result
from salmubench.seeds import generator

Interval = tuple[float, float]
Source = Literal["forget", "holdout_identity"]


class Scores(BaseModel):
    """What stands beside the numbers of one attack on one group of rows, each by the number's name.

    Attributes:
        rows: pictures attacked.
        intervals: 95 %, people resampled.
        chance: what a model that knows nothing would reach.
        control: Clean's number under the same attack.
        recovered: (number - control) / (Compromised's number - control), the last two of the untouched models; left
            out where Compromised does not leak measurably more than Clean.
        recovered_intervals: 95 %, all four numbers resampled together.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    rows: int
    intervals: dict[str, Interval] = Field(default_factory=dict)
    chance: dict[str, float] = Field(default_factory=dict)
    control: dict[str, float] = Field(default_factory=dict)
    recovered: dict[str, float] = Field(default_factory=dict)
    recovered_intervals: dict[str, Interval] = Field(default_factory=dict)

    def numbers(self) -> dict[str, float]:
        """The numbers themselves; one that has no row is left out."""
        beside = set(Scores.model_fields) | {"steps", "candidates"}
        return {name: value for name, value in self if name not in beside and value is not None}


class Point(Scores):
    """Leakage after some steps of relearning: RetFail's MRR and AssocStr over the rows of the group."""

    steps: int
    mrr: float
    assocstr: float


class Paraphrase(Scores):
    """One wording of the facts: rank of the truth among rivals, its cosine, its lead over both kinds of rivals."""

    mrr: float | None
    cosine: float
    gap_other: float | None
    gap_invented: float | None


class Extraction(Scores):
    """A field's true value among all candidates, given the picture alone."""

    candidates: int | None
    top1: float
    top5: float
    mrr: float


class Membership(Scores):
    """Trained pairs told from untrained ones by one score."""

    auc: float
    tpr_at_1pct: float


class Relearning(BaseModel):
    """How fast leakage comes back while a few pairs are taught.

    Attributes:
        source: the set that the taught pairs are of.
        taught: their file names.
        learning_rate: AdamW's.
        batch_size: pairs a step.
        curve: over the forget rows of people of whom nothing was taught.
        same_people: over the other forget rows of the people taught; empty where these are not in forget.
    """

    model_config = ConfigDict(frozen=True)

    source: Source
    taught: list[str]
    learning_rate: float
    batch_size: int
    curve: list[Point]
    same_people: list[Point] = Field(default_factory=list)


class Probes(BaseModel):
    """All attacks; one that was not asked for is null or empty."""

    model_config = ConfigDict(frozen=True)

    relearning: Relearning | None = None
    relearning_holdout: Relearning | None = None
    paraphrase: dict[str, Paraphrase] = Field(default_factory=dict)
    extraction: dict[str, Extraction] = Field(default_factory=dict)
    membership: dict[str, Membership] = Field(default_factory=dict)


class Bound(BaseModel):
    """A model that the attacked one is compared with."""

    model_config = ConfigDict(frozen=True)

    name: str
    weights_sha256: str


class AttackReport(BaseModel):
    """What the attacks found on one checkpoint."""

    model_config = ConfigDict(populate_by_name=True, frozen=True)

    schema_: Literal[1] = Field(1, alias="schema")
    name: str
    control: Bound | None = None
    compromised: Bound | None = None
    probes: Probes
    provenance: Provenance

    def comparable(self) -> dict[str, Any]:
        """The report as JSON without what may differ between two identical runs."""
        content = self.model_dump(mode="json", by_alias=True)
        content["provenance"].pop("run")
        return content


class Finding(Protocol):
    """An attack's outcome on one group of rows, from which numbers and their resampled draws come."""

    @property
    def rows(self) -> int: ...

    @property
    def chance(self) -> Mapping[str, float]: ...

    def numbers(self) -> dict[str, float]:
        """The numbers by name, in one order always; NaN where no row has any."""
        ...

    def draws(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """The numbers of 1,000 resamplings, (1,000, k), in the order of ``numbers``."""
        ...


@dataclass(frozen=True)
class Means:
    """Numbers that are means over rows.

    Attributes:
        outcomes: by number, one a row, (n,); NaN where a row has none.
        identity_id: each row's person, (n,).
        chance: by number.
        facts: what else the entry says.
    """

    outcomes: Mapping[str, Floats]
    identity_id: NDArray[np.str_]
    chance: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return len(self.identity_id)

    def numbers(self) -> dict[str, float]:
        """See ``Finding``."""
        known = {name: column[~np.isnan(column)] for name, column in self.outcomes.items()}
        return {name: float(column.mean()) if len(column) else float("nan") for name, column in known.items()}

    def draws(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """See ``Finding``."""
        columns: NDArray[np.float64] = np.column_stack(list(self.outcomes.values()))
        return resampled_means(columns, self.identity_id, rng)


S = TypeVar("S", bound=Scores)


def scores(
    kind: type[S],
    found: Finding,
    *,
    control: Finding | None = None,
    gap: tuple[Finding, Finding] | None = None,
    seed: int,
    **facts: Any,
) -> S:
    """An entry of the report.

    Args:
        kind: its type.
        found: the attacked model's outcome.
        control: Clean's under the same attack, on the same rows.
        gap: Clean's and Compromised's before anything was taught, on the same rows.
        seed: of the resampling. All findings see the same draws of people.
        facts: what else the entry says.
    """

    def drawn(finding: Finding) -> NDArray[np.float64]:
        return finding.draws(generator(seed, "attack", "intervals"))

    values, draws = found.numbers(), drawn(found)
    entry: dict[str, Any] = {
        "rows": found.rows,
        **facts,
        **{name: _finite(value) for name, value in values.items()},
        "intervals": _intervals(values, draws),
        "chance": dict(found.chance),
    }
    if control is not None:
        base = control.numbers()
        entry["control"] = {name: value for name, value in base.items() if not np.isnan(value)}
        if gap is not None:
            clean, compromised = (finding.numbers() for finding in gap)
            width = drawn(gap[1]) - drawn(gap[0])
            leaks = {name for name, bounds in _intervals(values, width).items() if bounds[0] > 0}
            with np.errstate(invalid="ignore", divide="ignore"):
                share = (draws - drawn(control)) / width
            entry["recovered"] = {
                name: (values[name] - base[name]) / (compromised[name] - clean[name])
                for name in values
                if name in leaks and not np.isnan(values[name])
            }
            entry["recovered_intervals"] = {
                name: bounds for name, bounds in _intervals(values, share).items() if name in entry["recovered"]
            }
    return kind.model_validate(entry)


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else value


def _intervals(names: Mapping[str, float], draws: NDArray[np.float64]) -> dict[str, Interval]:
    found = {name: percentiles(column[np.isfinite(column)]) for name, column in zip(names, draws.T, strict=True)}
    return {name: bounds for name, bounds in found.items() if bounds is not None}


def write_attack(report: AttackReport, path: Path) -> None:
    """Writes ``attack.json`` atomically."""
    write_json(path, report.model_dump(mode="json", by_alias=True))


def read_attack(path: Path) -> AttackReport:
    """Reads and checks what ``salmubench attack`` wrote.

    Raises:
        UserError: the file is missing, is no JSON or breaks the schema; the message names the first offending member.
    """
    try:
        return AttackReport.model_validate(read_result(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the top level"
        raise UserError(f"{path}: not an attack's report ({where}: {first['msg']}); run the attack again") from None


def attack_schema() -> dict[str, Any]:
    """The published JSON schema of ``attack.json``."""
    return AttackReport.model_json_schema(by_alias=True)
