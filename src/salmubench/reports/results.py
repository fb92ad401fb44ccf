"""Reports side by side: the two bounds, the methods best first, and how near each number is to its target."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from salmubench.dataset.schema import SENSITIVE_SPLITS
from salmubench.errors import UserError
from salmubench.evaluation.metric import metrics as registry
from salmubench.evaluation.report import MetricEntry, Report, Verdict, read_report
from salmubench.evaluation.verdict import judge, require_comparable
from salmubench.reports.redact import plain
from salmubench.reports.seeds import BOUNDS, Recipe, by_seed, mean, names, recipe

LABELS = ("forgets", "over-generalised", "ineffective", "catastrophic")
MEANING = {
    "forgets": "the leak is gone, everything else is still there",
    "over-generalised": "what nobody asked to delete was erased too",
    "ineffective": "it still leaks",
    "catastrophic": "general knowledge was lost",
}
SLIGHT = 3
"""Per cent of the way between the bounds below which a number counts as at its target."""


@dataclass(frozen=True)
class Column:
    """A metric as a column of the table.

    Attributes:
        key: its name, e.g. ``"AssocStr"``.
        title: a line for people.
        efficacy: True where Clean is the target, False where Compromised is.
        holdout: whether it looks at sensitive pairs, so that Clean (and not zero) is what nothing kept would give.
    """

    key: str
    title: str
    efficacy: bool
    holdout: bool


@dataclass(frozen=True)
class Run:
    """A line of the table: one report with its verdict, or the mean of several seeds.

    Attributes:
        report: the report, or the mean of the seeds' (``seeds.mean``: its intervals are the spread between them).
        verdict: the report's own, or where it has none that of the bounds at hand.
        places: where its report, or the reports of its seeds, stand among those that ``arrange`` was given.
        verdicts: the seeds' own; empty for one report.
    """

    report: Report
    verdict: Verdict | None
    places: tuple[int, ...] = (0,)
    verdicts: tuple[Verdict, ...] = ()

    @property
    def name(self) -> str:
        return plain(self.report.name, 60)

    @property
    def seeds(self) -> int:
        """How many seeds it is the mean of."""
        return len(self.places)

    @property
    def recipe(self) -> Recipe:
        return recipe(self.report)

    @property
    def label(self) -> str:
        """The name for people, e.g. ``delete 2×``."""
        return re.sub(r"-(\d+(?:\.\d+)?)x(?=$| \()", "\u00a0\\1×", self.name)

    def entry(self, key: str) -> MetricEntry | None:
        """The metric where it was measured."""
        entry = self.report.metrics.get(key)
        return entry if entry is not None and entry.value is not None else None

    def value(self, key: str) -> float | None:
        entry = self.entry(key)
        return entry.value if entry else None

    @property
    def utility_kept(self) -> float | None:
        """The least kept of held-out people, held-out pairs and general knowledge: no loss is made up for."""
        return utility_kept(self.verdict) if self.verdict else None


def utility_kept(verdict: Verdict) -> float:
    """The least of the three shares kept."""
    kept = (verdict.inter_identity_kept, verdict.intra_identity_kept, verdict.general_knowledge_kept)
    return min(share for share in kept if share is not None)


@dataclass(frozen=True)
class Results:
    """What a table or a page shows: ``runs`` holds the methods, best first, without the bounds."""

    clean: Run | None
    compromised: Run | None
    runs: tuple[Run, ...]
    columns: tuple[Column, ...]

    @property
    def bounds(self) -> tuple[Run, ...]:
        return tuple(run for run in (self.clean, self.compromised) if run)

    @property
    def everything(self) -> tuple[Run, ...]:
        return (*self.bounds, *self.runs)

    @property
    def efficacy(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.efficacy)

    @property
    def utility(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if not column.efficacy)

    def score(self, run: Run, column: Column) -> float | None:
        """How far a number got: 1 at its target, 0 where nothing was forgotten or nothing is left.

        Efficacy: (Compromised - v) / (Compromised - Clean), above 1 where it went below Clean (over-correction).
        Utility on sensitive pairs: (v - Clean) / (Compromised - Clean); other utility: v / Compromised.
        None where a bound is missing or the bounds do not stand apart.
        """
        value = run.value(column.key)
        clean, compromised = (bound.value(column.key) if bound else None for bound in (self.clean, self.compromised))
        if value is None or compromised is None:
            return None
        floor = clean if column.efficacy or column.holdout else 0.0
        if floor is None or compromised - floor <= 1e-9:
            return None
        kept = (value - floor) / (compromised - floor)
        return 1 - kept if column.efficacy else kept

    def missed(self, run: Run, column: Column) -> tuple[str, int]:
        """What is wrong with a method's number, and by how many per cent of the way between the bounds (at most 100).

        ``leak``: efficacy short of Clean. ``damage``: efficacy beyond Clean (over-correction), or utility lost. Neither
        (``""``, 0) for a bound, for less than ``SLIGHT`` and for utility beyond its target.
        """
        score = None if run in self.bounds else self.score(run, column)
        if score is None or (score > 1 and not column.efficacy):
            return "", 0
        away = round(100 * min(1.0, abs(1 - score)))
        if away < SLIGHT:
            return "", 0
        return ("leak" if column.efficacy and score < 1 else "damage"), away

    def best(self, column: Column) -> set[str]:
        """Names of the methods whose number is nearest to the metric's target; none where the target is missing."""
        bound = self.clean if column.efficacy else self.compromised
        target = bound.value(column.key) if bound else None
        if target is None:
            return set()
        away = {
            run.report.name: abs(value - target) for run in self.runs if (value := run.value(column.key)) is not None
        }
        return {name for name, distance in away.items() if distance == min(away.values())}


