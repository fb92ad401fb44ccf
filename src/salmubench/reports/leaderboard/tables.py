"""Entries as tables: only what may be compared shares one, and each has its own bounds."""

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from salmubench.errors import UserError
from salmubench.evaluation.metric import metrics as registry
from salmubench.evaluation.report import Report
from salmubench.reports.leaderboard.entry import Entry
from salmubench.reports.leaderboard.published import BUDGET, published
from salmubench.reports.redact import plain
from salmubench.reports.results import Column, Results, Run, arrange, number

STATES = {
    "verified": "verified in full",
    "sampled": "verified on a sample",
    "self-reported": "self-reported",
    "contested": "contested",
    "published": "published, not re-run",
}


@dataclass(frozen=True)
class Submission:
    """An entry with its report; ``slug`` names its files on the site."""

    entry: Entry
    report: Report
    slug: str

    @property
    def bounds_key(self) -> str:
        """What two numbers must share to be set side by side: data, rows, metric versions and options."""
        origin = self.report.provenance
        versions = {key: (each.version, each.options) for key, each in self.report.metrics.items()}
        shared = [origin.data_revision, origin.general_knowledge, origin.sets, versions]
        return json.dumps(shared, sort_keys=True)

    @property
    def state(self) -> str:
        return self.entry.state


@dataclass(frozen=True)
class Cell:
    """A number: ``kind`` is ``leak``, ``damage`` or empty, ``shade`` per cent of its full colour."""

    value: float | None
    text: str
    best: bool
    kind: str
    shade: int


@dataclass(frozen=True)
class Row:
    """A line of a table; ``modes`` is what it is filtered by. A bound or a published row has no page of its own."""

    name: str
    budget: float | None
    authors: str
    state: str
    run: Run
    cells: tuple[Cell, ...]
    slug: str | None = None

    @property
    def modes(self) -> tuple[str, ...]:
        verdict = self.run.verdict
        if verdict is None:
            return ("not judged",)
        return tuple(verdict.failure_modes) or ("forgets",)


@dataclass(frozen=True)
class Board:
    """One table. ``ident`` names its files; ``track`` is one of the entries' tracks or ``published``."""

    ident: str
    track: str
    tuned: bool | None
    results: Results
    bounds: tuple[Row, ...]
    rows: tuple[Row, ...]


def boards(submissions: Sequence[Submission]) -> list[Board]:
    """The tables, those with most entries first, the paper's rows last. What is contested stands in none.

    Raises:
        UserError: one table has two Cleans or two Compromiseds.
    """
    kept = [each for each in submissions if each.state != "contested"]
    groups: dict[tuple[str, str, bool], list[Submission]] = {}
    for each in kept:
        if each.entry.kind == "method":
            groups.setdefault((each.entry.track, each.bounds_key, each.entry.tuned), []).append(each)
    made = []
    for (track, shared, tuned), members in groups.items():
        ends = [each for each in kept if each.entry.kind != "method" and each.bounds_key == shared]
        _one_each(ends)
        ident = f"{track}-{'tuned' if tuned else 'untuned'}-{hashlib.sha256(shared.encode()).hexdigest()[:8]}"
        made.append(_board(ident, track, tuned, members, ends))
    made.sort(key=lambda board: (-len(board.rows), board.ident))
    return [*made, _published()]


def _one_each(bounds: Iterable[Submission]) -> None:
    seen: dict[str, str] = {}
    for each in bounds:
        other = seen.setdefault(each.entry.kind, each.slug)
        if other != each.slug:
            raise UserError(
                f"{other} and {each.slug} are both {each.entry.kind} of the same data; keep one of the two entries"
            )


def _board(ident: str, track: str, tuned: bool, members: Sequence[Submission], bounds: Sequence[Submission]) -> Board:
    known = {each.entry.kind if each in bounds else each.slug: each for each in (*bounds, *members)}
    results = arrange([_as(name, each.report) for name, each in known.items()])

    def row(run: Run) -> Row:
        each = known[run.report.name]
        return Row(
            name=each.entry.kind.capitalize() if run in results.bounds else plain(each.entry.method, 60),
            budget=each.entry.budget,
            authors=plain(", ".join(each.entry.authors), 80),
            state=each.state,
            run=run,
            cells=_cells(results, run),
            slug=each.slug,
        )

    return Board(ident, track, tuned, results, *(tuple(map(row, runs)) for runs in (results.bounds, results.runs)))


def _as(name: str, report: Report) -> Report:
    """The report under a name that is unique, with the metrics that we know, and judged by nobody but us."""
    known = {key: each for key, each in report.metrics.items() if key in registry.names()}
    return report.model_copy(update={"name": name, "metrics": known, "verdict": None})


def _published() -> Board:
    results = arrange(published())

    def row(run: Run) -> Row:
        bound = run in results.bounds
        name = run.name.capitalize() if bound else run.name
        return Row(
            name, None if bound else BUDGET, "Selvas-Sala, Kang and Gomez", "published", run, _cells(results, run)
        )

    return Board(
        "published", "published", None, results, *(tuple(map(row, runs)) for runs in (results.bounds, results.runs))
    )


def _cells(results: Results, run: Run) -> tuple[Cell, ...]:
    return tuple(_cell(results, run, column) for column in results.columns)


def _cell(results: Results, run: Run, column: Column) -> Cell:
    value = run.value(column.key)
    best = len(results.runs) > 1 and run.report.name in results.best(column)
    return Cell(value, number(value), best, *results.missed(run, column))


def slug_of(path: Path) -> str:
    """A file name that is safe anywhere, different for different names."""
    words = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:40]
    return f"{words or 'entry'}-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}"


HEAD = ("method", "budget", "authors", "verdict", "state")


def _plain_lines(board: Board) -> list[list[str]]:
    return [
        [
            row.name,
            "" if row.budget is None else f"{row.budget:g}",
            row.authors,
            "" if row in board.bounds else ", ".join(row.modes),
            STATES[row.state],
        ]
        for row in (*board.bounds, *board.rows)
    ]


def as_csv(board: Board) -> str:
    """The table for a spreadsheet: a cell that one would take for a formula is led by an apostrophe."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*HEAD, *(column.key for column in board.results.columns)])
    for line, row in zip(_plain_lines(board), (*board.bounds, *board.rows), strict=True):
        texts = [f"'{text}" if text[:1] in tuple("=+-@|%") else text for text in line]
        writer.writerow([*texts, *("" if cell.value is None else f"{cell.value:.6g}" for cell in row.cells)])
    return stream.getvalue()


def as_markdown(board: Board) -> str:
    """The table for a README: what came from outside stays text."""
    lines = [[*HEAD, *(column.key for column in board.results.columns)]]
    lines.append([*("---" for _ in HEAD), *("---:" for _ in board.results.columns)])
    for line, row in zip(_plain_lines(board), (*board.bounds, *board.rows), strict=True):
        lines.append([*map(literal, line), *(f"**{cell.text}**" if cell.best else cell.text for cell in row.cells)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def literal(text: str) -> str:
    """Text that Markdown shows as it is: no cell, link, picture, bare address or HTML of its own."""
    escaped = re.sub(r"([\\`*_\[\]()<>|!#~{}$&])", r"\\\1", text)
    return re.sub(r"(?i)(https?|ftp|www)([:.])", r"\1\\\2", escaped).replace("@", r"\@")
