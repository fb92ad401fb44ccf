"""Several seeds of one run as one line: what belongs together, its mean and spread, and what it is called."""

import dataclasses

import numpy as np
import pytest

from reports_world import METHODS, make_data, make_reports, unlearned
from salmubench.dataset.store import load_benchmark
from salmubench.errors import UserError
from salmubench.evaluation.report import Report, read_report
from salmubench.evaluation.verdict import judge
from salmubench.reports.plane import families, front
from salmubench.reports.results import Run, arrange, utility_kept
from salmubench.reports.seeds import DECIDES, recipe
from salmubench.unlearning.record import Settings


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Report]:
    folder = tmp_path_factory.mktemp("seeds")
    benchmark = load_benchmark(make_data(folder / "data", people=6, pictures=8, long_side=32))
    chosen = {name: METHODS[name] for name in ("delete-2x", "vlunlearn-2x")}
    return [read_report(path) for path in make_reports(folder, benchmark, methods=chosen, sidecars=False)]


def seeded(report: Report, seed: int, factor: float, budget: float = 2, **other: object) -> Report:
    """The same run with another seed: every number times ``factor``."""
    metrics = {
        key: entry.model_copy(update={"value": entry.value and entry.value * factor})
        for key, entry in report.metrics.items()
    }
    again = report.model_copy(update={"name": f"run-{budget:g}-{seed}-{other}", "metrics": metrics, "verdict": None})
    return unlearned(again, "vlunlearn", budget, seed, **other)


def test_what_decides_is_all_settings_but_the_seed() -> None:
    assert {*DECIDES, "seed"} == {field.name for field in dataclasses.fields(Settings)}


def test_seeds_are_one_line_with_mean_and_standard_deviation(reports: list[Report]) -> None:
    clean, compromised, _, base = reports
    factors = (0.9, 1.0, 1.2)
    seeds = [seeded(base, number, factor) for number, factor in enumerate(factors)]
    results = arrange([clean, seeds[0], compromised, seeds[1], seeds[2]])
    (run,) = results.runs
    assert (run.name, run.label, run.seeds, run.places) == ("vlunlearn-2x", "vlunlearn\u00a02×", 3, (1, 3, 4))
    for key, entry in base.metrics.items():
        values = [entry.value * factor for factor in factors if entry.value is not None]
        found = run.report.metrics[key]
        assert found.value == pytest.approx(np.mean(values))
        assert found.interval == pytest.approx((np.mean(values) - np.std(values, ddof=1),
                                                np.mean(values) + np.std(values, ddof=1)))  # fmt: skip
    city = base.metrics["RetFail"].by_field["city"].value
    assert run.report.metrics["RetFail"].by_field["city"].value == pytest.approx(city)
    assert run.verdict == judge(run.report, clean, compromised)
    assert list(run.verdicts) == [judge(seed, clean, compromised) for seed in seeds]


@pytest.mark.parametrize("key", ["budget", "learning_rate", "options", "model_sha256"])
def test_runs_that_differ_in_more_than_the_seed_stay_apart(reports: list[Report], key: str) -> None:
    other = {"budget": 5, "learning_rate": 1e-4, "options": {"form": "kl"}, "model_sha256": "f" * 64}[key]
    one, two = seeded(reports[3], 1, 1.0), seeded(reports[3], 2, 1.1, **{key: other})  # type: ignore[arg-type]
    assert [run.seeds for run in arrange([one, two]).runs] == [1, 1]


def test_one_seed_twice_is_no_repetition(reports: list[Report]) -> None:
    again = seeded(reports[3], 1, 1.1).model_copy(update={"name": "again"})
    assert [run.seeds for run in arrange([seeded(reports[3], 1, 1.0), again]).runs] == [1, 1]


def test_groups_of_one_method_and_budget_are_told_apart_by_name(reports: list[Report]) -> None:
    found = [seeded(reports[3], seed, 1.0, learning_rate=rate) for rate in (1e-4, 1e-5) for seed in (1, 2)]
    assert sorted(run.name for run in arrange(found).runs) == [
        "vlunlearn-2x (learning_rate 0.0001)",
        "vlunlearn-2x (learning_rate 1e-05)",
    ]


def test_of_a_method_s_options_a_name_tells_those_that_differ(reports: list[Report]) -> None:
    options = [{"pool": 80, "hold": hold, "exact": 0.3} for hold in (1.0, 2.0)]
    found = [seeded(reports[3], seed, 1.0, options=each) for each in options for seed in (1, 2)]
    assert sorted(run.name for run in arrange(found).runs) == ["vlunlearn-2x (hold 1)", "vlunlearn-2x (hold 2)"]


