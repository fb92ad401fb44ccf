"""What is made of the numbers: the verdict, the official evaluator's file, the comparison."""

import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salmubench.errors import UserError
from salmubench.evaluation.compare import compare
from salmubench.evaluation.metric import describe
from salmubench.evaluation.official import read_official, write_official
from salmubench.evaluation.report import MetricEntry, Provenance, Report, read_report, write_report
from salmubench.evaluation.verdict import judge

PUBLISHED = {  # benchmark.md section 5: RetFail, GenKnow, InterIdSim, IntraIdSim after the 5x budget
    "Clean": (0.001, 0.633, 0.143, 0.143),
    "Compromised": (0.236, 0.638, 0.321, 0.321),
    "CLIPErase": (0.001, 0.634, 0.024, 0.024),
    "DELETE": (0.001, 0.632, 0.023, 0.023),
    "VLUnlearn": (0.001, 0.638, 0.210, 0.210),
    "Finetuning": (0.003, 0.638, 0.209, 0.209),
    "Negative Gradient": (0.009, 0.630, 0.063, 0.061),
    "Shuffled Captions": (0.004, 0.548, 0.212, 0.212),
    "Direct Sim. Min.": (0.001, 0.615, -0.420, -0.425),
}


def report(name: str, values: dict[str, float | None], *, version: int = 1, **provenance: Any) -> Report:
    entries = {}
    for spec in describe():
        value = values.get(spec.key)
        extra = {"R@1": values.get("R@1", 0.0)} if spec.key == "RetFail" and value is not None else {}
        entries[spec.key] = MetricEntry(value=value, version=version, target=spec.target, **extra)
    facts = {
        "weights_sha256": name, "architecture": "small", "data": "data", "data_revision": "sha256:1",
        "association_split": "pair", "sets": {"forget": 10}, "precision": "fp32", "device": "cpu", "seed": 42,
        "versions": {},
    } | provenance  # fmt: skip
    return Report(schema=1, name=name, metrics=entries, provenance=Provenance(**facts))


def published(name: str, numbers: tuple[float, ...] | None = None) -> Report:
    keys = ("RetFail", "GenKnow", "InterIdSim", "IntraIdSim")
    return report(name, dict(zip(keys, numbers or PUBLISHED[name], strict=True)))


CLEAN, COMPROMISED = published("Clean"), published("Compromised")


@pytest.mark.parametrize(
    ("name", "modes"),
    [
        ("CLIPErase", ["over-generalised"]),
        ("DELETE", ["over-generalised"]),
        ("VLUnlearn", ["over-generalised"]),
        ("Finetuning", ["over-generalised"]),
        ("Negative Gradient", ["over-generalised"]),
        ("Shuffled Captions", ["catastrophic", "over-generalised"]),
        ("Direct Sim. Min.", ["catastrophic", "over-generalised"]),
    ],
)
def test_the_papers_rows_get_the_papers_failure_modes(name: str, modes: list[str]) -> None:
    verdict = judge(published(name), CLEAN, COMPROMISED)
    assert verdict is not None
    assert (verdict.label, verdict.failure_modes) == (modes[0], modes)


@pytest.mark.parametrize(
    ("numbers", "modes"),
    [
        ((0.001, 0.638, 0.321, 0.321), []),
        ((0.024, 0.620, 0.304, 0.304), []),
        ((0.200, 0.638, 0.320, 0.320), ["ineffective"]),
        ((0.025, 0.638, 0.320, 0.320), ["ineffective"]),
        ((0.001, 0.618, 0.320, 0.320), ["catastrophic"]),
        ((0.001, 0.638, 0.302, 0.320), ["over-generalised"]),
        ((0.001, 0.638, 0.320, 0.302), ["over-generalised"]),
        ((0.200, 0.100, 0.000, 0.000), ["catastrophic", "ineffective", "over-generalised"]),
    ],
)
def test_each_threshold(numbers: tuple[float, ...], modes: list[str]) -> None:
    verdict = judge(published("method", numbers), CLEAN, COMPROMISED)
    assert verdict is not None
    assert verdict.label == (modes[0] if modes else "forgets")
    assert verdict.failure_modes == modes


