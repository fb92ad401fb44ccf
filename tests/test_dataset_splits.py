"""The splits of benchmark.md, section 2, as properties; the fragile set against a naive oracle."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_small import build_small
from salmubench.dataset.manifest import read_manifest
from salmubench.dataset.schema import FIELDS, FRAGILE_IDS_FILE, FRAGILE_SIMILARITIES_FILE
from salmubench.dataset.splits import Pair, choose_fragile, fragile_count, group_sizes, split_pairs, write_fragile
from salmubench.dataset.store import load_benchmark
from salmubench.errors import UserError


@st.composite
def pair_lists(draw: st.DrawFn) -> list[Pair]:
    """Three to twelve people with two to twenty pairs each, of at least two fields."""
    people = draw(st.lists(st.integers(2, 20), min_size=3, max_size=12))
    start = draw(st.integers(0, 7))
    return [
        Pair(f"{who:08d}_{picture:03d}_ar-1.00.jpg", f"{who:08d}", FIELDS[(start + who + picture) % 8])
        for who, count in enumerate(people)
        for picture in range(count)
    ]


def _people(pairs: list[Pair]) -> set[str]:
    return {pair.identity_id for pair in pairs}


@pytest.mark.parametrize("association_split", ["pair", "field"])
@settings(deadline=None, max_examples=60)
@given(pairs=pair_lists(), seed=st.integers(0, 2**32), data=st.data())
def test_the_three_splits(association_split, pairs, seed, data):
    splits = split_pairs(pairs, seed=seed, association_split=association_split)
    forget, halves, held_out = splits["forget"], splits["holdout_association"], splits["holdout_identity"]

    assert Counter(forget + halves + held_out) == Counter(pairs)
    assert _people(halves) <= _people(forget)
    assert not _people(held_out) & _people(forget)
    halved = _people(halves)
    sizes = (len(halved), len(_people(forget) - halved), len(_people(held_out)))
    assert sizes == group_sizes(len(_people(pairs)))
    shuffled = data.draw(st.permutations(pairs))
    assert split_pairs(shuffled, seed=seed, association_split=association_split) == splits


@settings(deadline=None, max_examples=40)
@given(pairs=pair_lists(), seed=st.integers(0, 2**32))
def test_halves_by_pair_give_the_odd_pair_to_forget(pairs, seed):
    splits = split_pairs(pairs, seed=seed)
    forgotten = Counter(pair.identity_id for pair in splits["forget"])
    kept = Counter(pair.identity_id for pair in splits["holdout_association"])
    assert all(forgotten[who] - count in (0, 1) for who, count in kept.items())


@settings(deadline=None, max_examples=40)
@given(pairs=pair_lists(), seed=st.integers(0, 2**32))
def test_halves_by_field_keep_a_field_on_one_side(pairs, seed):
    splits = split_pairs(pairs, seed=seed, association_split="field")
    sides = defaultdict(lambda: (set(), set()))
    for side, split in enumerate(("forget", "holdout_association")):
        for pair in splits[split]:
            sides[pair.identity_id][side].add(pair.data_field)
    for who in _people(splits["holdout_association"]):
        forgotten, kept = sides[who]
        assert not forgotten & kept
        assert len(forgotten) - len(kept) in (0, 1)
        if len(forgotten | kept) == 8:
            assert len(forgotten) == len(kept) == 4


def test_the_published_numbers():
    assert group_sizes(774) == (387, 193, 194)
    assert fragile_count(15_741) == 787


def test_another_seed_gives_other_splits():
    pairs = [Pair(f"{who}_{n}", str(who), FIELDS[n]) for who in range(20) for n in range(8)]
    assert split_pairs(pairs, seed=1) != split_pairs(pairs, seed=2)


def test_a_person_is_halved_alike_whoever_else_is_in_the_set():
    small = [Pair(f"{who}_{n}", str(who), FIELDS[n]) for who in range(10, 30) for n in range(8)]
    large = small + [Pair(f"{who}_{n}", str(who), FIELDS[n]) for who in range(30, 60) for n in range(8)]
    kept = [defaultdict(set), defaultdict(set)]
    for index, pairs in enumerate((small, large)):
        for pair in split_pairs(pairs)["holdout_association"]:
            kept[index][pair.identity_id].add(pair.file_name)
    both = set(kept[0]) & set(kept[1])
    assert both
    assert all(kept[0][who] == kept[1][who] for who in both)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([Pair("a", "1", "city"), Pair("b", "2", "city")], "at least three"),
        ([Pair("a", who, "city") for who in "123"], "a: occurs twice"),
        ([Pair(who, who, "city") for who in "123"], "halving needs two"),
    ],
)
def test_what_cannot_be_split(pairs, words):
    with pytest.raises(UserError, match=words):
        split_pairs(pairs)


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.sampled_from([-0.5, 0.0, 0.1, 0.2, 0.9]), min_size=1))
def test_fragile_against_the_oracle(similarity):
    remaining, expected = dict(similarity), []
    for _ in range(max(1, round(len(similarity) * 0.05))):
        weakest = min(remaining.values())
        expected.append(min(name for name, value in remaining.items() if value == weakest))
        del remaining[expected[-1]]
    assert choose_fragile(similarity) == expected


def test_fragile_refuses_broken_scores():
    with pytest.raises(UserError, match=r"x: its similarity is nan"):
        choose_fragile({"x": float("nan")})
    with pytest.raises(UserError, match="no pairs"):
        choose_fragile({})


def test_write_fragile_is_read_back_and_enters_the_manifest(tmp_path: Path):
    data = build_small(tmp_path)
    before = load_benchmark(data)
    assert "fragile_set" not in before.sets
    similarity = {name: 1 - n / 100 for n, name in enumerate(before.sets["retain_disjoint"].file_name)}

    chosen = write_fragile(data, similarity)

    after = load_benchmark(data)
    assert chosen == [before.sets["retain_disjoint"].file_name[n] for n in (39, 38)]
    assert set(after.sets["fragile_set"].file_name) == set(chosen)
    assert json.loads((data / "salmubench" / FRAGILE_IDS_FILE).read_text()) == chosen
    manifest = read_manifest(data)
    assert {f"salmubench/{name}" for name in (FRAGILE_IDS_FILE, FRAGILE_SIMILARITIES_FILE)} <= set(manifest.files)
    assert after.revision != before.revision
    assert write_fragile(data, similarity) == chosen
    assert load_benchmark(data).revision == after.revision


def test_write_fragile_wants_every_pair(tmp_path: Path):
    data = build_small(tmp_path)
    with pytest.raises(UserError, match="score every pair"):
        write_fragile(data, {"elsewhere.jpg": 0.5})
    assert not (data / "salmubench" / FRAGILE_IDS_FILE).exists()
