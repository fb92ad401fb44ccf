"""Figure: what more budget buys. Leak removed and utility kept of each method that was run with several budgets."""

from collections.abc import Callable, Sequence

from salmubench.evaluation.report import Verdict
from salmubench.reports import panels, style
from salmubench.reports.panels import Line, Panel
from salmubench.reports.plane import FLOOR, families
from salmubench.reports.results import Results, Run, share, utility_kept
from salmubench.reports.style import Figure, Omission

NAME = "budgets"
TITLE = "What more budget buys"


def budgets(results: Results) -> Figure | Omission:
    """The small multiples, where a method has several budgets."""
    told = families(results)
    if not told:
        return Omission(NAME, TITLE, "It needs one method with several budgets, judged by both bounds.")
    known = sorted({run.recipe.budget or 0.0 for runs in told for run in runs})
    shown = [Panel(_title(told, runs), _lines(runs, known)) for runs in told]
    words = "; ".join(f"{run.label} {share(run.verdict.leakage_reduction)} removed, {share(run.utility_kept)} kept"
                      for runs in told for run in runs if run.verdict)  # fmt: skip
    return Figure(
        name=NAME,
        title=TITLE,
        alt=f"Lines of leak removed and utility kept over the budget. {words}.",
        caption="Budget in passes over the forget set. Leak removed should rise to 100 % and utility kept, the least "
        "of held-out people, held-out pairs and general knowledge, should stay there.",
        draw=lambda width: panels.draw(
            shown,
            width,
            ticks=[(float(place), f"{budget:g}×") for place, budget in enumerate(known)],
            across="budget",
            percent=True,
        ),
    )


def _title(told: Sequence[Sequence[Run]], runs: Sequence[Run]) -> str:
    """The method's name; of several settings of one method the first run's label."""
    twins = [other for other in told if other[0].recipe.method == runs[0].recipe.method]
    return runs[0].recipe.method if len(twins) == 1 else runs[0].label


def _lines(runs: Sequence[Run], known: Sequence[float]) -> list[Line]:
    return [
        _line("leak removed", style.CLEAN, runs, known, lambda verdict: verdict.leakage_reduction),
        _line("utility kept", style.COMPROMISED, runs, known, utility_kept),
    ]


def _line(
    name: str, colour: str, runs: Sequence[Run], known: Sequence[float], share_of: Callable[[Verdict], float]
) -> Line:
    """One share over the budgets; several seeds of a budget span from their least to their most."""
    judged = [(known.index(run.recipe.budget or 0.0), run.verdict, run.verdicts) for run in runs if run.verdict]
    spread = [sorted(max(FLOOR, share_of(seed)) for seed in seeds or (verdict,)) for _, verdict, seeds in judged]
    return Line(
        name=name,
        x=[float(place) for place, _, _ in judged],
        y=[max(FLOOR, share_of(verdict)) for _, verdict, _ in judged],
        colour=colour,
        spread=[(seeds[0], seeds[-1]) for seeds in spread],
    )
