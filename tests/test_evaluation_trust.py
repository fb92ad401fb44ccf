"""What makes a number trustworthy: error bars of differences, parts of the whole, options by name, verification."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from encoders_world import checkpoint
from salmubench.cli import app, main
from salmubench.dataset.schema import FIELDS, STYLES
from salmubench.dataset.store import load_benchmark
from salmubench.errors import UserError
from salmubench.evaluation.breakdown import breakdown
from salmubench.evaluation.compare import ComparisonRow, compare
from salmubench.evaluation.protocol import Settings, evaluate
from salmubench.evaluation.report import outcomes_path, read_report
from salmubench.evaluation.verify import verify
from salmubench.seeds import generator
from test_evaluation_bootstrap import naive_interval

CPU: Settings = {"device": "cpu", "workers": 1}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [checkpoint(folder / name, seed) for seed, name in enumerate("ab")]


@pytest.fixture(scope="module")
def written(world: Path, models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("reports")
    paths = [folder / f"{model.name}.json" for model in models]
    for model, path in zip(models, paths, strict=True):
        evaluate(model, world, out=path, official=folder / f"evaluation_{model.name}.json", **CPU)
    return paths


@pytest.fixture
def copied(written: list[Path], tmp_path: Path) -> list[Path]:
    """The reports with their sidecars, to be spoilt."""
    for path in written:
        shutil.copy(path, tmp_path)
        shutil.copy(outcomes_path(path), tmp_path)
    return [tmp_path / path.name for path in written]


def by_metric(rows: list[ComparisonRow]) -> dict[str, ComparisonRow]:
    return {row.metric: row for row in rows}


def rows_of(report: Path, metric: str) -> list[dict[str, Any]]:
    return [row for row in pq.read_table(outcomes_path(report)).to_pylist() if row["metric"] == metric]


def edit(report: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = json.loads(report.read_text())
    change(content)
    report.write_text(json.dumps(content))
    return report


@pytest.mark.parametrize("metric", ["RetFail", "RetFail R@1", "ACS", "GenKnow", "InterIdSim", "VisIdInt"])
def test_a_differences_interval_draws_the_same_people_for_both(written: list[Path], metric: str) -> None:
    """Matched by hand through the rows' names; the n-th outcome of a name in ACS is the n-th of the other report."""
    row = by_metric(compare(*written))[metric]
    tables = []
    for path in written:
        seen: dict[str, int] = {}
        values = {}
        for outcome in rows_of(path, metric):
            name = outcome["file_name"]
            values[name, seen.setdefault(name, 0)] = outcome
            seen[name] += 1
        tables.append(values)
    assert tables[0].keys() == tables[1].keys()
    names = sorted(tables[0])
    differences = [tables[1][name]["value"] - tables[0][name]["value"] for name in names]
    rng = generator(42, "bootstrap", metric.split()[0])
    draw = lambda size: rng.integers(size, size=size).tolist()  # noqa: E731
    naive = naive_interval(differences, [tables[0][name]["identity_id"] for name in names], draw)
    assert row.interval == pytest.approx(naive, abs=1e-9)
    assert row.difference == pytest.approx(np.mean(differences), abs=1e-9)
    assert row.differs == (not naive[0] <= 0 <= naive[1])


def test_pairing_narrows_the_interval_and_a_result_does_not_differ_from_itself(written: list[Path]) -> None:
    itself = compare(written[0], written[0])
    assert {row.interval for row in itself if row.difference is not None} == {(0.0, 0.0)}
    assert not any(row.differs for row in itself)
    entries = [read_report(path).metrics["AssocStr"] for path in written]
    alone = [entry.interval[1] - entry.interval[0] for entry in entries if entry.interval]
    low, high = by_metric(compare(*written))["AssocStr"].interval or (0, 9)
    assert high - low < sum(alone)


def test_the_order_of_a_sidecars_rows_does_not_matter(copied: list[Path]) -> None:
    expected = compare(*copied)
    table = pq.read_table(outcomes_path(copied[1]))
    pq.write_table(table.sort_by([("metric", "descending"), ("identity_id", "ascending")]), outcomes_path(copied[1]))
    acs = {"ACS", "ACS product"}  # two outcomes a row: their order is what tells the true pair from the wrong one
    found = compare(*copied)
    assert [row.interval for row in found if row.metric not in acs] == [
        row.interval for row in expected if row.metric not in acs
    ]


