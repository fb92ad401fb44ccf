"""The attacks' numbers against plain loops and scikit-learn, and the recovered share against hand-made findings."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from metrics_world import cosine, mean, vector
from salmubench.evaluation.bootstrap import DRAWS, percentiles, resampled_means, resampled_weights
from salmubench.evaluation.leaks import MembershipFinding, among_rivals, extraction, pair_losses
from salmubench.evaluation.recovery import Means, Membership, Point, scores
from salmubench.seeds import generator

LEVELS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
"""Few, so that scores tie."""


def people(count: int) -> np.ndarray:
    return np.array([f"{row % 3}" for row in range(count)])


def rank(truth: float, rivals: list[float]) -> float:
    return 1 + sum(x > truth for x in rivals) + sum(x == truth for x in rivals) / 2


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(LEVELS, st.lists(LEVELS, max_size=3), st.lists(LEVELS, max_size=2)), min_size=1, max_size=6))
def test_ranks_and_leads_are_those_of_plain_loops(rows: list[tuple[float, list[float], list[float]]]) -> None:
    def padded(lists: list[list[float]], width: int) -> np.ndarray:
        return np.array([[*values, *[math.nan] * (width - len(values))] for values in lists])

    truth = np.array([row[0] for row in rows])
    found = among_rivals(truth, padded([r[1] for r in rows], 3), padded([r[2] for r in rows], 2), people(len(rows)))
    numbers = found.numbers()
    ranked = [(t, [*a, *b]) for t, a, b in rows if a or b]
    assert numbers["cosine"] == pytest.approx(mean(list(truth)))
    if ranked:
        assert numbers["mrr"] == pytest.approx(mean([1 / rank(t, rivals) for t, rivals in ranked]))
        sizes = [len(rivals) + 1 for _, rivals in ranked]
        assert found.chance["mrr"] == pytest.approx(mean([sum(1 / k for k in range(1, m + 1)) / m for m in sizes]))
    else:
        assert math.isnan(numbers["mrr"])
        assert not found.chance
    for name, kind in (("gap_other", 1), ("gap_invented", 2)):
        leads = [row[0] - mean(row[kind]) for row in rows if row[kind]]
        assert numbers[name] == pytest.approx(mean(leads) if leads else math.nan, nan_ok=True)


def test_extraction_ranks_the_true_value_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salmubench.evaluation.leaks.BLOCK", 20)  # several blocks
    pictures = [vector("picture", row) for row in range(11)]
    values = [vector("value", row) for row in range(7)] + [vector("value", 0)]  # a twin: it ties
    label = np.arange(11) % 8
    found = extraction(np.array(pictures), np.array(values), label, people(11))
    ranks = []
    for picture, true in zip(pictures, label, strict=True):
        near = [cosine(picture, value) for value in values]
        twins = {0, 7} if true in (0, 7) else {int(true)}
        ranks.append(1 + sum(x > near[true] + 1e-12 for x in near) + (len(twins) - 1) / 2)
    numbers = found.numbers()
    assert numbers["top1"] == mean([float(r == 1) for r in ranks])
    assert numbers["top5"] == mean([float(r <= 5) for r in ranks])
    assert numbers["mrr"] == pytest.approx(mean([1 / r for r in ranks]))
    assert found.chance == pytest.approx({"top1": 1 / 8, "top5": 5 / 8, "mrr": sum(1 / k for k in range(1, 9)) / 8})


def test_a_pair_s_loss_is_clip_s_among_the_references() -> None:
    pictures, texts = (np.array([vector(side, row) for row in range(4)]) for side in ("picture", "text"))
    around = [np.array([vector("around", side, row) for row in range(5)]) for side in ("picture", "text")]
    for row, loss in enumerate(pair_losses(pictures, texts, 20.0, *around)):
        own = 20 * cosine(pictures[row], texts[row])
        directions = ([(pictures[row], t) for t in around[1]], [(p, texts[row]) for p in around[0]])
        sums = [math.exp(own) + math.fsum(math.exp(20 * cosine(*pair)) for pair in pairs) for pairs in directions]
        assert loss == pytest.approx(mean([math.log(total) - own for total in sums]))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=12))
def test_the_roc_numbers_are_those_of_scikit_learn_and_of_plain_loops(rows: list[tuple[float, float]]) -> None:
    member, other = (np.array(column) for column in zip(*rows, strict=True))
    numbers = MembershipFinding(member, other, people(len(rows))).numbers()
    label = [1] * len(rows) + [0] * len(rows)
    assert numbers["auc"] == pytest.approx(roc_auc_score(label, [*member, *other]))
    rates = [mean([float(x >= cut) for x in member]) for cut in (*member, 2) if sum(x >= cut for x in other) == 0]
    assert numbers["tpr_at_1pct"] == pytest.approx(max(rates))


def test_one_false_positive_in_a_hundred_is_allowed() -> None:
    member, other = np.linspace(0, 1, 200), np.array([2.0, 0.75] + [-1.0] * 198)
    numbers = MembershipFinding(member, other, people(200)).numbers()
    assert numbers["tpr_at_1pct"] == 1.0  # both are passed over
    fewer = MembershipFinding(member[:100], other[:100], people(100)).numbers()
    assert fewer["tpr_at_1pct"] == 0.0  # only the one at 2 is, and no member lies above .75 there


def test_a_draw_takes_whole_people_alike_for_means_and_for_curves() -> None:
    who, values = people(9), np.random.default_rng(0).random(9)
    means = resampled_means(values[:, None], who, generator(1))[:, 0]
    weights = list(resampled_weights(9, who, generator(1)))
    assert len(weights) == DRAWS
    assert means == pytest.approx([float(w @ values / w.sum()) for w in weights])
    assert all(len(set(w[who == person])) == 1 for w in weights for person in "012")


def test_the_interval_of_the_auc_is_that_of_its_draws() -> None:
    rng = np.random.default_rng(2)
    finding = MembershipFinding(rng.random(30) + 0.3, rng.random(30), people(30))
    entry = scores(Membership, finding, seed=3)
    label = [1] * 30 + [0] * 30
    values = np.concatenate([finding.member, finding.other])
    drawn = [
        roc_auc_score(label, values, sample_weight=np.tile(weight, 2))
        for weight in resampled_weights(30, finding.identity_id, generator(3, "attack", "intervals"))
    ]
    assert entry.intervals["auc"] == pytest.approx(percentiles(np.array(drawn)))
    assert not entry.control
    assert not entry.recovered


def curve(mrr: float, spread: float = 0.0) -> Means:
    """Thirty rows of three people around a mean."""
    values = mrr + spread * np.tile([-1.0, 0.0, 1.0], 10)
    return Means({"mrr": values, "assocstr": np.full(30, 0.5)}, people(30))


def test_the_recovered_share_is_what_came_back_beyond_the_control() -> None:
    gap = (curve(0.1), curve(0.5))
    entry = scores(Point, curve(0.4), control=curve(0.2), gap=gap, seed=0, steps=5)
    assert entry.recovered == {"mrr": pytest.approx(0.5)}  # (0.4 - 0.2) / (0.5 - 0.1); AssocStr has no gap
    assert entry.recovered_intervals["mrr"] == pytest.approx((0.5, 0.5))
    assert entry.control == pytest.approx({"mrr": 0.2, "assocstr": 0.5})
    assert (entry.steps, entry.rows) == (5, 30)
    assert entry.numbers() == pytest.approx({"mrr": 0.4, "assocstr": 0.5})
    unsure = scores(Point, curve(0.4), control=curve(0.2), gap=(curve(0.1), curve(0.2, spread=0.5)), seed=0, steps=5)
    assert not unsure.recovered
    paired = scores(Point, curve(0.5, 0.1), control=curve(0.1, 0.1), gap=(curve(0.1), curve(0.5)), seed=0, steps=5)
    assert paired.recovered_intervals["mrr"] == pytest.approx((1, 1))  # the same people are drawn on both sides
