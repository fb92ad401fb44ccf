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
    "mrr": "MRR", "assocstr": "AssocStr", "gap_invented": "lead", "top1": "top 1", "top5": "top 5",
    "auc": "AUC", "tpr_at_1pct": "TPR at 1 %",
}  # fmt: skip


def entries(report: AttackReport) -> Iterator[tuple[str, str, Scores]]:
    """Every entry of a report: attack, group, scores."""
    for name in ("relearning", "relearning_holdout"):
        taught = getattr(report.probes, name)
        if taught is not None:
            yield from ((name, f"step {point.steps}", point) for point in taught.curve)
            yield from ((name, f"same people, step {point.steps}", point) for point in taught.same_people)
    for name in ("paraphrase", "extraction", "membership"):
        yield from ((name, group, found) for group, found in getattr(report.probes, name).items())


def recovery_rows(reports: Sequence[AttackReport]) -> list[list[str]]:
    """Attack, what is asked, number, chance, and the value of each report with its recovered share in brackets."""
    by_report = [{(name, group): found for name, group, found in entries(report)} for report in reports]
    lines = []
    for name, group in dict.fromkeys(key for found in by_report for key in found):
        for number in TOLD[name]:
            found = [one.get((name, group)) for one in by_report]
            chance = next((one.chance[number] for one in found if one and number in one.chance), None)
            cells = [_cell(one, number) for one in found]
            lines.append([name, group, TITLES[number], "" if chance is None else f"{chance:.3f}", *cells])
    return lines


def _cell(found: Scores | None, number: str) -> str:
    value = None if found is None else found.numbers().get(number)
    if found is None or value is None:
        return "–"
    share = found.recovered.get(number)
    return f"{value:.3f}" if share is None else f"{value:.3f} ({100 * share:.0f} %)"


def recovery_table(reports: Sequence[AttackReport]) -> Table:
    """For the terminal."""
    grid = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, caption="In brackets: the recovered share.", caption_justify="left"
    )
    for place, head in enumerate(("attack", "chance", *(report.name for report in reports))):
        grid.add_column(Text(plain(head, 24)), justify="right" if place else "left", overflow="fold")
    attack = ""
    for name, group, number, *cells in recovery_rows(reports):
        if name != attack:
            if attack:
                grid.add_section()
            grid.add_row(Text(name.replace("_", ", "), style="bold"))
            attack = name
        grid.add_row(Text(plain(f"  {group}: {number}".replace("_", " "), 60)), *map(Text, cells))
    return grid


def recovery_markdown(reports: Sequence[AttackReport]) -> str:
    """The same as a Markdown table."""
    heads = ["attack", "of", "number", "chance", *(literal(plain(report.name, 40)) for report in reports)]
    lines = [heads, ["---"] * 3 + ["---:"] * (len(heads) - 3)]
    lines += [[literal(plain(cell, 60)) for cell in line] for line in recovery_rows(reports)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
