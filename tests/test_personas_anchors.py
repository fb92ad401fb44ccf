"""Stage 1: faces that no two people share, kept apart by the traits that show from afar."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salmubench.errors import UserError
from salmubench.personas import anchors
from salmubench.personas.anchors import APART, HAIR, WEIGHTS, DrawnFace, distance, make_anchors

SEEDS = st.integers(0, 2**32 - 1)


def face(anchor: DrawnFace) -> tuple[str, ...]:
    return tuple(getattr(anchor, trait) for trait in WEIGHTS)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, count=st.integers(0, 40))
def test_people_keep_apart_by_traits_that_show_from_afar(seed: int, count: int) -> None:
    people = make_anchors(count, seed=seed, purpose="set")
    assert len(people) == count
    for one, other in combinations(people, 2):
        shown = [trait for trait, weight in WEIGHTS.items() if weight == 2]
        assert distance(one, other) == distance(other, one) >= APART
        assert sum(getattr(one, trait) != getattr(other, trait) for trait in shown) >= 1


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_outsiders_keep_apart_from_the_sets_own_people(seed: int) -> None:
    people = make_anchors(20, seed=seed, purpose="set")
    outsiders = make_anchors(20, seed=seed, purpose="outsiders", avoid=people, first_id=10_000_000)
    assert min(distance(one, other) for one in people for other in outsiders) >= APART
    assert {one.identity_id for one in people}.isdisjoint(other.identity_id for other in outsiders)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_people_told_apart_from_the_set_may_stand_beside_each_other(seed: int) -> None:
    people = make_anchors(20, seed=seed, purpose="set")
    outsiders = make_anchors(20, seed=seed, purpose="outsiders", avoid=people)
    passers_by = make_anchors(20, seed=seed, purpose="passers-by", avoid=people, beside=outsiders)
    assert min(distance(one, other) for one in people for other in passers_by) >= APART
    assert min(distance(one, other) for one in outsiders for other in passers_by) > 0


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_gender_agrees_with_the_face(seed: int) -> None:
    for anchor in make_anchors(24, seed=seed, purpose="set"):
        assert anchor.hair in HAIR[anchor.gender]
        assert anchor.gender == "male" or anchor.facial_hair == "none"


def test_a_face_tells_its_demographics() -> None:
    for anchor in make_anchors(6, seed=4, purpose="set"):
        assert anchor.demographics == {"gender": anchor.gender, "skin": anchor.skin}


def test_a_published_sets_worth_of_people_keeps_apart_from_a_crowd() -> None:
    """774 people and 1,000 others, who stand close to each other, yet none comes near the set's."""
    people = make_anchors(774, seed=42, purpose="set")
    crowd = make_anchors(1000, seed=42, purpose="outsiders", avoid=people)
    codes = {value: code for code, value in enumerate(sorted({value for one in people + crowd for value in face(one)}))}
    known, others = (np.array([[codes[value] for value in face(one)] for one in group]) for group in (people, crowd))
    weights = np.array(list(WEIGHTS.values()))
    gaps = np.array([((known != one) @ weights) for one in known])
    np.fill_diagonal(gaps, APART)
    assert gaps.min() >= APART
    assert min(((known != one) @ weights).min() for one in others) >= APART
    assert len({tuple(one) for one in others}) == len(others)


def test_women_and_men_are_equally_many_and_ids_count_up() -> None:
    people = make_anchors(10, seed=1, purpose="set", first_id=7)
    assert [anchor.gender for anchor in people].count("female") == 5
    assert [anchor.identity_id for anchor in people] == [f"{number:08d}" for number in range(7, 17)]


def test_the_same_seed_and_purpose_give_the_same_people() -> None:
    first = make_anchors(12, seed=5, purpose="set")
    assert make_anchors(12, seed=5, purpose="set") == first
    assert make_anchors(20, seed=5, purpose="set")[:12] == first
    assert [face(a) for a in make_anchors(12, seed=5, purpose="others")] != [face(a) for a in first]
    assert [face(a) for a in make_anchors(12, seed=6, purpose="set")] != [face(a) for a in first]


def test_distance_sums_the_weights_of_the_traits_that_differ() -> None:
    anchor = DrawnFace("00000000", "male", "pale", "quiff", "red", "default_natural", "wide", "none", "none")
    assert distance(anchor, replace(anchor, identity_id="00000001")) == 0
    assert distance(anchor, replace(anchor, nose="small")) == 1
    assert distance(anchor, replace(anchor, skin="dark", glasses="round", brows="flat_natural")) == 5


def test_a_crowded_space_still_gives_unlike_faces_and_a_full_one_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"SKINS": ("pale", "dark"), "HAIR_COLORS": ("red",), "BROWS": ("default_natural",), "NOSES": ("wide",)}
    for name, options in small.items():
        monkeypatch.setattr(anchors, name, options)
    monkeypatch.setattr(anchors, "GLASSES", ("none", "round"))
    monkeypatch.setattr(anchors, "FACIAL_HAIR", ("none",))
    monkeypatch.setattr(anchors, "HAIR", {"female": ("bob", "bun"), "male": ("quiff", "elvis")})
    people = make_anchors(16, seed=3, purpose="set")
    assert len({face(anchor) for anchor in people}) == 16
    with pytest.raises(UserError, match="no face is left for person 17 of 17"):
        make_anchors(17, seed=3, purpose="set")
