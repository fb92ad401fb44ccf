"""Reports, official files and sidecars that are damaged or made to mislead: each is refused in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from salmubench.atomic import write_json
from salmubench.errors import UserError
from salmubench.evaluation.breakdown import breakdown
from salmubench.evaluation.compare import compare
from salmubench.evaluation.report import outcomes_path
from test_evaluation_trust import by_metric, edit
from test_evaluation_trust import copied as copied
from test_evaluation_trust import models as models
from test_evaluation_trust import written as written

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
