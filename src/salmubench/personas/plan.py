"""The world before a pixel is drawn: every picture's name, person and caption, and who stands in which set."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset.schema import (
    CAPTIONS_FILE,
    FIELDS,
    GENERIC_CAPTIONS_FILE,
    IDENTITIES_FILE,
    SENSITIVE_SPLITS,
    AssociationSplit,
    Field,
)
from salmubench.dataset.splits import Pair, group_people, split_pairs
from salmubench.errors import UserError
from salmubench.personas import icons
from salmubench.personas.captions import generic_caption, icon_caption
from salmubench.personas.casting import Cast, Casting, Group, Sources
from salmubench.personas.identities import make_personas
from salmubench.personas.source import Anchor
from salmubench.personas.studio import Task
from salmubench.personas.wording import Caption, Part, by_grammar
from salmubench.presets import World
from salmubench.progress import Progress, silent
from salmubench.seeds import generator

WriteCaptions = Callable[[Sequence[Part]], list[list[Caption]]]
"""Writes a caption for each field of each person (stage 5)."""
OUTSIDER_PICTURES = 3
"""Pictures of each person outside the set: few, so that generic captions are learnt from many faces."""
FIRST_OUTSIDER, FIRST_PASSER_BY = 10_000_000, 20_000_000
"""Where the numbers of the people of retain_disjoint and of retain_real begin, out of the set's own range."""


@dataclass(frozen=True)
class Shot:
    """A picture to be drawn, with what is known of it beforehand."""

    draw: Task
    file_name: str
    identity_id: str | None
    text: str


@dataclass(frozen=True)
class Plan:
    """The whole world before a pixel is drawn.

    Attributes:
        splits: split of the evaluation folder -> its pictures, sorted by file name.
        general: pictures of retain_real, shuffled.
        held_out: held-out icon renderings with their labels.
        classes: the general classes.
        sides: side file -> content.
    """

    splits: Mapping[str, Sequence[Shot]]
    general: Sequence[Shot]
    held_out: Sequence[tuple[Task, int]]
    classes: Sequence[icons.IconClass]
    sides: Mapping[str, Mapping[str, Any]]


def _generic_shot(cast: Cast, anchor: Anchor, picture: int, seed: int, *, known: bool) -> Shot:
    take = cast.take(anchor, picture)
    return Shot(
        draw=take.image,
        file_name=take.file_name,
        identity_id=anchor.identity_id if known else None,
        text=generic_caption(take.traits, seed=seed, key=take.file_name),
    )


