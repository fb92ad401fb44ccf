"""The HTML of a site: the summary and a page a method, from figures that are drawn already."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from salmubench.dataset.schema import SENSITIVE_SPLITS
from salmubench.dataset.store import Benchmark
from salmubench.evaluation.metric import title
from salmubench.evaluation.report import Report, Verdict
from salmubench.reports import style
from salmubench.reports.examples import Example
from salmubench.reports.exports import latex, table_csv
from salmubench.reports.markdown import markdown
from salmubench.reports.redact import plain
from salmubench.reports.results import LABELS, MEANING, Column, Results, Run, number, share, short
from salmubench.reports.style import Figure, Omission

ASIDE = 12
"""So many verdict cards stand open; the rest unfold."""
SECTIONS = {
    "leak": "A leak", "verdicts": "Verdicts", "table": "Table", "plane": "Efficacy and utility", "budgets": "Budgets",
    "profile": "Ten metrics", "fields": "Fields", "ranks": "Ranks", "cosines": "Cosines", "recovery": "Recovery",
    "splits": "Sets", "persona": "A persona", "pipeline": "Pipeline", "provenance": "Provenance",
}  # fmt: skip
"""Ids of the summary's sections in their order, and what the navigation calls them."""
EXPORTS = {"LaTeX": "table.tex", "Markdown": "table.md", "CSV": "table.csv"}


@dataclass(frozen=True)
class Cell:
    """A number of the table: shade is per cent of full colour, kind says which (``leak``, ``damage`` or none)."""

    value: float | None
    text: str
    interval: str
    best: bool
    kind: str
    shade: int
    title: str


def _cell(results: Results, run: Run, column: Column, best: set[str]) -> Cell:
    entry = run.entry(column.key)
    if entry is None:
        skipped = run.report.metrics.get(column.key)
        return Cell(None, "–", "", False, "", 0, skipped.reason or "not measured" if skipped else "not measured")
    kind, shade = results.missed(run, column)
    words = {
        "leak": f"{shade} % of the leak is left",
        "damage": "over-corrected: below Clean" if column.efficacy else f"{shade} % of it lost",
        "": "",
    }[kind]
    interval = f"[{', '.join(map(short, entry.interval))}]" if entry.interval else ""
    if entry.interval and entry.value is not None and run.seeds > 1:
        interval = f"± {short(entry.interval[1] - entry.value)}"
    return Cell(entry.value, number(entry.value), interval, run.report.name in best, kind, shade, words)


def exports(results: Results, reports: Sequence[Report]) -> dict[str, str]:
    """The main table as files: name -> text."""
    return {"table.tex": latex(results), "table.md": markdown(reports), "table.csv": table_csv(results)}


def slug(name: str) -> str:
    """A file name for a run that is one on every system; what had to be changed gets a hash to stay unique."""
    safe = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:60]
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return safe if safe and safe == name else f"{safe}-{digest}".lstrip("-")


def slugs(results: Results) -> dict[str, str]:
    """The file name, without ending, of each method's page, by the name of its report."""
    return {run.report.name: slug(run.report.name) for run in results.runs}