def with_bounds(reports: Sequence[Report], clean: Path | None, compromised: Path | None) -> list[Report]:
    """Reports led by their bounds' files, so that a table shows what each number missed.

    A bound is one whatever its file calls it. Where a report has that name already, it is left out.
    """
    own = {report.name for report in reports}
    given = [(name, path) for name, path in zip(BOUNDS, (clean, compromised), strict=True) if path and name not in own]
    return [*(read_report(path).model_copy(update={"name": name}) for name, path in given), *reports]


def arrange(reports: Sequence[Report]) -> Results:
    """Sets reports side by side.

    Raises:
        UserError: there is none, two have one name, or their numbers do not belong in one table (other data, other
            metric versions).
    """
    _check(reports)
    by_name = {report.name: report for report in reports}
    bounds = by_name.get("clean"), by_name.get("compromised")
    groups = by_seed(reports)
    named = names([[reports[place] for place in group] for group in groups])
    runs = [_run(reports, group, name, bounds) for group, name in zip(groups, named, strict=True)]
    found: dict[str, Run] = {}
    for run in runs:
        if found.setdefault(run.report.name, run) is not run:
            raise UserError(f"two reports are called {run.name!r}; evaluate one again with another --name")
    return Results(
        clean=found.get("clean"),
        compromised=found.get("compromised"),
        runs=tuple(sorted((run for run in runs if run.report.name not in BOUNDS), key=_rank)),
        columns=_columns(reports),
    )


def _run(
    reports: Sequence[Report], group: tuple[int, ...], name: str, bounds: tuple[Report | None, Report | None]
) -> Run:
    if len(group) == 1:
        report = reports[group[0]].model_copy(update={"name": name})
        return Run(report, _verdict(report, *bounds), group)
    seeds = [reports[place] for place in group]
    whole = mean(seeds, name)
    each = [verdict for report in seeds if (verdict := _verdict(report, *bounds))]
    return Run(whole, _verdict(whole, *bounds), group, tuple(each) if len(each) == len(seeds) else ())


def _check(reports: Sequence[Report]) -> None:
    if not reports:
        raise UserError("there is no report to show; name at least one report.json")
    for report in reports:
        require_comparable(report, reports[0])


def _verdict(report: Report, clean: Report | None, compromised: Report | None) -> Verdict | None:
    if report.verdict is None and clean is not None and compromised is not None:
        return judge(report, clean, compromised)
    return report.verdict


def _rank(run: Run) -> tuple[float, str]:
    """Best first: by the distance from the corner where the leak is gone and all utility is kept."""
    verdict, kept = run.verdict, run.utility_kept
    if verdict is None or kept is None:
        return (float("inf"), run.name)
    return ((max(0.0, 1 - verdict.leakage_reduction) ** 2 + max(0.0, 1 - kept) ** 2) ** 0.5, run.name)


def _columns(reports: Iterable[Report]) -> tuple[Column, ...]:
    """All metrics that a report names: efficacy first, each in the paper's order, unknown ones last."""
    targets = {key: entry.target for report in reports for key, entry in report.metrics.items()}
    columns = []
    for key, target in targets.items():
        spec = registry[key].spec if key in registry.names() else None
        place = spec.order if spec else 99
        column = Column(
            key=key,
            title=spec.title if spec else plain(key, 24),
            efficacy=target == "clean",
            holdout=bool(spec and set(spec.sets) & set(SENSITIVE_SPLITS)),
        )
        columns.append((not column.efficacy, place, key, column))
    return tuple(column for *_, column in sorted(columns, key=lambda each: each[:3]))


def number(value: float | None) -> str:
    """A metric's value as people read it: three decimals and a true minus."""
    return "–" if value is None else f"{round(value, 3) + 0.0:.3f}".replace("-", "−")


def short(value: float | None) -> str:
    """The same without the leading zero, where room is scarce: ``.236``."""
    return number(value).replace("0.", ".", 1) if value is not None and abs(value) < 1 else number(value)


def share(value: float | None) -> str:
    """A share in whole per cent."""
    return "–" if value is None else f"{round(100 * value) + 0:.0f}\u00a0%".replace("-", "−")
