"""What makes a number trustworthy: error bars of differences, parts of the whole, options by name, verification."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from encoders_world import checkpoint
from salmubench.atomic import write_json
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


HOSTILE_REPORTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "an extra that is text": (lambda c: c["metrics"]["RetFail"].update({"R@1": "high"}), r"metrics\.RetFail\.R@1"),
    "an extra that is NaN": (lambda c: c["metrics"]["RetFail"].update({"R@1": float("nan")}), r"metrics\.RetFail\.R@1"),
    "a number without end": (lambda c: c["metrics"]["ACS"].update(value=10**400), r"metrics\.ACS\.value"),
    "an infinite bound": (lambda c: c["metrics"]["ACS"].update(interval=[0, float("inf")]), r"metrics\.ACS\.interval"),
    "a nested option": (lambda c: c["metrics"]["ACS"].update(options={"feature": {}}), r"metrics\.ACS\.options"),
    "groups that are a list": (lambda c: c["metrics"]["ACS"].update(by_field=[1]), r"metrics\.ACS\.by_field"),
    "a value that is text": (lambda c: c["metrics"]["ACS"].update(value="0.5"), r"metrics\.ACS\.value"),
    "a value that is a truth": (lambda c: c["metrics"]["ACS"].update(value=True), r"metrics\.ACS\.value"),
    "a share of seven": (lambda c: c["metrics"]["ACS"].update(value=7), r"metrics\.ACS: 7 is outside its range"),
    "a share below nothing": (
        lambda c: c["metrics"]["RetFail"].update({"R@1": -0.5}), r"metrics\.RetFail: -0\.5 is outside its range"),
    "a bound out of range": (
        lambda c: c["metrics"]["VisIdInt"].update(interval=[-3, 0]), r"metrics\.VisIdInt: -3 is outside its range"),
    "a group out of range": (
        lambda c: c["metrics"]["AssocStr"]["by_field"]["city"].update(value=2), r"metrics\.AssocStr: 2 is outside its"),
    "an interval from its end": (lambda c: c["metrics"]["ACS"].update(interval=[0.9, 0.1]), r"metrics\.ACS\.interval"),
    "fewer rows than none": (lambda c: c["metrics"]["ACS"].update(rows=-4), r"metrics\.ACS\.rows"),
    "a member gone": (lambda c: c.pop("provenance"), "provenance: it is missing"),
    "metrics that are none": (lambda c: c.update(metrics=None), "metrics"),
    "a limit of nothing": (lambda c: c["provenance"].update(limit=0), r"provenance\.limit"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_REPORTS)
def test_a_hostile_report_is_one_sentence(copied: list[Path], name: str) -> None:
    change, where = HOSTILE_REPORTS[name]
    path = edit(copied[0], change)
    for read in (lambda: compare(path, path), lambda: breakdown(path)):
        with pytest.raises(UserError, match=rf"a\.json: not a SALMUBench report \({where}") as error:
            read()
        assert "\n" not in str(error.value)


def test_a_report_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UserError, match="larger than any report"):
        compare(tmp_path / "x.json", tmp_path / "x.json")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "1" + 400 * "0", "true", '"x"', "[1]"])
def test_a_hostile_official_file_is_one_sentence(tmp_path: Path, value: str) -> None:
    path = tmp_path / "evaluation_x.json"
    path.write_text('{"efficacy": {"1.2_AssocStr": {"mean": %s}}, "utility": {}}' % value)  # noqa: UP031
    with pytest.raises(UserError, match=r"evaluation_x\.json: 1\.2_AssocStr\.mean is .*, not a number"):
        compare(path, path)


def test_the_official_evaluators_own_members_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "evaluation_x.json"
    write_json(path, {
        "meta": {"model": "x"},
        "efficacy": {"1.2_AssocStr": {"mean": 0.3, "std": 0.1}, "1.6_New": {"mean": 1}, "1.3_ACS": -1.0},
        "utility": {"2.1_GenKnow": {"ImageNet1k_Accuracy": -1.0}, "2.2_InterIdSim": None},
    })  # fmt: skip
    rows = by_metric(compare(path, path))
    assert rows["AssocStr"].a == 0.3
    assert rows["ACS"].a is rows["GenKnow"].a is rows["InterIdSim"].a is None


def spoilt(table: pa.Table, column: str, value: Any) -> pa.Table:
    cells = table[column].to_pylist()
    cells[0] = value
    return table.set_column(table.column_names.index(column), column, pa.array(cells))


HOSTILE_SIDECARS: dict[str, tuple[Callable[[pa.Table], pa.Table | bytes], str]] = {
    "no parquet": (lambda table: b"PAR1 no parquet at all PAR1", "not a sidecar"),
    "empty": (lambda table: b"", "not a sidecar"),
    "a column gone": (lambda table: table.drop_columns(["identity_id"]), "lacks the column 'identity_id'"),
    "text for numbers": (
        lambda table: table.set_column(5, "value", pa.array(["high"] * len(table))), "not a sidecar"),
    "lists for names": (
        lambda table: table.set_column(1, "file_name", pa.array([[1]] * len(table))), "not a sidecar"),
    "NaN": (lambda table: spoilt(table, "value", float("nan")), "'value' has empty or not finite cells"),
    "infinite": (lambda table: spoilt(table, "value", float("inf")), "'value' has empty or not finite cells"),
    "a null": (lambda table: spoilt(table, "file_name", None), "'file_name' has empty or not finite cells"),
    "a huge value": (lambda table: spoilt(table, "value", 1e308), "belongs to another report"),
    "rows gone": (lambda table: table.slice(1), "belongs to another report"),
    "rows twice": (lambda table: pa.concat_tables([table, table]), "belongs to another report"),
    "no rows": (lambda table: table.slice(0, 0), "belongs to another report"),
    "too many rows": (lambda table: pa.table({"metric": pa.nulls(20_000_001)}), "has 20000001 rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_SIDECARS)
def test_a_hostile_sidecar_is_one_sentence(copied: list[Path], name: str) -> None:
    change, message = HOSTILE_SIDECARS[name]
    path = outcomes_path(copied[0])
    content = change(pq.read_table(path))
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(content, path)
    for read in (lambda: compare(*copied), lambda: breakdown(copied[0])):
        with pytest.raises(UserError, match=rf"a\.outcomes\.parquet: .*{message}"):
            read()


def test_one_endless_name_does_not_widen_all_others(copied: list[Path]) -> None:
    path = outcomes_path(copied[0])
    pq.write_table(spoilt(pq.read_table(path), "file_name", "x" * 10**7), path)
    with pytest.raises(UserError, match="the rows of RetFail do not match"):
        compare(*copied)
