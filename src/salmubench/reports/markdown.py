"""The results as a Markdown table, for a README or an issue."""

import re
from collections.abc import Sequence

from salmubench.evaluation.report import Report
from salmubench.reports.redact import plain
from salmubench.reports.results import arrange, number


def markdown(reports: Sequence[Report]) -> str:
    """Bounds on top, methods best first, the ten metrics across; bold marks the number nearest to its target.

    Raises:
        UserError: the reports do not belong in one table.
    """
    results = arrange(reports)
    columns = [*results.efficacy, *results.utility]
    best = {column.key: results.best(column) for column in columns}
    lines = [
        ["run", "verdict", *(literal(plain(column.key, 24)) for column in columns)],
        ["---", "---", *("---:" for _ in columns)],
    ]
    for run in results.everything:
        numbers = [number(run.value(column.key)) for column in columns]
        marked = [
            f"**{text}**" if run not in results.bounds and run.report.name in best[column.key] else text
            for text, column in zip(numbers, columns, strict=True)
        ]
        lines.append(
            [literal(run.name), ", ".join(run.verdict.failure_modes) or "forgets" if run.verdict else "", *marked]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def literal(text: str) -> str:
    """Text from outside that Markdown shows as it is: no cell, link, picture or HTML of its own."""
    return re.sub(r"([\\`*_\[\]<>|!])", r"\\\1", text)
