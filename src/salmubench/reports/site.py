"""The static site: one page that opens from disk without a network, and its figures as files."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from salmubench.atomic import replacing, write_text
from salmubench.dataset.schema import SENSITIVE_SPLITS
from salmubench.dataset.store import Benchmark, load_benchmark
from salmubench.errors import UserError
from salmubench.evaluation.outcomes import read_outcomes
from salmubench.evaluation.report import Report, Verdict, read_report
from salmubench.reports import style
from salmubench.reports.cosines import PANELS, Cosines, cosines
from salmubench.reports.leak import find_leak, leak_figure
from salmubench.reports.markdown import markdown
from salmubench.reports.persona import persona_figure
from salmubench.reports.pipeline import pipeline_figure
from salmubench.reports.plane import plane
from salmubench.reports.profile import profile
from salmubench.reports.redact import Redactor, plain
from salmubench.reports.results import LABELS, MEANING, Column, Results, Run, arrange, number, share, short
from salmubench.reports.splits import splits_figure
from salmubench.reports.style import Figure, Omission

PICTURED = (
    ("leak", "A face is enough: the model gives its owner away"),
    ("persona", "One persona: a name, eight facts, many pictures"),
    ("pipeline", "Five stages from a face to a sensitive pair"),
)
ASIDE = 12
"""So many verdict cards stand open; the rest unfold."""


def build_site(reports: Sequence[Path], out: Path, *, data: Path | None = None, show_values: bool = False) -> Path:
    """Writes the page and its figures. The same reports give the same bytes.

    Args:
        reports: ``report.json`` files; those named ``clean`` and ``compromised`` are the bounds. Sidecars beside them
            are used where they are there.
        out: folder of the site; ``index.html``, ``table.md``, ``figures/*.svg`` and ``*.png`` are replaced.
        data: the data set folder of the reports, for the figures that show pictures.
        show_values: leave sensitive values readable instead of masking them.

    Returns:
        Path of ``index.html``.

    Raises:
        UserError: a report or the data set cannot be read, or they do not belong together.
    """
    loaded = [read_report(Path(path)) for path in reports]
    results = arrange(loaded)
    paths = {report.name: Path(path) for report, path in zip(loaded, reports, strict=True)}
    benchmark = _benchmark(data, loaded[0]) if data is not None else None
    figures = _figures(results, paths, benchmark, show_values)
    drawn = {figure.name: _publish(figure, out / "figures") for figure in figures if isinstance(figure, Figure)}
    page = _render(results, figures, drawn, benchmark, show_values)
    write_text(out / "table.md", markdown(loaded))
    write_text(out / "index.html", page)
    return out / "index.html"


def _benchmark(data: Path, report: Report) -> Benchmark:
    benchmark = load_benchmark(data)
    if benchmark.revision != report.provenance.data_revision:
        raise UserError(
            f"{data}: is not the data that {plain(report.name, 60)!r} was measured on "
            f"({benchmark.revision[:19]}… against {plain(report.provenance.data_revision, 20)}); name that folder "
            "with --data"
        )
    return benchmark


def _figures(
    results: Results, paths: Mapping[str, Path], benchmark: Benchmark | None, show_values: bool
) -> list[Figure | Omission]:
    """All figures in the page's order."""
    sets = results.everything[0].report.provenance.sets
    told = [plane(results), profile(results), cosines(_cosines(results, paths))]
    if benchmark is None:
        reason = "It shows pictures of the data set; name its folder with --data."
        leak, persona, pipeline = (Omission(name, title, reason) for name, title in PICTURED)
        return [leak, *told, splits_figure(sets, {}), persona, pipeline]
    redactor = Redactor(benchmark, show_values=show_values)
    rows = [read_outcomes(paths[bound], "RetFail") if bound in paths else None for bound in ("compromised", "clean")]
    found = find_leak(benchmark, rows[0], rows[1], redactor)
    sizes = {**sets, **{name: len(pairs) for name, pairs in benchmark.sets.items()}}
    return [
        leak_figure(benchmark, found, redactor),
        *told,
        splits_figure(sizes, _people(benchmark)),
        persona_figure(benchmark, found.identity_id if found else None, redactor),
        pipeline_figure(benchmark, redactor),
    ]


def _cosines(results: Results, paths: Mapping[str, Path]) -> dict[str, Cosines]:
    panels = {}
    if results.clean and results.compromised:
        for metric in PANELS:
            rows = [read_outcomes(paths[bound], metric) for bound in ("clean", "compromised")]
            if rows[0] and rows[1]:
                panels[metric] = Cosines(*(np.asarray(each["value"], dtype=np.float64) for each in rows if each))
    return panels


def _people(benchmark: Benchmark) -> dict[str, int]:
    """Identities that are halved, forgotten whole and held out whole."""
    forget, half, out = (set(benchmark.sets[name].identity_id) for name in SENSITIVE_SPLITS)
    return {"halved": len(half), "whole": len(forget - half), "held_out": len(out)}


def _publish(figure: Figure, folder: Path) -> Markup:
    """Writes a figure's files and returns it for the page, in the wide and the narrow drawing."""
    with style.style(figure.name):
        canvas = figure.draw(style.WIDE)
        svg, png = style.to_svg(canvas, alt=figure.alt, title=figure.title), style.to_png(canvas)
    with style.style(f"{figure.name}-narrow"):
        narrow = style.to_svg(figure.draw(style.NARROW), alt=figure.alt, title=figure.title)
    write_text(folder / f"{figure.name}.svg", svg)
    with replacing(folder / f"{figure.name}.png") as temporary:
        temporary.write_bytes(png)
    both = zip(("wide", "narrow"), (svg, narrow), strict=True)  # matplotlib and ``inline`` escape what they write
    return Markup("".join(f'<div class="{kind}">{style.inline(each, figure.alt)}</div>' for kind, each in both))


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
    is_bound = run in results.bounds
    score = None if is_bound else results.score(run, column)
    kind, away = "", 0.0
    if score is not None and score < 1:
        kind, away = ("leak" if column.efficacy else "damage"), 1 - score
    elif score is not None and column.efficacy:
        kind, away = "damage", score - 1
    shade = round(100 * min(1.0, away))
    if shade < 3:
        kind, shade = "", 0
    words = {
        "leak": f"{shade} % of the leak is left",
        "damage": "over-corrected: below Clean" if column.efficacy else f"{shade} % of it lost",
        "": "",
    }[kind]
    interval = f"[{', '.join(map(short, entry.interval))}]" if entry.interval else ""
    return Cell(entry.value, number(entry.value), interval, run.report.name in best, kind, shade, words)


def _render(
    results: Results,
    figures: Sequence[Figure | Omission],
    drawn: Mapping[str, Markup],
    benchmark: Benchmark | None,
    show_values: bool,
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("salmubench.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "share": share, "plain": plain}
    columns = [*results.efficacy, *results.utility]
    best = {column.key: results.best(column) for column in columns}
    rows = [(run, [_cell(results, run, column, best[column.key]) for column in columns]) for run in results.everything]
    script = (environment.loader.get_source(environment, "page.js")[0]).strip() if environment.loader else ""
    cards = sorted(
        (run for run in results.runs if run.verdict),
        key=lambda run: LABELS.index(run.verdict.label if run.verdict else ""),
    )
    return environment.get_template("page.html").render(
        results=results,
        headline=headline_of(results),
        facts=_facts(results, benchmark),
        labels=[(label, MEANING[label], sum(_is(label, run.verdict) for run in cards)) for label in LABELS],
        cards=cards,
        aside=ASIDE,
        rows=rows,
        figures={figure.name: figure for figure in figures},
        drawn=drawn,
        light=style.LIGHT,
        dark=style.DARK,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        show_values=show_values,
    )


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
        ("Architecture", each([record.architecture for record in records])),
        ("Sensitive pairs", f"{sensitive:,}" if sensitive else "not recorded"),
        ("Pairs to forget", f"{sets['forget']:,}" if "forget" in sets else "not recorded"),
        ("Halves cut by", each([record.association_split for record in records])),
        ("Data revision", each([record.data_revision.removeprefix("sha256:")[:12] for record in records])),
        ("Precision, device", each([f"{record.precision}, {record.device}" for record in records])),
        ("Seed", each([record.seed for record in records])),
    ]
    if benchmark is not None:
        facts.insert(1, ("People", f"{len(benchmark.identities):,}"))
    limits = [record.limit for record in records]
    if any(limits):
        facts.append(("Measured on a sample of", each(limits)))
    return facts
