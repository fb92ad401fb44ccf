"""Figure: which fact leaks? The retrieval test over the rows of each field."""

from salmubench.dataset.schema import FIELDS
from salmubench.reports import lattice
from salmubench.reports.lattice import Lane, Value
from salmubench.reports.redact import spelt
from salmubench.reports.results import Results, Run
from salmubench.reports.style import Figure, Omission

NAME = "fields"
TITLE = "Some facts leak more than others"
METRIC = "RetFail"


def fields_figure(results: Results) -> Figure | Omission:
    """The lattice of RetFail by field: a row a run, a column a field."""
    runs = results.runs or results.bounds
    told = [field for field in FIELDS if any(_of(run, field) for run in runs)]
    if not told:
        return Omission(NAME, TITLE, "The reports do not tell RetFail by field; evaluate the checkpoints again.")
    lanes = [
        Lane(
            title=spelt(field),
            values=[_of(run, field) for run in runs],
            bounds=(_bound(results.clean, field), _bound(results.compromised, field)),
            efficacy=True,
            group="RetFail (MRR) by field: to Clean",
        )
        for field in told
    ]
    worst = [f"{run.label} {spelt(max(found)[1])}" for run in runs if (found := _ranked(run))]
    return Figure(
        name=NAME,
        title=TITLE,
        alt=f"Dot plot of retrieval leakage for each of {len(told)} fields. Most leaking field by run: "
        f"{'; '.join(worst)}.",
        caption="How well the true caption is found among 2,000 others, by the fact that it tells. Blue line: Clean, "
        "the target. Orange line: Compromised. Each column has its own scale.",
        draw=lambda width: lattice.draw(runs, lanes, width),
    )


def _ranked(run: Run) -> list[tuple[float, str]]:
    return [(found[0], field) for field in FIELDS if (found := _of(run, field))]


def _of(run: Run, field: str) -> Value | None:
    entry = run.entry(METRIC)
    group = entry.by_field.get(field) if entry else None
    return (group.value, group.interval) if group else None


def _bound(run: Run | None, field: str) -> float | None:
    found = _of(run, field) if run else None
    return found[0] if found else None
