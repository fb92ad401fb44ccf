"""Reports side by side: scores, order, what does not belong together, and the terminal's table."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from reports_world import CLEAN, COMPROMISED, EFFICACY, HOSTILE, METHODS, UTILITY, make_data, make_reports
from salmubench.dataset.store import Benchmark, load_benchmark
from salmubench.errors import UserError
from salmubench.evaluation.report import Report, read_report
from salmubench.reports.results import arrange, number, share, short
from salmubench.reports.table import table

KEYS = (*EFFICACY, *UTILITY)


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return load_benchmark(make_data(tmp_path_factory.mktemp("results"), people=6, pictures=8, long_side=32))


@pytest.fixture(scope="module")
def reports(benchmark: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> list[Report]:
    folder = tmp_path_factory.mktemp("reports")
    return [read_report(path) for path in make_reports(folder, benchmark, sidecars=False)]


def render(reports: list[Report], **options: object) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80, **options).print(table(reports))  # type: ignore[arg-type]
    return stream.getvalue()


def test_columns_are_efficacy_then_utility_in_the_papers_order(reports: list[Report]) -> None:
    results = arrange(list(reversed(reports)))
    assert tuple(column.key for column in results.efficacy) == EFFICACY
    assert tuple(column.key for column in results.utility) == UTILITY


def test_scores_by_hand(reports: list[Report]) -> None:
    results = arrange(reports)
    run = next(run for run in results.runs if run.report.name == "negative-gradient-2x")
    got = {column.key: results.score(run, column) for column in results.columns}
    v, lo, hi = METHODS["negative-gradient-2x"], dict(zip(KEYS, CLEAN, strict=True)), COMPROMISED
    for place, key in enumerate(KEYS):
        value, clean, compromised = v[place], lo[key], hi[place]
        if key in EFFICACY:
            expected = (compromised - value) / (compromised - clean)
        elif key in ("InterIdSim", "IntraIdSim"):
            expected = (value - clean) / (compromised - clean)
        else:
            expected = value / compromised
        assert got[key] == pytest.approx(expected)
    assert got["AssocStr"] > 1  # below Clean: over-corrected
    told = {key: results.missed(run, column) for key, column in zip(got, results.columns, strict=True)}
    for key, score in got.items():
        assert score is not None
        far = min(100, round(100 * abs(1 - score)))
        nothing = far < 3 or (score > 1 and key not in EFFICACY)
        assert told[key] == (("", 0) if nothing else ("leak" if key in EFFICACY and score < 1 else "damage", far))
    assert {kind for kind, _ in told.values()} == {"", "leak", "damage"}
    assert {results.missed(bound, column) for bound in results.bounds for column in results.columns} == {("", 0)}


def test_scores_of_the_bounds_are_the_ends_of_the_scale(reports: list[Report]) -> None:
    results = arrange(reports)
    assert results.clean is not None
    assert results.compromised is not None
    for column in results.efficacy:
        assert results.score(results.clean, column) == pytest.approx(1)
        assert results.score(results.compromised, column) == pytest.approx(0)
    for column in results.utility:
        assert results.score(results.compromised, column) == pytest.approx(1)


def test_best_first_and_nearest_to_the_target_is_marked(reports: list[Report]) -> None:
    results = arrange(reports)
    assert results.runs[0].report.name == "vlunlearn-2x"
    assert results.runs[-1].report.name == "direct-similarity-minimization-2x"
    best = {column.key: results.best(column) for column in results.columns}
    assert best["RetFail"] == {"delete-2x"}  # Clean's own value
    assert best["InterIdSim"] == {"generic-captions-2x"}
    assert best["IdZSC"] == {"cliperase-2x", "delete-2x", "direct-similarity-minimization-2x"}


def test_utility_kept_is_the_least_of_three(reports: list[Report]) -> None:
    results = arrange(reports)
    run = next(run for run in results.runs if run.report.name == "shuffled-captions-2x")
    assert run.verdict is not None
    assert run.utility_kept == min(
        run.verdict.inter_identity_kept, run.verdict.intra_identity_kept, run.verdict.general_knowledge_kept or 9
    )


def test_verdicts_are_made_up_for_where_the_bounds_are_there(reports: list[Report]) -> None:
    bare = [report.model_copy(update={"verdict": None}) for report in reports]
    assert [run.verdict for run in arrange(bare).runs] == [run.verdict for run in arrange(reports).runs]
    assert all(run.verdict is None for run in arrange(bare[2:]).runs)


@pytest.mark.parametrize("change", ["data_revision", "name", "version", "none"])
def test_what_does_not_belong_in_one_table_is_refused(reports: list[Report], change: str) -> None:
    first, second = reports[0], reports[2]
    if change == "data_revision":
        provenance = second.provenance.model_copy(update={"data_revision": "sha256:other"})
        second, words = second.model_copy(update={"provenance": provenance}), "other data"
    elif change == "name":
        second, words = second.model_copy(update={"name": first.name}), "two reports are called"
    elif change == "version":
        entry = second.metrics["ACS"].model_copy(update={"version": 2})
        second, words = second.model_copy(update={"metrics": {**second.metrics, "ACS": entry}}), "ACS has version"
    else:
        with pytest.raises(UserError, match="no report to show"):
            arrange([])
        return
    with pytest.raises(UserError, match=words):
        arrange([first, second])


def test_table_fits_80_columns_with_bounds_on_top_and_every_number(reports: list[Report]) -> None:
    text = render(reports)
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= 80
    rows = [line.split()[0] for line in lines if line.strip()]
    assert rows.index("clean") < rows.index("compromised") < rows.index("vlunlearn")
    for values in (CLEAN, COMPROMISED, *METHODS.values()):
        assert any(all(short(value) in line for value in values) for line in lines)
    assert "…" not in text
    assert "over-generalised" in text
    assert "\x1b" not in text


def test_table_is_coloured_on_a_terminal_only(reports: list[Report]) -> None:
    assert "\x1b[" in render(reports, force_terminal=True, color_system="standard", no_color=False)
    assert "\x1b[3" not in render(reports, force_terminal=True, no_color=True).replace("\x1b[3m", "")


def test_table_of_one_report_and_of_skipped_metrics(benchmark: Benchmark, tmp_path: Path) -> None:
    paths = make_reports(
        tmp_path, benchmark, methods={"delete-2x": METHODS["delete-2x"]}, bounds=(), skip=("GenKnow",), sidecars=False
    )
    text = render([read_report(path) for path in paths])
    assert "delete" in text
    assert "–" in text


def test_table_shows_hostile_names_as_text(reports: list[Report]) -> None:
    hostile = [reports[2].model_copy(update={"name": name}) for name in (*HOSTILE, "[red]x[/red]", "[/]")]
    text = render([*reports[:2], *hostile], force_terminal=True, color_system="standard")
    assert "[red]x[/red]" in text
    assert "\u202e" not in text
    assert "\x07" not in text


@pytest.mark.parametrize(
    ("value", "long", "brief", "percent"),
    [
        (0.2361, "0.236", ".236", "24\u00a0%"),
        (-0.42, "−0.420", "−.420", "−42\u00a0%"),
        (-0.0001, "0.000", ".000", "0\u00a0%"),
        (1.5, "1.500", "1.500", "150\u00a0%"),
        (None, "–", "–", "–"),
    ],
)
def test_numbers_as_people_read_them(value: float | None, long: str, brief: str, percent: str) -> None:
    assert (number(value), short(value), share(value)) == (long, brief, percent)
