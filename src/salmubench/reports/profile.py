"""Figure: the ten metrics of every run, each on its own scale between both bounds."""

from salmubench.reports import lattice
from salmubench.reports.lattice import Lane
from salmubench.reports.results import Column, Results
from salmubench.reports.style import Figure

NAME = "profile"
TITLE = "Every metric between its two bounds"


def profile(results: Results) -> Figure:
    """The lattice: a row a run, a column a metric; the metric's target is the thick line."""
    runs = results.runs or results.bounds
    lanes = [_lane(results, column) for column in results.columns]
    return Figure(
        name=NAME,
        title=TITLE,
        alt=f"Dot plot of {len(results.columns)} metrics for {len(results.runs)} methods against the Clean and the "
        "Compromised bound; the numbers stand in the table.",
        caption="Blue line: Clean. Orange line: Compromised. The thick one is the metric's target. A dot is a method's "
        "value, its bar the 95 % interval"
        + (", or of several seeds one standard deviation" if any(run.seeds > 1 for run in runs) else "")
        + ". Efficacy should reach blue and not pass it; utility should stay on orange.",
        draw=lambda width: lattice.draw(runs, lanes, width),
    )


def _lane(results: Results, column: Column) -> Lane:
    entries = [run.entry(column.key) for run in results.runs or results.bounds]
    clean, compromised = (bound.value(column.key) if bound else None for bound in (results.clean, results.compromised))
    return Lane(
        title=column.key,
        values=[(entry.value, entry.interval) if entry and entry.value is not None else None for entry in entries],
        bounds=(clean, compromised),
        efficacy=column.efficacy,
        group="Efficacy: to Clean" if column.efficacy else "Utility: stay at Compromised",
    )
