"""The static site: a summary and a page a method that open from disk without a network, and their figures as files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from salmubench.dataset.schema import SENSITIVE_SPLITS
from salmubench.dataset.store import Benchmark, load_benchmark
from salmubench.errors import UserError
from salmubench.evaluation.outcomes import read_outcomes
from salmubench.evaluation.report import Report
from salmubench.reports import pages, style
from salmubench.reports.budgets import budgets
from salmubench.reports.cosines import PANELS, Cosines, cosines
from salmubench.reports.examples import examples
from salmubench.reports.fields import fields_figure
from salmubench.reports.leak import find_leak, leak_figure
from salmubench.reports.persona import persona_figure
from salmubench.reports.pipeline import pipeline_figure
from salmubench.reports.plane import plane
from salmubench.reports.profile import profile
from salmubench.reports.publish import Site
from salmubench.reports.ranks import Ranks, curve_figure, ranks_figure
from salmubench.reports.redact import Redactor, plain
from salmubench.reports.relearning import relearning
from salmubench.reports.results import Results, Run, arrange
from salmubench.reports.sources import Sources, read_sources
from salmubench.reports.splits import splits_figure
from salmubench.reports.style import Figure, Omission

PICTURED = (
    ("leak", "A face is enough: the model gives its owner away"),
    ("persona", "One persona: a name, eight facts, many pictures"),
    ("pipeline", "Five stages from a face to a sensitive pair"),
)


def build_site(reports: Sequence[Path], out: Path, *, data: Path | None = None, show_values: bool = False) -> Path:
    """Writes the pages and their figures. The same reports give the same bytes.

    Args:
        reports: ``report.json`` files; those named ``clean`` and ``compromised`` are the bounds. Sidecars beside them
            are used where they are there. Also folders of a run, a sweep or a demo, and ``attack.json`` files.
        out: folder of the site: ``index.html``, ``methods/*.html``, ``table.md``, ``.tex`` and ``.csv``,
            ``figures/*.svg`` and ``*.png``, and last ``site.json``, the list of them. What an earlier list names and
            this site has no more is removed.
        data: the data set folder of the reports, for the figures that show pictures.
        show_values: leave sensitive values readable instead of masking them.

    Returns:
        Path of ``index.html``.

    Raises:
        UserError: a report or the data set cannot be read, or they do not belong together.
    """
    sources = read_sources(reports)
    results = arrange(sources.reports)
    benchmark = _benchmark(data, sources.reports[0]) if data is not None else None
    rows = _Rows(sources, results)
    figures = _figures(sources, results, rows, benchmark, show_values)
    site = Site(out)
    drawn = {figure.name: _publish(figure, site, "figures/") for figure in figures if isinstance(figure, Figure)}
    _method_pages(site, sources, results, rows, benchmark, show_values)
    texts = pages.exports(results, sources.reports)
    for name, text in texts.items():
        site.write(name, text)
    index = site.write("index.html", pages.summary(results, figures, drawn, texts, benchmark, show_values))
    site.close()
    return index


class _Rows:
    """The per-row outcomes of each line of the table; those of several seeds joined."""

    def __init__(self, sources: Sources, results: Results) -> None:
        self.paths = {run.report.name: [sources.paths[place] for place in run.places] for run in results.everything}

    def read(self, run: Run | None, metric: str) -> dict[str, list[object]] | None:
        """A metric's rows, a list a column; None where a sidecar is missing."""
        if run is None:
            return None
        parts = [read_outcomes(path, metric) for path in self.paths[run.report.name]]
        if not parts or any(part is None for part in parts):
            return None
        return {name: [cell for part in parts if part for cell in part[name]] for name in parts[0] or {}}

    def cosines(self, results: Results, method: Run | None = None) -> dict[str, Cosines]:
        """The cosines of each set whose rows both bounds, and the method, have."""
        panels = {}
        for metric in PANELS:
            found = [
                self.read(run, metric) for run in (results.clean, results.compromised, *((method,) if method else ()))
            ]
            if all(found):
                panels[metric] = Cosines(*(np.asarray(each["value"], dtype=np.float64) for each in found if each))
        return panels

    def ranks(self, run: Run | None) -> Ranks | None:
        """Rank of the true caption for each picture of the forget set."""
        found = self.read(run, "RetFail")
        told = [rank for rank in (found or {}).get("rank", ()) if isinstance(rank, int) and rank >= 1]
        return np.asarray(told, dtype=np.int64) if told else None


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
    sources: Sources, results: Results, rows: _Rows, benchmark: Benchmark | None, show_values: bool
) -> list[Figure | Omission]:
    """All figures of the summary."""
    sets = sources.reports[0].provenance.sets
    told = [
        plane(results),
        budgets(results),
        profile(results),
        fields_figure(results),
        ranks_figure([(_title(results, run), _colour(results, run), ranks) for run in results.everything
                      if (ranks := rows.ranks(run)) is not None]),
        cosines(rows.cosines(results)),
        relearning(sources.curves, results.compromised.value("RetFail") if results.compromised else None),
    ]  # fmt: skip
    if benchmark is None:
        reason = "It shows pictures of the data set; name its folder with --data."
        leak, persona, pipeline = (Omission(name, title, reason) for name, title in PICTURED)
        return [leak, *told, splits_figure(sets, {}), persona, pipeline]
    redactor = Redactor(benchmark, show_values=show_values)
    found = find_leak(
        benchmark, rows.read(results.compromised, "RetFail"), rows.read(results.clean, "RetFail"), redactor
    )
    sizes = {**sets, **{name: len(pairs) for name, pairs in benchmark.sets.items()}}
    return [
        leak_figure(benchmark, found, redactor),
        *told,
        splits_figure(sizes, _people(benchmark)),
        persona_figure(benchmark, found.identity_id if found else None, redactor),
        pipeline_figure(benchmark, redactor),
    ]


def _title(results: Results, run: Run) -> str:
    return run.label.capitalize() if run in results.bounds else run.label


def _colour(results: Results, run: Run) -> str:
    """A bound's own colour, else the verdict's."""
    if run is results.clean:
        return style.CLEAN
    if run is results.compromised:
        return style.COMPROMISED
    return style.VERDICTS[run.verdict.label][0] if run.verdict else style.UNJUDGED[0]


def _people(benchmark: Benchmark) -> dict[str, int]:
    """Identities that are halved, forgotten whole and held out whole."""
    forget, half, out = (set(benchmark.sets[name].identity_id) for name in SENSITIVE_SPLITS)
    return {"halved": len(half), "whole": len(forget - half), "held_out": len(out)}


def _method_pages(
    site: Site, sources: Sources, results: Results, rows: _Rows, benchmark: Benchmark | None, show_values: bool
) -> None:
    redactor = Redactor(benchmark, show_values=show_values) if benchmark else None
    bounds = {name: (colour, ranks) for name, run, colour in (("Clean", results.clean, style.CLEAN),
              ("Compromised", results.compromised, style.COMPROMISED))
              if (ranks := rows.ranks(run)) is not None}  # fmt: skip
    for run in results.runs:
        stem = pages.slugs(results)[run.report.name]
        ranks = rows.ranks(run)
        panels = rows.cosines(results, run)
        own = "It needs this run's outcomes file beside its report, and those of both bounds."
        figures = [
            curve_figure({**bounds, run.label: (style.INK, ranks)} if ranks is not None else {}),
            cosines(panels, run.label) if panels else Omission("cosines", "Where its cosines went", own),
        ]
        drawn = {
            figure.name: _publish(figure, site, f"figures/{stem}-") for figure in figures if isinstance(figure, Figure)
        }
        told = rows.read(run, "RetFail") if benchmark else None
        leaks = examples(benchmark, told, redactor) if benchmark and redactor and told else None
        members = [sources.reports[place] for place in run.places]
        site.write(f"methods/{stem}.html", pages.method_page(results, run, members, figures, drawn, leaks, show_values))


def _publish(figure: Figure, site: Site, prefix: str) -> Markup:
    """Writes a figure's files and returns it for the page, in the wide and the narrow drawing."""
    salt = f"{prefix}{figure.name}"
    with style.style(salt):
        canvas = figure.draw(style.WIDE)
        svg, png = style.to_svg(canvas, alt=figure.alt, title=figure.title), style.to_png(canvas)
    with style.style(f"{salt}-narrow"):
        narrow = style.to_svg(figure.draw(style.NARROW), alt=figure.alt, title=figure.title)
    site.write(f"{salt}.svg", svg)
    site.write(f"{salt}.png", png)
    both = zip(("wide", "narrow"), (svg, narrow), strict=True)  # matplotlib and ``inline`` escape what they write
    return Markup("".join(f'<div class="{kind}">{style.inline(each, figure.alt)}</div>' for kind, each in both))