def test_where_rows_are_not_there_the_reason_is_told(copied: list[Path], written: list[Path], capsys: Any) -> None:
    outcomes_path(copied[1]).unlink()
    rows = compare(*copied)
    assert {row.interval for row in rows} == {None}
    assert {row.reason for row in rows if row.difference is not None} == {
        "b.outcomes.parquet, the per-row outcomes, is not there"
    }
    official = written[0].with_name("evaluation_a.json")
    for mixed in (compare(official, copied[0]), compare(copied[0], official)):
        assert by_metric(mixed)["RetFail"].reason == (
            "evaluation_a.json is the official evaluator's: it has no per-row outcomes, and does not say what rows it "
            "measured"
        )
        assert by_metric(mixed)["RetFail"].difference == 0
        assert by_metric(mixed)["ACS product"].difference is None
    report = read_report(copied[0])
    assert "without the path" in str(compare(report, copied[0])[0].reason)
    app(["compare", str(official), str(copied[0])], standalone_mode=False)
    assert capsys.readouterr().out.count("No interval: ") == 1


def test_the_command_line_marks_what_differs(copied: list[Path], capsys: Any) -> None:
    def raised(content: dict[str, Any]) -> None:
        content["metrics"]["AssocStr"]["value"] += 0.5

    edit(copied[1], raised)
    table = pq.read_table(outcomes_path(copied[1]))
    more = pc.if_else(pc.equal(table["metric"], "AssocStr"), 0.5, 0.0)
    value = table.column_names.index("value")
    pq.write_table(table.set_column(value, "value", pc.add(table["value"], more)), outcomes_path(copied[1]))
    app(["compare", *map(str, copied)], standalone_mode=False)
    starred = {line.split()[0] for line in capsys.readouterr().out.splitlines() if "*" in line}
    assert "AssocStr" in starred
    assert starred == {row.metric.split()[0] for row in compare(*copied) if row.differs}


def test_other_rows_are_not_compared(world: Path, models: list[Path], tmp_path: Path) -> None:
    for seed in (1, 2):
        evaluate(models[0], world, out=tmp_path / f"{seed}.json", limit=5, seed=seed, **CPU)
    with pytest.raises(
        UserError, match=r"1\.json and 2\.json: the rows of \S+ do not match, .* same --limit and --seed"
    ):
        compare(tmp_path / "1.json", tmp_path / "2.json")


@pytest.mark.parametrize(("by", "column", "names"), [("field", "data_field", FIELDS), ("style", "style", STYLES)])
def test_a_part_is_the_mean_of_its_rows(world: Path, written: list[Path], by: Any, column: str, names: Any) -> None:
    captions = load_benchmark(world).captions
    stored = read_report(written[0]).metrics
    found = breakdown(written[0], by)
    assert list(dict.fromkeys(row.metric for row in found)) == [
        "RetFail", "RetFail R@1", "AssocStr", "ACS", "ACS product", "IdZSC", "CoreAssoc", "InterIdSim", "IntraIdSim",
    ]  # fmt: skip
    for row in found:
        outcomes = rows_of(written[0], row.metric)
        own = [o["value"] for o in outcomes if getattr(captions[o["file_name"]], column) == row.group]
        assert (row.rows, row.value) == (len(own), pytest.approx(np.mean(own), abs=1e-12))
        assert all(o[column] == getattr(captions[o["file_name"]], column) for o in outcomes)
        if row.metric in stored:
            group = getattr(stored[row.metric], f"by_{by}")[row.group]
            assert (group.rows, group.value, group.interval) == (row.rows, pytest.approx(row.value), row.interval)
    order = [row.group for row in found if row.metric == "AssocStr"]
    assert order == [name for name in names if name in order]
    assert not stored["GenKnow"].by_field
    assert not stored["VisIdInt"].by_style


def test_people_stand_with_the_worst_first(written: list[Path]) -> None:
    for metric, reverse in (("AssocStr", True), ("InterIdSim", False)):
        found = breakdown(written[0], "identity", metric=metric)
        values = [row.value for row in found]
        assert values == sorted(values, reverse=reverse)
        outcomes = rows_of(written[0], metric)
        assert {row.group for row in found} == {o["identity_id"] for o in outcomes}
        for row in found:
            own = [o["value"] for o in outcomes if o["identity_id"] == row.group]
            assert (row.rows, row.value) == (len(own), pytest.approx(np.mean(own), abs=1e-12))
            assert row.interval is None or row.interval[0] <= row.value <= row.interval[1]
    assert {row.metric for row in breakdown(written[0], "identity")} == {"RetFail"}