@given(share=st.floats(-1, 2))
def test_a_model_on_the_line_between_the_bounds_stands_where_it_stands(share: float) -> None:
    low, high = PUBLISHED["Clean"], PUBLISHED["Compromised"]
    numbers = tuple(a + share * (b - a) for a, b in zip(low, high, strict=True))
    verdict = judge(published("between", numbers), CLEAN, COMPROMISED)
    assert verdict is not None
    assert verdict.leakage_reduction == pytest.approx(1 - share)
    assert verdict.inter_identity_kept == pytest.approx(share)
    assert verdict.intra_identity_kept == pytest.approx(share)
    reduction = verdict.leakage_reduction
    leak = f"{reduction:.1%} of the leak is gone" if reduction >= 0 else f"the leak has grown by {-reduction:.1%}"
    assert verdict.words.startswith(leak)


def test_the_bounds_themselves_are_not_judged() -> None:
    assert judge(CLEAN, CLEAN, COMPROMISED) is None
    assert judge(COMPROMISED, CLEAN, COMPROMISED) is None


@pytest.mark.parametrize("key", ["RetFail", "InterIdSim", "IntraIdSim"])
def test_nothing_is_judged_without_a_needed_metric_or_between_bounds_that_do_not_differ(key: str) -> None:
    full = dict(zip(("RetFail", "GenKnow", "InterIdSim", "IntraIdSim"), PUBLISHED["DELETE"], strict=True))
    assert judge(report("method", full | {key: None}), CLEAN, COMPROMISED) is None
    flat = CLEAN.model_copy(update={"metrics": CLEAN.metrics | {key: COMPROMISED.metrics[key]}})
    assert judge(published("DELETE"), flat, COMPROMISED) is None


def test_numbers_beyond_all_measure_are_refused() -> None:
    with pytest.raises(UserError, match="'vast' holds numbers that no cosine or share can be"):
        judge(published("vast", (1e308, 0.5, 0.2, 0.2)), CLEAN, COMPROMISED)


def test_without_general_knowledge_the_rest_is_judged() -> None:
    verdict = judge(report("method", {"RetFail": 0.2, "InterIdSim": 0.32, "IntraIdSim": 0.32}), CLEAN, COMPROMISED)
    assert verdict is not None
    assert verdict.general_knowledge_kept is None
    assert verdict.failure_modes == ["ineffective"]
    assert "general knowledge was not measured" in verdict.words


def test_reports_of_other_general_knowledge_are_refused() -> None:
    mine = report("x", {}, general_knowledge="sha256:2")
    with pytest.raises(UserError, match="--general-knowledge"):
        judge(mine, CLEAN, COMPROMISED)


@pytest.mark.parametrize(
    ("other", "words"), [({"data_revision": "sha256:2"}, "other data"), ({"sets": {"forget": 9}}, "other rows")]
)
def test_reports_of_other_data_are_refused(other: dict[str, Any], words: str) -> None:
    stranger = report("stranger", {"RetFail": 0.1}, **other)
    with pytest.raises(UserError, match=words):
        judge(stranger, CLEAN, COMPROMISED)
    with pytest.raises(UserError, match=words):
        compare(stranger, CLEAN)


FULL = {
    "RetFail": 0.2361, "R@1": 0.1016, "AssocStr": 0.3215, "ACS": 0.951, "IdZSC": 0.0836, "CoreAssoc": 0.1827,
    "GenKnow": 0.638, "InterIdSim": 0.3215, "IntraIdSim": 0.3213, "VisIdInt": 0.3052, "FragSim": 0.2801,
}  # fmt: skip
OFFICIAL = {
    "efficacy": {
        "1.1_RetFail": {"MRR": 0.2361, "R@1": 0.1016, "outcomes": [1.0, 0.5]},
        "1.2_AssocStr": {"mean": 0.3215},
        "1.3_ACS": {"acs_accuracy": 0.951},
        "1.4_IdZSC": {"identity_classification_accuracy": 0.0836},
        "1.5_CoreAssoc": {"mean": 0.1827},
    },
    "utility": {
        "2.1_GenKnow": {"ImageNet1k_Accuracy": 0.638},
        "2.2_InterIdSim": {"mean": 0.3215},
        "2.3_IntraIdSim": {"mean": 0.3213},
        "2.4_VisIdInt": {"mean": 0.3052},
        "2.5_FragSim": {"mean": 0.2801},
    },
}


