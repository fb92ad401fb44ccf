"""The plan: the published counts come out exactly, and no world deals what it cannot."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salmubench.dataset.schema import SENSITIVE_SPLITS
from salmubench.dataset.splits import group_people, group_sizes
from salmubench.errors import UserError
from salmubench.personas.estimate import estimate
from salmubench.personas.plan import Plan, counts, joint_counts, make_plan, picture_counts
from salmubench.presets import PRESETS, Preset, Spread, World

SMALL = replace(
    PRESETS["paper"].world,
    identities=20,
    pictures=Spread(
        forget_association=103,
        holdout_association=98,
        forget_identity=99,
        holdout_identity=101,
        low=8,
        high=12,
        candidates=27,
    ),
    long_side=48,
    retain_joint=25,
    retain_disjoint=9,
    general_portraits=4,
    general_classes=3,
    train_renderings=1,
    test_renderings=1,
)


def grouped(world: World) -> tuple[list[str], list[str], list[str]]:
    return group_people([f"{number:08d}" for number in range(world.identities)])


def test_the_paper_table_comes_out_exactly() -> None:
    world = PRESETS["paper"].world
    groups = grouped(world)
    assert tuple(map(len, groups)) == (387, 193, 194)
    sizes = picture_counts(world, groups, 42)
    assert sum(sizes.values()) == 60_053
    halved, whole, held_out = ([sizes[who] for who in group] for group in groups)
    assert sum(-(-count // 2) for count in halved) == 15_126
    assert sum(count // 2 for count in halved) == 14_943
    assert (sum(whole), sum(held_out)) == (15_342, 14_642)
    assert min(sizes.values()) >= 50
    assert max(sizes.values()) <= 99
    joint = joint_counts(world.retain_joint, sizes, groups)
    assert sum(joint.values()) == 1_000
    assert sum(joint[who] for group in groups[:2] for who in group) == 749
    assert all(sizes[who] + joint[who] <= 100 for who in sizes)
    assert world.retain_joint + world.retain_disjoint == 16_741


def test_a_plan_with_a_spread_has_its_sets_and_gaps() -> None:
    plan: Plan = make_plan(SMALL, 42, "pair")
    found, spread = counts(plan), SMALL.pictures
    assert isinstance(spread, Spread)
    assert found["forget"] == spread.forget_association + spread.forget_identity
    assert found["holdout_association"] == spread.holdout_association
    assert found["holdout_identity"] == spread.holdout_identity
    assert (found["retain_joint"], found["retain_disjoint"]) == (25, 9)
    shots = [shot for split in SENSITIVE_SPLITS for shot in plan.splits[split]]
    numbers = {shot.file_name[:12] for shot in shots}
    joint = [shot.file_name[:12] for shot in plan.splits["retain_synth"] if shot.identity_id is not None]
    assert len(numbers) == len(shots)
    assert numbers.isdisjoint(joint)
    taken = [int(name[9:]) for name in numbers]
    assert min(taken) >= 1
    assert max(taken) <= spread.candidates
    each = Counter(shot.identity_id for shot in shots)
    assert len(set(each.values())) > 1
    assert 16 <= min(each.values()) <= max(each.values()) <= 25


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 60), st.integers(1, 9), st.integers(0, 9), st.data())
def test_any_sizes_that_can_be_dealt_are_dealt(people: int, low: int, extra: int, data: st.DataObject) -> None:
    high = low + extra
    halved, whole, held_out = group_sizes(people)
    association = data.draw(st.integers(low * halved, high * halved))
    spread = Spread(
        forget_association=association + data.draw(st.integers(0, halved)),
        holdout_association=association,
        forget_identity=data.draw(st.integers(2 * low * whole, (2 * high + 1) * whole)),
        holdout_identity=data.draw(st.integers(2 * low * held_out, (2 * high + 1) * held_out)),
        low=low,
        high=high,
    )
    world = replace(SMALL, identities=people, pictures=spread)
    groups = grouped(world)
    sizes = picture_counts(world, groups, data.draw(st.integers(0, 5)))
    assert sum(-(-sizes[who] // 2) for who in groups[0]) == spread.forget_association
    assert sum(sizes[who] // 2 for who in groups[0]) == spread.holdout_association
    assert sum(sizes[who] for who in groups[1]) == spread.forget_identity
    assert sum(sizes[who] for who in groups[2]) == spread.holdout_identity
    assert all(2 * low <= size <= 2 * high + 1 for size in sizes.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forget_association": 97}, "up to 10 pairs more"),
        ({"forget_identity": 400}, "400 pictures cannot be dealt to 5 people"),
        ({"candidates": 17}, "need more than 17 numbers"),
    ],
)
def test_a_spread_that_cannot_be_says_so(change: dict[str, int], message: str) -> None:
    assert isinstance(SMALL.pictures, Spread)
    with pytest.raises(UserError, match=message):
        make_plan(replace(SMALL, pictures=replace(SMALL.pictures, **change)), 42, "pair")


def test_an_estimate_counts_what_the_build_makes(world: Path, micro: Preset) -> None:
    found = estimate(micro, workers=1)
    pictures = sum(found.counts[name] for name in ("sensitive", "retain_synth", "retain_real", "general_knowledge"))
    assert found.pictures == pictures
    stages = {stage.name: stage for stage in found.stages}
    assert stages["portraits"].work + stages["general pictures"].work == pictures
    assert found.unknown == ["copies and hashes"]
    known = [stage.seconds for stage in found.stages if stage.seconds is not None]
    assert len(known) == len(found.stages) - 1
    assert min(known) > 0
    assert found.seconds == pytest.approx(sum(known))
    written = sum(path.stat().st_size for path in world.rglob("*") if path.is_file())
    assert 0.3 < found.bytes / written < 3
    assert np.isfinite(found.seconds)