def test_show(written: list[Path], capsys: Any) -> None:
    entry = read_report(written[0]).metrics["InterIdSim"]
    assert entry.interval is not None
    for options, words in (
        ([], ["Efficacy", "ACS product", f"{entry.interval[0]:.4f} to {entry.interval[1]:.4f}"]),
        (["--by", "field"], [*FIELDS, "RetFail R@1"]),
        (["--by", "style", "--metric", "AssocStr"], [*STYLES]),
        (["--by", "identity"], [breakdown(written[0], "identity")[0].group]),
    ):
        app(["show", str(written[0]), *options], standalone_mode=False)
        out = capsys.readouterr().out
        assert all(word in out for word in words)
        assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "job"}, "--by job: choose from field, style, identity"),
        ({"by": "field", "metric": "GenKnow"}, "no row of GenKnow tells its field"),
        ({"by": "identity", "metric": "Nothing"}, "--metric Nothing: .* choose one of RetFail"),
    ],
)
def test_a_break_down_that_is_not_there(written: list[Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        breakdown(written[0], **options)


def test_an_option_moves_the_headline_and_is_named(
    world: Path, models: list[Path], written: list[Path], tmp_path: Path
) -> None:
    plain = read_report(written[0])
    other = evaluate(models[0], world, out=tmp_path / "x.json", options={"ACS.feature": "product"}, **CPU)
    assert other.metrics["ACS"].options == {"feature": "product"}
    assert all(not entry.options for key, entry in other.metrics.items() if key != "ACS")
    (first, second) = (report.metrics["ACS"] for report in (plain, other))
    assert first.numbers() == {"": second.numbers()["cosine"], "product": second.value}
    assert first.interval_of("product") == second.interval
    assert first.interval == second.interval_of("cosine")
    told = r"ACS is measured with the default options here and with ACS\.feature=product in the report 'a'"
    with pytest.raises(UserError, match=told):
        compare(written[0], tmp_path / "x.json")
    with pytest.raises(UserError, match="evaluate both with the same --set"):
        evaluate(models[1], world, clean=written[0], compromised=written[1], options={"ACS.feature": "product"}, **CPU)
    assert verify(tmp_path / "x.json", models[0], world, **CPU) == []


def test_a_true_report_is_verified(world: Path, models: list[Path], written: list[Path], capsys: Any) -> None:
    assert verify(written[0], models[0], world, batch_size=7, **CPU) == []
    arguments = ["evaluate", str(models[0]), "--data", str(world), "--verify", str(written[0]), "--device", "cpu"]
    app(arguments, standalone_mode=False)
    assert capsys.readouterr().out == "verified: every number of a.json is within 1e-05\n"


def test_a_limited_report_is_measured_again_on_the_same_rows(world: Path, models: list[Path], tmp_path: Path) -> None:
    evaluate(models[0], world, out=tmp_path / "x.json", limit=4, seed=9, precision="bf16", **CPU)
    assert verify(tmp_path / "x.json", models[0], world, **CPU) == []


def test_each_lie_is_one_line(
    world: Path, models: list[Path], copied: list[Path], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lie(content: dict[str, Any]) -> None:
        entries = content["metrics"]
        entries["VisIdInt"]["value"] += 2e-5
        entries["VisIdInt"]["interval"][0] -= 0.1
        entries["GenKnow"]["version"] = 2
        entries["AssocStr"]["by_field"]["city"]["rows"] += 1
        content["provenance"]["sets"]["forget"] += 1
        content["provenance"]["data_revision"] = "sha256:0"

    outcomes_path(copied[0]).unlink()
    lines = verify(edit(copied[0], lie), models[0], world, **CPU)
    starts = [
        "data_revision: sha256:0 in the report, ",
        "sets.forget: ",
        "AssocStr city rows: ",
        "GenKnow version: 2 in",
    ]
    for start in [*starts, "VisIdInt interval from: "]:
        assert sum(line.startswith(start) for line in lines) == 1, start
    assert len(lines) == 6
    monkeypatch.setattr("sys.argv", ["salmubench", "evaluate", str(models[0]), "--data", str(world), "--verify",
                                     str(copied[0]), "--device", "cpu"])  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines() == lines


def test_other_weights_and_no_general_knowledge_are_named(world: Path, models: list[Path], written: list[Path]) -> None:
    lines = verify(written[0], models[1], world / "salmubench", **CPU)
    assert any(line.startswith("weights_sha256: ") for line in lines)
    assert any(line.startswith("general_knowledge: sha256:") and line.endswith("None now") for line in lines)


def test_a_sidecar_of_another_report_is_found(world: Path, models: list[Path], copied: list[Path]) -> None:
    shutil.copy(outcomes_path(copied[1]), outcomes_path(copied[0]))
    lines = verify(copied[0], models[0], world, **CPU)
    assert len(lines) == 1
    assert "belongs to another report" in lines[0]
    with pytest.raises(UserError, match="belongs to another report"):
        compare(*copied)
    with pytest.raises(UserError, match="belongs to another report"):
        breakdown(copied[0])