def test_the_official_file_is_written_letter_for_letter(tmp_path: Path) -> None:
    write_official(report("compromised", FULL), tmp_path / "out.json", reciprocal_ranks=[1.0, 0.5])
    assert json.loads((tmp_path / "out.json").read_text()) == OFFICIAL


def test_skipped_metrics_are_minus_one_in_the_official_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_official(report("x", FULL | {"GenKnow": None, "RetFail": None}), path)
    content = json.loads(path.read_text())
    assert content["utility"]["2.1_GenKnow"] == {"ImageNet1k_Accuracy": -1.0}
    assert content["efficacy"]["1.1_RetFail"] == {"MRR": -1.0, "R@1": -1.0, "outcomes": []}
    numbers = read_official(path)
    assert numbers["GenKnow"] == {"value": None}
    assert numbers["RetFail"] == {"value": None, "R@1": None}
    assert numbers["ACS"] == {"value": 0.951}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "no sections efficacy and utility"),
        ('{"efficacy": {}}', "no sections efficacy and utility"),
        (
            '{"efficacy": {"1.2_AssocStr": {"mean": "high"}}, "utility": {}}',
            r"1\.2_AssocStr\.mean is 'high', not a number",
        ),
        (
            '{"efficacy": {"1.3_ACS": {"acs_accuracy": 60.2}}, "utility": {}}',
            r"1\.3_ACS\.acs_accuracy is 60\.2, outside its range, 0 to 1; write",
        ),
    ],
)
def test_a_broken_official_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_official(tmp_path / "x.json")


def test_our_report_and_the_official_file_compare_in_any_mix(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    write_report(report("method", FULL | {"RetFail": 0.2, "GenKnow": None}), ours)
    theirs.write_text(json.dumps(OFFICIAL))
    rows = {row.metric: row for row in compare(ours, theirs)}
    assert list(rows)[:11] == ["RetFail", "RetFail R@1", *(spec.key for spec in describe()[1:10])]
    assert rows["RetFail"].a == 0.2
    assert rows["RetFail"].difference == pytest.approx(0.0361)
    assert (rows["GenKnow"].a, rows["GenKnow"].b, rows["GenKnow"].difference) == (None, 0.638, None)
    assert {row.difference for row in compare(theirs, theirs)} == {0.0}
    back = {row.metric: row for row in compare(theirs, ours)}
    assert back["RetFail"].difference == pytest.approx(-0.0361)


def test_old_and_new_versions_of_a_metric_are_never_in_one_table() -> None:
    with pytest.raises(UserError, match="has version 1 in 'old' and 2 in 'new'"):
        compare(report("old", FULL), report("new", FULL, version=2))


def test_a_report_with_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    write_report(report("x", FULL), tmp_path / "x.json")
    content = json.loads((tmp_path / "x.json").read_text())
    content["metrics"]["ACS"]["value"] = float("nan")
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"metrics\.ACS\.value"):
        compare(tmp_path / "x.json", tmp_path / "x.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"accuracy": 1}', r"not a SALMUBench report \(name: it is missing\); evaluate"),
        ("[]", "holds no JSON object, as a report is one; give a file of"),
        ('"report"', "holds no JSON object, as a report is one; give a file of"),
        ('{"schema": 1, "probes": {}}', "what `salmubench attack` wrote; give a report"),
    ],
)
def test_a_file_that_is_neither_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=rf"x\.json: {words}"):
        compare(tmp_path / "x.json", tmp_path / "x.json")


def test_the_official_file_is_no_bound(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(OFFICIAL))
    with pytest.raises(UserError, match=r"x\.json: the official evaluator's file; give a report"):
        read_report(tmp_path / "x.json")


def test_a_report_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    write_report(report("x", FULL), tmp_path / "x.json")
    (tmp_path / "x.json").write_bytes(codecs.BOM_UTF8 + (tmp_path / "x.json").read_bytes())
    assert read_report(tmp_path / "x.json") == report("x", FULL)