def _deal(total: int, people: int, low: int, high: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Random numbers from ``low`` to ``high``, shape (people,), that add up to ``total``.

    Raises:
        UserError: they cannot.
    """
    if not low * people <= total <= high * people:
        raise UserError(
            f"{total} pictures cannot be dealt to {people} people with {low} to {high} each; mend the preset"
        )
    dealt = rng.integers(low, high + 1, people)
    while missing := total - int(dealt.sum()):
        step = 1 if missing > 0 else -1
        open_to = np.flatnonzero(dealt < high if step > 0 else dealt > low)
        dealt[rng.permutation(open_to)[: abs(missing)]] += step
    return dealt


def picture_counts(world: World, groups: Sequence[Sequence[str]], seed: int) -> dict[str, int]:
    """Sensitive pictures of each person, given who is halved, forgotten whole and held out whole.

    A halved person's pictures are two equal halves, and one more for as many people as the sets ask for: it falls to
    forget.

    Raises:
        UserError: the preset's set sizes cannot be dealt to so many people.
    """
    spread = world.pictures
    if isinstance(spread, int):
        return {who: spread for group in groups for who in group}
    rng = generator(seed, "pictures a person")
    halved, whole, held_out = groups
    odd = spread.forget_association - spread.holdout_association
    if not 0 <= odd <= len(halved):
        raise UserError(
            f"forget_association may have up to {len(halved)} pairs more than holdout_association, one a halved "
            f"person, not {odd}; mend the preset"
        )
    halves = _deal(spread.holdout_association, len(halved), spread.low, spread.high, rng)
    one_more = rng.permutation(len(halved)) < odd
    sizes = {who: int(count) for who, count in zip(halved, 2 * halves + one_more, strict=True)}
    for group, total in ((whole, spread.forget_identity), (held_out, spread.holdout_identity)):
        dealt = _deal(total, len(group), 2 * spread.low, 2 * spread.high + 1, rng)
        sizes |= {who: int(count) for who, count in zip(group, dealt, strict=True)}
    return sizes


def joint_counts(total: int, sizes: Mapping[str, int], groups: Sequence[Sequence[str]]) -> Counter[str]:
    """Generically captioned pictures of each person: forgotten and held-out people have their share of them.

    They go round, first to those who have the fewest sensitive pictures and so the most numbers to spare.
    """
    halved, whole, held_out = groups
    forgotten = [*halved, *whole]
    seen = round(total * len(forgotten) / len(sizes))
    counts: Counter[str] = Counter()
    for people, share in ((forgotten, seen), (held_out, total - seen)):
        counts.update(islice(cycle(sorted(people, key=lambda who: (sizes[who], who))), share))
    return counts


def _numbers(cast: Cast, world: World, who: str, sensitive: int, joint: int, seed: int) -> tuple[list[int], list[int]]:
    """The picture numbers of a person's sensitive and of their generically captioned pictures.

    Raises:
        UserError: the preset leaves too few numbers.
    """
    spread = None if isinstance(world.pictures, int) else world.pictures
    numbers = list(cast.numbers(who, spread.candidates if spread else sensitive + joint))
    if sensitive + joint > len(numbers):
        raise UserError(f"{who}: {sensitive} + {joint} pictures need more than {len(numbers)} numbers; mend the preset")
    if spread:
        order = generator(seed, "picture numbers", who).permutation(len(numbers))
        numbers = [numbers[place] for place in order]
    return sorted(numbers[:sensitive]), sorted(numbers[sensitive : sensitive + joint])


def _fields(who: str, pictures: int, seed: int) -> list[Field]:
    """The field that each of a person's pictures tells: the eight in turn, dealt to the pictures in a seeded order."""
    order = generator(seed, "fields", who).permutation(pictures)
    return [FIELDS[place % len(FIELDS)] for place in order]


def _plan_people(
    cast: Cast,
    world: World,
    seed: int,
    association_split: AssociationSplit,
    write_captions: WriteCaptions,
    progress: Progress,
) -> tuple[dict[str, list[Shot]], dict[str, Mapping[str, Any]]]:
    """The three sensitive splits and retain_joint, and the side files."""
    shots: dict[str, Shot] = {}
    joint: list[Shot] = []
    pairs: list[Pair] = []
    captions: dict[str, dict[str, str]] = {}
    generic: dict[str, str] = {}
    people = cast.people
    personas = make_personas(
        {anchor.identity_id: anchor.gender for anchor in people},
        seed=seed,
        skins={anchor.identity_id: anchor.demographics.get("skin", "") for anchor in people},
        progress=progress,
    )
    groups = group_people([anchor.identity_id for anchor in people], seed=seed)
    sizes = picture_counts(world, groups, seed)
    joint_sizes = joint_counts(world.retain_joint, sizes, groups)
    numbers = {who: _numbers(cast, world, who, sizes[who], joint_sizes[who], seed) for who in sizes}
    parts = [(persona, _fields(persona.identity_id, sizes[persona.identity_id], seed)) for persona in personas]
    texts = write_captions(parts)
    with progress("planning pictures (set)", sum(sizes.values()) + world.retain_joint) as advance:
        for anchor, (_, fields), told in zip(people, parts, texts, strict=True):
            who = anchor.identity_id
            sensitive, spare = numbers[who]
            for picture, data_field, caption in zip(sensitive, fields, told, strict=True):
                shot = _generic_shot(cast, anchor, picture, seed, known=True)
                generic[shot.file_name] = shot.text
                captions[shot.file_name] = {
                    "data_field": data_field,
                    "caption": caption.text,
                    "style": caption.style,
                    "source": caption.source,
                }
                shots[shot.file_name] = Shot(shot.draw, shot.file_name, who, caption.text)
                pairs.append(Pair(shot.file_name, who, data_field))
            joint += (_generic_shot(cast, anchor, picture, seed, known=True) for picture in spare)
            advance(len(sensitive) + len(spare))
    divided = split_pairs(pairs, seed=seed, association_split=association_split)
    splits = {name: [shots[pair.file_name] for pair in divided[name]] for name in SENSITIVE_SPLITS}
    identities = {persona.identity_id: persona.metadata() for persona in personas}
    sides: dict[str, Mapping[str, Any]] = {
        IDENTITIES_FILE: identities,
        CAPTIONS_FILE: captions,
        GENERIC_CAPTIONS_FILE: generic,
    }
    return splits | {"retain_synth": joint}, sides


def _portrayals(cast: Cast, purpose: str, count: int, seed: int, progress: Progress) -> list[Shot]:
    """``count`` generically captioned pictures of people outside the set."""
    chosen = (
        (anchor, picture)
        for anchor in cast.people
        for picture in cast.numbers(anchor.identity_id, OUTSIDER_PICTURES)[:OUTSIDER_PICTURES]
    )
    shots = []
    with progress(f"planning pictures ({purpose})", count) as advance:
        for anchor, picture in islice(chosen, count):
            shots.append(_generic_shot(cast, anchor, picture, seed, known=False))
            advance(1)
    return shots


def _plan_icons(world: World, seed: int) -> tuple[list[icons.IconClass], list[Shot], list[tuple[Task, int]]]:
    """The classes, their training renderings with captions, their held-out renderings with labels."""
    classes = icons.icon_classes(world.general_classes, seed=seed)
    training: list[Shot] = []
    held_out: list[tuple[Task, int]] = []
    for label, icon in enumerate(classes):
        for number in range(world.train_renderings):
            key = f"train/{number}"
            text = icon_caption(icon.name, seed=seed, key=key)
            draw = functools.partial(icons.render_icon, icon, seed=seed, key=key, long_side=world.long_side)
            training.append(Shot(draw, f"{icon.name}/{key}", None, text))
        for number in range(world.test_renderings):
            key = f"test/{number}"
            draw = functools.partial(icons.render_icon, icon, seed=seed, key=key, long_side=world.long_side)
            held_out.append((draw, label))
    return classes, training, held_out


def people_groups(world: World) -> tuple[Group, Group, Group]:
    """The set's own people, those of retain_disjoint and those of retain_real, in the order in which they are cast."""
    if isinstance(world.pictures, int):
        most = world.pictures + -(-world.retain_joint // world.identities) + 1
    else:
        most = world.pictures.candidates
    outside = [-(-count // OUTSIDER_PICTURES) for count in (world.retain_disjoint, world.general_portraits)]
    return (
        Group("set", world.identities, most),
        Group("outsiders", outside[0], OUTSIDER_PICTURES, FIRST_OUTSIDER),
        Group("passers-by", outside[1], OUTSIDER_PICTURES, FIRST_PASSER_BY),
    )


def make_plan(
    world: World,
    seed: int,
    association_split: AssociationSplit,
    write_captions: WriteCaptions | None = None,
    casting: Casting | None = None,
    progress: Progress = silent,
) -> Plan:
    """The world of a seed; by default the captions are the grammar's and the people drawn."""
    casting = casting or Casting(Sources(), seed=seed, long_side=world.long_side)
    own, outside, passing = people_groups(world)
    people = casting.cast(own)
    avoid = people.people
    outsiders = casting.cast(outside, avoid=avoid)
    passers_by = casting.cast(passing, avoid=avoid, beside=outsiders.people)
    by_default = functools.partial(by_grammar, seed=seed, progress=progress)
    splits, sides = _plan_people(people, world, seed, association_split, write_captions or by_default, progress)
    splits["retain_synth"] += _portrayals(outsiders, outside.purpose, world.retain_disjoint, seed, progress)
    classes, training, held_out = _plan_icons(world, seed)
    general = training + _portrayals(passers_by, passing.purpose, world.general_portraits, seed, progress)
    order = generator(seed, "retain_real order").permutation(len(general))
    return Plan(
        splits={name: sorted(shots, key=lambda shot: shot.file_name) for name, shots in splits.items()},
        general=[general[place] for place in order],
        held_out=held_out,
        classes=classes,
        sides=sides,
    )


def told(world: World, seed: int) -> dict[str, list[Field]]:
    """The fields that a world of that seed tells, person by person, if its people are numbered from 0.

    Raises:
        UserError: the preset's set sizes cannot be dealt.
    """
    people = [f"{number:08d}" for number in range(world.identities)]
    sizes = picture_counts(world, group_people(people, seed=seed), seed)
    return {who: _fields(who, sizes[who], seed) for who in people}


def expected_counts(world: World, seed: int, association_split: AssociationSplit) -> dict[str, int]:
    """What ``counts`` says of the plan, without planning a picture.

    A curation that drops people moves the sizes of two halves by field a little; all else comes out exactly.

    Raises:
        UserError: the preset asks for what cannot be.
    """
    pairs = [
        Pair(f"{who}_{number:03d}", who, field)
        for who, fields in told(world, seed).items()
        for number, field in enumerate(fields)
    ]
    divided = split_pairs(pairs, seed=seed, association_split=association_split)
    classes = len(icons.icon_classes(world.general_classes, seed=seed))
    return {
        **{split: len(divided[split]) for split in SENSITIVE_SPLITS},
        "retain_synth": world.retain_joint + world.retain_disjoint,
        "sensitive": len(pairs),
        "retain_joint": world.retain_joint,
        "retain_disjoint": world.retain_disjoint,
        "retain_real": world.general_portraits + classes * world.train_renderings,
        "general_knowledge": classes * world.test_renderings,
        "identities": world.identities,
        "general_classes": classes,
    }


def counts(plan: Plan) -> dict[str, int]:
    counts = {split: len(shots) for split, shots in plan.splits.items()}
    counts["sensitive"] = sum(counts[split] for split in SENSITIVE_SPLITS)
    counts["retain_joint"] = sum(shot.identity_id is not None for shot in plan.splits["retain_synth"])
    counts["retain_disjoint"] = counts["retain_synth"] - counts["retain_joint"]
    counts["retain_real"], counts["general_knowledge"] = len(plan.general), len(plan.held_out)
    counts["identities"], counts["general_classes"] = len(plan.sides[IDENTITIES_FILE]), len(plan.classes)
    return counts
