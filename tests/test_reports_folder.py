"""What a site's folder holds: texts to paste, what is read, what a rebuilt site removes, and attacks' curves."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports_world import HOSTILE, METHODS, make_data, make_reports, unlearned
from salmubench.atomic import read_json, write_json
from salmubench.dataset.store import load_benchmark
from salmubench.errors import UserError
from salmubench.evaluation.report import read_report, write_report
from salmubench.reports.exports import cell, latex, table_csv, tex
from salmubench.reports.pages import slug
from salmubench.reports.publish import MANIFEST, Site
from salmubench.reports.relearning import Curve, read_curves, relearning
from salmubench.reports.results import arrange
from salmubench.reports.site import build_site
from salmubench.reports.sources import read_sources
from salmubench.reports.style import Omission


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("folder")
    benchmark = load_benchmark(make_data(folder / "data", people=6, pictures=8, long_side=32))
    chosen = {name: METHODS[name] for name in ("delete-2x", "vlunlearn-2x")}
    return make_reports(folder / "reports", benchmark, methods=chosen, sidecars=False)


def test_csv_holds_every_number_with_all_digits(reports: list[Path]) -> None:
    stored = [read_report(path) for path in reports]
    rows = list(csv.DictReader(io.StringIO(table_csv(arrange(stored)))))
    assert {(row["run"], row["metric"]): float(row["value"]) for row in rows} == {
        (report.name, key): entry.value for report in stored for key, entry in report.metrics.items()
    }
    assert {row["verdict"] for row in rows if row["run"] == "delete-2x"} == {"over-generalised"}


def test_latex_has_a_cell_for_every_column_and_marks_the_best(reports: list[Path]) -> None:
    text = latex(arrange([read_report(path) for path in reports]))
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count("&") for line in rows} == {10}
    assert len(rows) == 1 + 2 * len(reports)
    assert r"\textbf{0.002}" in text
    assert "delete~2$\\times$" in text


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_latex_compiles(reports: list[Path], tmp_path: Path) -> None:
    body = latex(arrange([read_report(path) for path in reports]))
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + body + "\\end{document}"
    )
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)


@given(st.text(max_size=40) | st.sampled_from(HOSTILE))
def test_no_text_is_a_command_of_latex_or_a_formula_of_a_spreadsheet(text: str) -> None:
    left = tex(text)
    for allowed in (r"\\text[a-z]+\{\}", r"\\[{}$&#%_]", r"\$(\\times|-)\$", "~", "--"):
        left = re.sub(allowed, "", left)
    assert not set(left) & set("\\{}$&#%_^")
    assert not cell(text).lstrip().startswith(("=", "+", "-", "@"))


@given(st.text(max_size=30) | st.sampled_from(HOSTILE), st.text(max_size=30))
def test_a_page_is_called_as_a_file_can_be_and_no_two_alike(one: str, other: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,70}", slug(one))
    assert (slug(one) == slug(other)) == (one == other)


def test_usual_names_are_kept() -> None:
    assert slug("delete-2x") == "delete-2x"
    assert slug("Delete-2x") != slug("delete-2x")


def test_a_rebuilt_site_removes_pages_of_runs_that_are_gone_and_nothing_else(
    reports: list[Path], tmp_path: Path
) -> None:
    build_site(reports, tmp_path)
    assert (tmp_path / "methods" / "delete-2x.html").is_file()
    (tmp_path / "methods" / "mine.html").write_text("mine")
    (tmp_path / "methods" / "vlunlearn-2x.html").write_text("edited by hand")
    build_site(reports[:2], tmp_path)
    assert {path.name for path in (tmp_path / "methods").iterdir()} == {"mine.html", "vlunlearn-2x.html"}
    assert not (tmp_path / "figures" / "plane.svg").exists()
    listed = read_json(tmp_path / MANIFEST)["files"]
    assert all((tmp_path / name).is_file() for name in listed)
    assert not [name for name in listed if "methods/" in name]


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname", "link/outside.txt", "", ".", "a\\b", "x\x00y"])
def test_a_manifest_reaches_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("keep")
    site = Site(tmp_path / "site")
    site.write("kept.txt", "keep")
    site.close()
    (tmp_path / "site" / "link").symlink_to(tmp_path)
    digest = site.written["kept.txt"]
    write_json(tmp_path / "site" / MANIFEST, {"schema": 1, "files": {name: digest}})
    Site(tmp_path / "site").close()
    assert outside.read_text() == "keep"
    assert (tmp_path / "site" / "kept.txt").is_file()


@pytest.mark.parametrize("content", ["no json", "[]", '{"files": 3}', '{"files": {"x": 1}}'])
def test_a_broken_manifest_removes_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    (tmp_path / "x").write_text("x")
    Site(tmp_path).close()
    assert (tmp_path / "x").is_file()


def attack(folder: Path, name: str, **probe: Any) -> Path:
    path = folder / f"{name}-attack.json"
    points = [
        {"steps": steps, "mrr": 0.01 * steps, "assocstr": 0.2, "control": {"mrr": 0.0}, "intervals": {"mrr": [0, 0.1]}}
        for steps in (0, 1, 5)
    ]
    write_json(path, {"schema": 1, "name": name, "probes": {"relearning": {"curve": points, **probe}}})
    return path


def test_folders_of_a_sweep_give_their_reports_and_attacks(reports: list[Path], tmp_path: Path) -> None:
    for path in reports:
        run = tmp_path / "runs" / path.stem
        run.mkdir(parents=True)
        shutil.copy(path, run / "report.json")
    attack(tmp_path, "x").rename(tmp_path / "runs" / "delete-2x" / "attack.json")
    found = read_sources([tmp_path, tmp_path / "runs" / "delete-2x" / "report.json"])
    assert sorted(report.name for report in found.reports) == sorted(path.stem for path in reports)
    assert found.curves == (Curve("x", (0, 1, 5), (0.0, 0.01, 0.05), ((0.0, 0.1),) * 3, (0.0,) * 3),)
    assert read_sources([reports[0].parent]) == read_sources(sorted(reports))
    results = tmp_path / "results.parquet"
    listed = pa.table({"run": ["delete-2x", "delete-2x", "failed-1x"], "value": [0.5, None, None]})
    pq.write_table(listed, results)
    (one,) = read_sources([results]).paths
    assert one == tmp_path / "runs" / "delete-2x" / "report.json"
    pq.write_table(listed.drop_columns(["value"]), results)
    with pytest.raises(UserError, match="no run in it is finished"):
        read_sources([results])
    pq.write_table(listed.drop_columns(["run"]), results)
    with pytest.raises(UserError, match="lacks the column 'run'"):
        read_sources([results])
    results.write_bytes(b"PAR1 cut off")
    with pytest.raises(UserError, match="not a whole parquet file"):
        read_sources([results])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no report"):
        read_sources([tmp_path / "empty"])
    with pytest.raises(UserError, match="no report to show"):
        read_sources([attack(tmp_path, "alone")])


@pytest.mark.parametrize(
    "probes",
    [
        {},
        [],
        {"relearning": 3},
        {"relearning": {"curve": "x"}},
        {"relearning": {"curve": [{"steps": "1", "mrr": 0.1}, {"steps": 2}, {"steps": 3, "mrr": 7}, None]}},
        {"relearning": {"curve": [{"steps": 1, "mrr": 0.1, "control": 3, "intervals": [1]}]}},
    ],
)
def test_what_is_no_curve_is_passed_over(tmp_path: Path, probes: Any) -> None:
    write_json(tmp_path / "a.json", {"schema": 1, "name": "a", "probes": probes})
    assert read_curves(tmp_path / "a.json") == []
    assert isinstance(relearning([], None), Omission)


def test_attacks_and_budgets_are_drawn(reports: list[Path], tmp_path: Path) -> None:
    more = []
    for budget in (1, 5):
        base = read_report(reports[3]).model_copy(update={"name": f"v-{budget}", "verdict": None})
        more.append(tmp_path / f"v-{budget}.json")
        write_report(unlearned(base, "vlunlearn", budget, 1), more[-1])
    attacks = [attack(tmp_path, "delete-2x")]
    page = build_site([*reports, *more, *attacks], tmp_path / "site").read_text()
    assert {path.stem for path in (tmp_path / "site" / "figures").glob("*.svg")} >= {"budgets", "recovery"}
    assert "Lines of retrieval leakage over steps of relearning. delete-2x from 0.000 to 0.050" in page
    settings = (tmp_path / "site" / "methods" / "v-5.html").read_text()
    assert "<dt>learning rate</dt><dd>3e-05</dd>" in settings
    assert "forget 10, retain 20" in settings
