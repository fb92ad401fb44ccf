"""The verbs that show what was measured: ``report``, ``compare`` and ``show``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from salmubench.errors import printable

reports_app = typer.Typer()

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of a table.")]


def print_json(value: Any) -> None:
    """Prints JSON on standard output, letters as they are but for those that steer a terminal."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    # A name may hold C1 controls or direction marks, which JSON would hand to the terminal as they are.
    typer.echo(
        "".join(letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1] for letter in text)
    )


@reports_app.command()
def report(
    reports: Annotated[
        list[Path],
        typer.Argument(
            metavar="REPORT...",
            help="Report files, Clean's and Compromised's as bounds; folders of a run, a sweep or a demo; a sweep's "
            "results.parquet; files of `salmubench attack`.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder of the static site.")],
    data: Annotated[Path | None, typer.Option(help="The data set folder, for its pictures.")] = None,
    show_values: Annotated[bool, typer.Option(help="Show the sensitive values instead of masking them.")] = False,
) -> None:
    """Make the static site: verdicts, table, figures and a page a method, readable without a network."""
    from salmubench.reports.site import build_site

    typer.echo(f"The report: {build_site(reports, out, data=data, show_values=show_values)}")


@reports_app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A report, ours or the official evaluator's.")],
    b: Annotated[Path, typer.Argument(help="The report to compare it with.")],
    as_json: AsJson = False,
) -> None:
    """Show two reports' metrics side by side, with the difference; a star where its interval excludes 0."""
    from salmubench.evaluation.compare import compare as run
    from salmubench.reports.table import comparison

    rows = run(a, b)
    if as_json:
        print_json([{**asdict(row), "differs": row.differs} for row in rows])
        return
    Console().print(comparison(rows, a.stem, b.stem))
    for reason in dict.fromkeys(row.reason for row in rows if row.reason):
        typer.echo(f"No interval: {printable(reason)}.")


@reports_app.command()
def show(
    report: Annotated[Path, typer.Argument(help="A report.")],
    by: Annotated[str | None, typer.Option(help="Break its numbers down by field, style or identity.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="One number alone, e.g. RetFail; of people RetFail's by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a stored report as `evaluate` does at its end with all intervals, or break its numbers down."""
    from salmubench.evaluation.breakdown import breakdown
    from salmubench.evaluation.report import read_report
    from salmubench.reports.table import details, parts, table, verdicts

    if by is not None:
        rows = breakdown(report, by, metric=metric)  # type: ignore[arg-type]
        if as_json:
            print_json([asdict(row) for row in rows])
        else:
            Console().print(parts(rows, by))
        return
    stored = read_report(report)
    if as_json:
        print_json(stored.model_dump(mode="json", by_alias=True))
        return
    Console().print(table([stored]))
    for line in verdicts([stored]):
        Console().print(line)
    Console().print(details(stored))
