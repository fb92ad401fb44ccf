"""``report``, ``compare`` and ``show`` as a user runs them: tables for people, plain when piped, JSON for machines."""

import json
import re
from pathlib import Path

import pytest

from commands import salmubench
from reports_world import HOSTILE, METHODS, make_data, make_reports
from salmubench.atomic import read_json, write_json
from salmubench.cli import app
from salmubench.dataset.store import load_benchmark


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("cli")
    benchmark = load_benchmark(make_data(folder / "data", people=6, pictures=8, long_side=32))
    return make_reports(folder / "reports", benchmark, methods={"delete-2x": METHODS["delete-2x"]}, sidecars=False)


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    app([*map(str, arguments)], standalone_mode=False)
    return capsys.readouterr().out


def test_show_ends_with_the_verdict_in_words_within_80_columns(
    reports: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, "show", reports[2])
    assert "delete-2x over-generalised: 100.0% of the leak is gone" in out
    assert max(map(len, out.splitlines())) <= 80


def test_piped_output_is_plain(reports: list[Path]) -> None:
    done = salmubench("show", reports[2])
    assert done.returncode == 0, done.stderr
    assert "over-generalised" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(("verb", "places"), [("show", (2,)), ("compare", (1, 2))])
def test_no_color_is_honoured(
    reports: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str,
    places: tuple[int, ...],
) -> None:  # fmt: skip
    colour = re.compile(r"\x1b\[[\d;]*(?:3[0-8]|9[0-7])[\d;]*m")
    paths = [reports[place] for place in places]
    assert "\x1b" not in shown(capsys, verb, *paths)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert bool(colour.search(shown(capsys, verb, *paths))) == (verb == "show")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(shown(capsys, verb, *paths))


def test_show_json_is_the_stored_report(reports: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(shown(capsys, "show", reports[2], "--json")) == read_json(reports[2])


def test_compare_json_has_every_row(reports: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(shown(capsys, "compare", reports[0], reports[2], "--json"))
    fail = next(row for row in rows if row["metric"] == "AssocStr")
    assert fail["difference"] == pytest.approx(0.01 - 0.12)
    assert fail["differs"] is False
    assert "outcomes" in fail["reason"]
    assert {row["metric"] for row in rows} >= {*read_json(reports[0])["metrics"]}


@pytest.mark.parametrize("text", [*HOSTILE, "\x9b31m", "\u2028", "\u0085"])
def test_json_steers_no_terminal(
    reports: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    write_json(tmp_path / "r.json", {**read_json(reports[2]), "name": text})
    out = shown(capsys, "show", tmp_path / "r.json", "--json")
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    assert json.loads(out)["name"] == text


def test_report_takes_a_folder(reports: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, "report", reports[0].parent.parent, "--out", tmp_path / "site")
    assert out.strip() == f"The report: {tmp_path / 'site' / 'index.html'}"
    assert (tmp_path / "site" / "methods" / "delete-2x.html").is_file()