def templates() -> jinja2.Environment:
    """The environment of all pages: the templates' folder, escaping, the filters of numbers, the colours."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("salmubench.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "share": share, "plain": plain}
    environment.globals |= {"light": style.LIGHT, "dark": style.DARK}
    return environment


_environment = lru_cache(templates)


def scripts(environment: jinja2.Environment, *names: str) -> dict[str, list[str]]:
    """The scripts of a page as ``base.html`` takes them, with the hashes by which its policy lets them run."""
    texts = [environment.get_template(name).render().strip() for name in names]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    return {"scripts": [Markup(text) for text in texts], "hashes": hashes}


def summary(
    results: Results,
    figures: Sequence[Figure | Omission],
    drawn: Mapping[str, Markup],
    texts: Mapping[str, str],
    benchmark: Benchmark | None,
    show_values: bool,
) -> str:
    """The summary: ``index.html``.

    Args:
        results: what the table shows.
        figures: all figures in any order.
        drawn: the HTML of those that could be drawn, by name.
        texts: the table's ``exports``.
        benchmark: the data set, where it is at hand.
        show_values: whether values are readable, for the footer.
    """
    environment = _environment()
    columns = [*results.efficacy, *results.utility]
    best = {column.key: results.best(column) for column in columns}
    rows = [(run, [_cell(results, run, column, best[column.key]) for column in columns]) for run in results.everything]
    cards = sorted(
        (run for run in results.runs if run.verdict),
        key=lambda run: LABELS.index(run.verdict.label if run.verdict else ""),
    )
    there = {*drawn, "table", "provenance", *(("verdicts",) if cards else ())}
    return environment.get_template("page.html").render(
        results=results,
        headline=headline_of(results),
        facts=_facts(results, benchmark),
        labels=[(label, MEANING[label], sum(_is(label, run.verdict) for run in cards)) for label in LABELS],
        cards=cards,
        aside=ASIDE,
        rows=rows,
        slugs=slugs(results),
        sections={name: words for name, words in SECTIONS.items() if name in there},
        figures={figure.name: figure for figure in figures},
        omitted=[figure for figure in figures if isinstance(figure, Omission)],
        drawn=drawn,
        exports={words: (name, texts[name]) for words, name in EXPORTS.items()},
        show_values=show_values,
        **scripts(environment, "page.js"),
    )


def method_page(
    results: Results,
    run: Run,
    members: Sequence[Report],
    figures: Sequence[Figure | Omission],
    drawn: Mapping[str, Markup],
    leaks: Sequence[Example] | None,
    show_values: bool,
) -> str:
    """One method's page.

    Args:
        results: for the bounds.
        run: the method.
        members: its report, or those of its seeds.
        figures: its figures.
        drawn: the HTML of those that could be drawn, by name.
        leaks: examples of what still leaks; None where the data set or the outcomes are not at hand.
        show_values: whether values are readable.
    """
    stem = slugs(results)[run.report.name]
    return _environment().get_template("method.html").render(
        results=results, run=run, members=members, stem=stem, numbers=_numbers(results, run), settings=_settings(run),
        figures={figure.name: figure for figure in figures},
        omitted=[figure for figure in figures if isinstance(figure, Omission)],
        drawn=drawn, leaks=leaks, show_values=show_values, **scripts(_environment()),
    )  # fmt: skip


def _numbers(results: Results, run: Run) -> list[tuple[str, ...]]:
    """Each number of a run: its name, value, interval (or why it is missing), both bounds, target, what it is."""
    rows: list[tuple[str, ...]] = []
    for column in results.columns:
        entry = run.report.metrics.get(column.key)
        target = "Clean" if column.efficacy else "Compromised"
        bounds = [bound.entry(column.key) if bound else None for bound in (results.clean, results.compromised)]
        if entry is None or entry.value is None:
            reason = entry.reason if entry and entry.reason else "not measured"
            rows.append((plain(column.key, 24), "–", plain(reason, 200), "", "", target, column.title))
            continue
        for name, value in entry.numbers().items():
            interval = entry.interval_of(name)
            ends = f"{number(interval[0])} to {number(interval[1])}" if interval else ""
            theirs = [number(bound.numbers().get(name)) if bound else "–" for bound in bounds]
            rows.append(
                (title(plain(column.key, 24), plain(name, 24)), number(value), ends, *theirs, target, column.title)
            )
    return rows


def _settings(run: Run) -> list[tuple[str, str]]:
    """What the record of the run says of its settings and of what it consumed, as label and value."""
    record = run.report.provenance.unlearning or {}
    hidden = {"schema", "versions", "weights_sha256", "rows_file", "architecture", "device"}
    return [
        (plain(str(key).replace("_", " "), 40), told)
        for key, value in list(record.items())[:60]
        if key not in hidden and not (run.seeds > 1 and key == "seed") and (told := _told(value))
    ]


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{plain(str(key), 40)} {_told(each)}" for key, each in list(value.items())[:30])
    if isinstance(value, (list, tuple)):
        return ", ".join(_told(each) for each in value[:30])
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**15 else str(value)
    return f"{value:g}" if isinstance(value, float) else plain(str(value), 200)


def _is(label: str, verdict: Verdict | None) -> bool:
    """Whether a run has this failure mode, be it the one that names it or another; or none at all."""
    return verdict is not None and (label in verdict.failure_modes or label == verdict.label)


def headline_of(results: Results) -> str:
    """What came out, in one line."""
    count = len(results.runs)
    labels = [run.verdict.label for run in results.runs if run.verdict]
    if not count:
        return "What a model knows that it should not"
    if not labels:
        return f"{count} unlearning run{'s' * (count > 1)}, not judged yet"
    good = labels.count("forgets")
    if count == 1:
        return "The run forgets and keeps the rest" if good else f"The run is {labels[0]}"
    return f"{good or 'None'} of {count} runs forget{'s' * (good < 2)} and keep{'s' * (good < 2)} the rest"


def _facts(results: Results, benchmark: Benchmark | None) -> list[tuple[str, str]]:
    """What this run is, as label and value."""
    records = [run.report.provenance for run in results.everything]
    sets = records[0].sets

    def each(values: Sequence[Any]) -> str:
        return (
            ", ".join(dict.fromkeys(plain(str(value), 60) for value in values if value is not None)) or "not recorded"
        )

    if benchmark is not None:
        sets = {name: len(pairs) for name, pairs in benchmark.sets.items()}
    sensitive = sum(sets.get(name, 0) for name in SENSITIVE_SPLITS)
    facts = [
        ("Model", each([record.architecture for record in records])),
        ("Sensitive pairs", f"{sensitive:,}" if sensitive else "not recorded"),
        ("Pairs to forget", f"{sets['forget']:,}" if "forget" in sets else "not recorded"),
    ]
    if benchmark is not None:
        facts.insert(1, ("People", f"{len(benchmark.identities):,}"))
    limits = [record.limit for record in records]
    if any(limits):
        facts.append(("Measured on a sample of", each(limits)))
    return facts
