"""What recovery attacks found, as a table: numbers down, checkpoints across, for the terminal and as Markdown."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from salmubench.evaluation.recovery import AttackReport, Scores
from salmubench.reports.markdown import literal
from salmubench.reports.redact import plain

TOLD = {
    "relearning": ("mrr", "assocstr"),
    "relearning_holdout": ("mrr", "assocstr"),
    "paraphrase": ("mrr", "gap_invented"),
    "extraction": ("top1", "top5"),
    "membership": ("auc", "tpr_at_1pct"),
}
"""The numbers of each attack that a table shows; attack.json has them all."""
TITLES = {
    "mrr": "MRR", "assocstr": "AssocStr", "gap_invented": "lead over invented", "top1": "top 1", "top5": "top 5",
    "auc": "AUC", "tpr_at_1pct": "TPR at 1 % FPR",
}  # fmt: skip


def entries(report: AttackReport) -> Iterator[tuple[str, str, Scores]]:
    """Every entry of a report: attack, group, scores."""
    for name in ("relearning", "relearning_holdout"):
        taught = getattr(report.probes, name)
        if taught is not None:
            yield from ((name, f"{point.steps} steps", point) for point in taught.curve)
            yield from ((name, f"{point.steps} steps, same people", point) for point in taught.same_people)
    for name in ("paraphrase", "extraction", "membership"):
        yield from ((name, group, found) for group, found in getattr(report.probes, name).items())


def recovery_rows(reports: Sequence[AttackReport]) -> list[list[str]]:
    """Attack, what is asked, number, chance, and the value of each report with its recovered share."""
    by_report = [{(name, group): found for name, group, found in entries(report)} for report in reports]
    lines = []
    for name, group in dict.fromkeys(key for found in by_report for key in found):
        for number in TOLD[name]:
            cells, chance = [], ""
            for found in by_report:
                scores = found.get((name, group))
                value = None if scores is None else scores.numbers().get(number)
                share = None if scores is None else scores.recovered.get(number)
                words = "–" if value is None else f"{value:.3f}"
                cells.append(words if share is None else f"{words} ({100 * share:.0f} %)")
                if scores is not None and number in scores.chance:
                    chance = f"{scores.chance[number]:.3f}"
            lines.append([name, group, TITLES[number], chance, *cells])
    return lines


def recovery_table(reports: Sequence[AttackReport]) -> Table:
    """For the terminal. In brackets: the recovered share."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, head in enumerate(_heads(reports)):
        grid.add_column(Text(plain(head, 40)), justify="left" if place < 3 else "right", overflow="fold")
    lines = recovery_rows(reports)
    for place, line in enumerate(lines):
        ends = place + 1 < len(lines) and lines[place + 1][0] != line[0]
        shown = ["" if place and lines[place - 1][column] == line[column] and column < 1 else line[column]
                 for column in range(len(line))]  # fmt: skip
        grid.add_row(*(Text(plain(cell, 60)) for cell in shown), end_section=ends)
    return grid


def recovery_markdown(reports: Sequence[AttackReport]) -> str:
    """The same as a Markdown table."""
    heads = _heads(reports)
    lines = [heads, ["---"] * 3 + ["---:"] * (len(heads) - 3)]
    lines += [[literal(plain(cell, 60)) for cell in line] for line in recovery_rows(reports)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _heads(reports: Sequence[AttackReport]) -> list[str]:
    return ["attack", "of", "number", "chance", *(report.name for report in reports)]