def test_runs_that_a_sweep_named_by_content_are_called_by_what_is_unusual(reports: list[Report]) -> None:
    options = [{"pool": 80, "hold": hold} for hold in (2.0, 2.0, 2.0, 8.0)] + [{"pool": 3, "hold": 2.0}]
    rates = [1e-4, 1e-4, 1e-5, 1e-4, 1e-4]
    found = [
        seeded(reports[3], seed, 1.0, options=each, learning_rate=rate).model_copy(
            update={"name": f"vlunlearn-2x-{seed:010x}"}
        )
        for seed, (each, rate) in enumerate(zip(options, rates, strict=True))
    ]
    assert [run.name for run in arrange(found[1:]).runs] == [
        "vlunlearn-2x", "vlunlearn-2x (hold 8)", "vlunlearn-2x (learning_rate 1e-05)", "vlunlearn-2x (pool 3)",
    ]  # fmt: skip
    other = seeded(reports[3], 7, 1.0, options=options[0], learning_rate=1e-4, model_sha256="f" * 64)
    alike = [found[0], other.model_copy(update={"name": "vlunlearn-2x-00000000ff"})]
    assert {run.name for run in arrange(alike).runs} == {each.name for each in alike}


def test_a_mean_is_told_from_a_report_of_its_name(reports: list[Report]) -> None:
    found = arrange([reports[3], seeded(reports[3], 1, 1.0), seeded(reports[3], 2, 1.0)])
    assert {run.name for run in found.runs} == {"vlunlearn-2x", "vlunlearn-2x (2 seeds)"}
    with pytest.raises(UserError, match="two reports are called 'vlunlearn-2x'"):
        arrange([reports[3], reports[3]])


def test_seeds_of_one_run_may_share_a_name(reports: list[Report]) -> None:
    named = [seeded(reports[3], seed, 1.0).model_copy(update={"name": "mine"}) for seed in (1, 2)]
    assert [run.name for run in arrange(named).runs] == ["vlunlearn-2x"]


def test_seed_that_touched_a_holdout_marks_the_mean(reports: list[Report]) -> None:
    one, two = seeded(reports[3], 1, 1.0), seeded(reports[3], 2, 1.0)
    touched = two.model_copy(update={"provenance": two.provenance.model_copy(update={"touched_holdout": True})})
    assert arrange([one, touched]).runs[0].report.provenance.touched_holdout is True


@pytest.mark.parametrize(
    ("name", "method", "budget"),
    [("delete-2x", "delete", 2.0), ("delete-0.5x", "delete", 0.5), ("delete", "delete", None), ("x", "x", None)],
)
def test_recipe_of_a_report_without_a_record_is_read_from_its_name(
    reports: list[Report], name: str, method: str, budget: float | None
) -> None:
    found = recipe(reports[2].model_copy(update={"name": name}))
    assert (found.method, found.budget) == (method, budget)


@pytest.mark.parametrize("record", [{"method": 3, "budget": 2}, {"method": "m", "budget": "2"}, {"budget": True}])
def test_recipe_of_a_strange_record_does_not_fail(reports: list[Report], record: dict[str, object]) -> None:
    provenance = reports[2].provenance.model_copy(update={"unlearning": record})
    assert recipe(reports[2].model_copy(update={"provenance": provenance})).method == "delete"


def test_families_are_runs_that_differ_in_budget_alone(reports: list[Report]) -> None:
    clean, compromised, other, base = reports
    runs = [seeded(base, 1, factor, budget) for factor, budget in ((1.0, 5), (1.1, 1), (1.2, 2))]
    found = families(arrange([clean, compromised, other, *runs]))
    assert [[run.recipe.budget for run in family] for family in found] == [[1.0, 2.0, 5.0]]


def test_front_against_a_naive_oracle() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        spots = [(float(x), float(y)) for x, y in rng.integers(-3, 14, (9, 2)) / 10]
        capped = {(min(x, 1.0), min(y, 1.0)) for x, y in spots}
        beaten = {a for a in capped for b in capped if b != a and b[0] >= a[0] and b[1] >= a[1]}
        assert front(spots) == sorted(capped - beaten)


def test_utility_of_a_run_is_its_verdicts(reports: list[Report]) -> None:
    run: Run = arrange(reports).runs[0]
    assert run.verdict is not None
    assert run.utility_kept == utility_kept(run.verdict)
