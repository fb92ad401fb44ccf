"""Strings the stages together: from a preset and a seed to a data set folder (design.md section 2).

Every picture is a function of the seed and its own name, so that the bytes depend neither on the number of workers nor
on where an earlier run was stopped. A stage whose output stands is kept; the manifest comes last: then all is there.
"""

import functools
import heapq
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from salmubench.atomic import alone, read_json, replacing, write_json
from salmubench.dataset.card import write_cards
from salmubench.dataset.retain import CaptionedPicture, write_classification, write_shards
from salmubench.dataset.schema import (
    CAPTIONS_FILE,
    FIELDS,
    GENERIC_CAPTIONS_FILE,
    IDENTITIES_FILE,
    MANIFEST_FILE,
    SENSITIVE_SPLITS,
    AssociationSplit,
    Field,
    Row,
)
from salmubench.dataset.splits import Pair, split_pairs
from salmubench.dataset.store import load_split, split_files, write_manifest, write_split
from salmubench.errors import UserError
from salmubench.jobs import cores
from salmubench.personas import icons, portraits
from salmubench.personas.anchors import Anchor, make_anchors
from salmubench.personas.captions import generic_caption, icon_caption, sensitive_captions
from salmubench.personas.identities import Persona, make_personas
from salmubench.personas.studio import Render, Task, studio
from salmubench.presets import Preset, World
from salmubench.presets import preset as preset_by_name
from salmubench.progress import Advance, Progress, silent
from salmubench.seeds import generator

SETTINGS_FILE = "build.json"
"""What a folder is being built with; written first, so that a second run knows whether it may go on."""
OUTSIDER_PICTURES = 3
"""Pictures of each person outside the set: few, so that generic captions are learnt from many faces."""
FIRST_OUTSIDER, FIRST_PASSER_BY = 10_000_000, 20_000_000
"""Where the numbers of the people of retain_disjoint and of retain_real begin, out of the set's own range."""


@dataclass(frozen=True)
class _Shot:
    """A picture to be drawn, with what is known of it beforehand."""

    draw: Task
    file_name: str
    identity_id: str | None
    text: str


@dataclass(frozen=True)
class _Plan:
    """The whole world before a pixel is drawn.

    Attributes:
        splits: split of the evaluation folder -> its pictures, sorted by file name.
        general: pictures of retain_real, shuffled.
        held_out: held-out icon renderings with their labels.
        classes: the general classes.
        sides: side file -> content.
    """

    splits: Mapping[str, Sequence[_Shot]]
    general: Sequence[_Shot]
    held_out: Sequence[tuple[Task, int]]
    classes: Sequence[icons.IconClass]
    sides: Mapping[str, Mapping[str, Any]]


def _generic_shot(anchor: Anchor, picture: int, world: World, seed: int, *, known: bool) -> _Shot:
    portrait = portraits.render_portrait(anchor, seed=seed, picture=picture, long_side=world.long_side)
    return _Shot(
        draw=functools.partial(portraits.draw_portrait, anchor, seed=seed, picture=picture, long_side=world.long_side),
        file_name=portrait.file_name,
        identity_id=anchor.identity_id if known else None,
        text=generic_caption(portrait.traits, seed=seed, key=portrait.file_name),
    )


def _fields(persona: Persona, pictures: int, seed: int) -> list[Field]:
    """The field that each of a person's pictures tells: the eight in turn, dealt to the pictures in a seeded order."""
    order = generator(seed, "fields", persona.identity_id).permutation(pictures)
    return [FIELDS[place % len(FIELDS)] for place in order]


def _plan_sensitive(
    people: Sequence[Anchor], world: World, seed: int, association_split: AssociationSplit
) -> tuple[dict[str, list[_Shot]], dict[str, Mapping[str, Any]]]:
    """The three sensitive splits and the side files."""
    shots: dict[str, _Shot] = {}
    pairs: list[Pair] = []
    captions: dict[str, dict[str, str]] = {}
    generic: dict[str, str] = {}
    personas = make_personas({anchor.identity_id: anchor.gender for anchor in people}, seed=seed)
    for anchor, persona in zip(people, personas, strict=True):
        fields = _fields(persona, world.pictures, seed)
        texts = sensitive_captions(persona, fields, seed=seed)
        for picture, (data_field, (text, style)) in enumerate(zip(fields, texts, strict=True), start=1):
            shot = _generic_shot(anchor, picture, world, seed, known=True)
            generic[shot.file_name] = shot.text
            captions[shot.file_name] = {"data_field": data_field, "caption": text, "style": style}
            shots[shot.file_name] = _Shot(shot.draw, shot.file_name, anchor.identity_id, text)
            pairs.append(Pair(shot.file_name, anchor.identity_id, data_field))
    divided = split_pairs(pairs, seed=seed, association_split=association_split)
    splits = {name: [shots[pair.file_name] for pair in divided[name]] for name in SENSITIVE_SPLITS}
    identities = {persona.identity_id: persona.metadata() for persona in personas}
    return splits, {IDENTITIES_FILE: identities, CAPTIONS_FILE: captions, GENERIC_CAPTIONS_FILE: generic}


def _portrayals(anchors: Sequence[Anchor], count: int, world: World, seed: int) -> list[_Shot]:
    """``count`` generically captioned pictures of people outside the set."""
    return [
        _generic_shot(anchors[number // OUTSIDER_PICTURES], number % OUTSIDER_PICTURES + 1, world, seed, known=False)
        for number in range(count)
    ]


def _plan_icons(world: World, seed: int) -> tuple[list[icons.IconClass], list[_Shot], list[tuple[Task, int]]]:
    """The classes, their training renderings with captions, their held-out renderings with labels."""
    classes = icons.icon_classes(world.general_classes, seed=seed)
    training: list[_Shot] = []
    held_out: list[tuple[Task, int]] = []
    for label, icon in enumerate(classes):
        for number in range(world.train_renderings):
            key = f"train/{number}"
            text = icon_caption(icon.name, seed=seed, key=key)
            draw = functools.partial(icons.render_icon, icon, seed=seed, key=key, long_side=world.long_side)
            training.append(_Shot(draw, f"{icon.name}/{key}", None, text))
        for number in range(world.test_renderings):
            key = f"test/{number}"
            draw = functools.partial(icons.render_icon, icon, seed=seed, key=key, long_side=world.long_side)
            held_out.append((draw, label))
    return classes, training, held_out


def _plan(world: World, seed: int, association_split: AssociationSplit) -> _Plan:
    groups = [-(-count // OUTSIDER_PICTURES) for count in (world.retain_disjoint, world.general_portraits)]
    people = make_anchors(world.identities, seed=seed, purpose="set")
    outsiders = make_anchors(groups[0], seed=seed, purpose="outsiders", avoid=people, first_id=FIRST_OUTSIDER)
    passers_by = make_anchors(
        groups[1], seed=seed, purpose="passers-by", avoid=[*people, *outsiders], first_id=FIRST_PASSER_BY
    )
    splits, sides = _plan_sensitive(people, world, seed, association_split)
    joint = [
        _generic_shot(people[number % len(people)], world.pictures + 1 + number // len(people), world, seed, known=True)
        for number in range(world.retain_joint)
    ]
    splits["retain_synth"] = joint + _portrayals(outsiders, world.retain_disjoint, world, seed)
    classes, training, held_out = _plan_icons(world, seed)
    general = training + _portrayals(passers_by, world.general_portraits, world, seed)
    order = generator(seed, "retain_real order").permutation(len(general))
    return _Plan(
        splits={name: sorted(shots, key=lambda shot: shot.file_name) for name, shots in splits.items()},
        general=[general[place] for place in order],
        held_out=held_out,
        classes=classes,
        sides=sides,
    )


def _rows(shots: Sequence[_Shot], render: Render, advance: Advance) -> Iterator[Row]:
    for shot, image in zip(shots, render(shot.draw for shot in shots), strict=True):
        advance(1)
        yield Row(image, shot.text, shot.identity_id, shot.file_name)


def _stored_rows(folder: Path, split: str) -> Iterator[Row]:
    pairs, store = load_split(folder, split)
    for place, image in enumerate(store.stream(pairs.picture)):
        yield Row(image, pairs.text[place], pairs.identity_id[place], pairs.file_name[place])


def _has_split(folder: Path, split: str) -> bool:
    try:
        return bool(split_files(folder, split))
    except UserError:
        return False


def _write_evaluation(folder: Path, plan: _Plan, render: Render, advance: Advance) -> None:
    for name, content in plan.sides.items():
        write_json(folder / name, content)
    for split, shots in plan.splits.items():
        if _has_split(folder, split):
            advance(len(shots))
        else:
            write_split(folder, split, _rows(shots, render, advance))


def _write_training(folder: Path, evaluation: Path) -> None:
    """The training layout holds the same pictures: they are copied, in the order of their file names."""
    if not _has_split(folder, "sensitive"):
        parts = [_stored_rows(evaluation, split) for split in SENSITIVE_SPLITS]
        write_split(folder, "sensitive", heapq.merge(*parts, key=lambda row: row.file_name))
    if not _has_split(folder, "retain_synth"):
        write_split(folder, "retain_synth", _stored_rows(evaluation, "retain_synth"))


def _write_general(out: Path, plan: _Plan, render: Render, advance: Advance) -> None:
    if (out / "retain_real").is_dir():
        advance(len(plan.general))
    else:
        with replacing(out / "retain_real") as folder:
            rows = enumerate(_rows(plan.general, render, advance))
            write_shards(folder, (CaptionedPicture(f"{place:08d}", row.image, row.text) for place, row in rows))
    if (out / "general_knowledge").is_dir():
        advance(len(plan.held_out))
    else:
        with replacing(out / "general_knowledge") as folder:
            labels = [label for _, label in plan.held_out]
            shots = [_Shot(draw, "", None, "") for draw, _ in plan.held_out]
            images = (row.image for row in _rows(shots, render, advance))
            write_classification(
                folder,
                zip(images, labels, strict=True),
                class_names=[icon.name for icon in plan.classes],
                templates=icons.TEMPLATES,
            )


def _counts(plan: _Plan) -> dict[str, int]:
    counts = {split: len(shots) for split, shots in plan.splits.items()}
    counts["sensitive"] = sum(counts[split] for split in SENSITIVE_SPLITS)
    counts["retain_joint"] = sum(shot.identity_id is not None for shot in plan.splits["retain_synth"])
    counts["retain_disjoint"] = counts["retain_synth"] - counts["retain_joint"]
    counts["retain_real"], counts["general_knowledge"] = len(plan.general), len(plan.held_out)
    counts["identities"], counts["general_classes"] = len(plan.sides[IDENTITIES_FILE]), len(plan.classes)
    return counts


def _open_folder(out: Path, settings: Mapping[str, Any]) -> None:
    """Claims a folder for these settings, or goes on in one that has them.

    Raises:
        UserError: the folder holds something else.
    """
    known = out / SETTINGS_FILE
    if known.is_file():
        if read_json(known) != settings:
            raise UserError(f"{out}: was built with other settings ({known}); choose another --out or delete it")
    elif out.exists() and (not out.is_dir() or any(path for path in out.iterdir() if ".tmp-" not in path.name)):
        raise UserError(f"{out}: is in use by something else than a data set; choose another --out or empty it")
    for left_over in [*out.rglob("*.tmp-*")]:
        shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink(missing_ok=True)
    if not known.is_file():
        write_json(known, settings)


def build(
    preset: str | Preset,
    out: Path,
    *,
    seed: int = 42,
    association_split: AssociationSplit = "pair",
    workers: int | None = None,
    progress: Progress = silent,
) -> Path:
    """Makes fictitious people, their pictures and captions, and general knowledge, and writes the data set folder.

    A run that was stopped goes on where it was; a folder that is complete is left as it is.

    Args:
        preset: the scale, or its name.
        out: the data set folder.
        seed: the world's seed.
        association_split: halve the pairs of the forgotten people by pair or by field.
        workers: processes that draw; all cores by default. It does not change a byte.
        progress: shows a bar over all pictures.

    Returns:
        ``out``.

    Raises:
        UserError: the folder holds something else, or the preset asks for more faces or classes than there are.
        RunError: the disk is full, or a worker was killed.
    """
    scale = preset_by_name(preset)
    settings = {
        "package": version("salmubench"),
        "preset": scale.name,
        "seed": seed,
        "association_split": association_split,
        "world": asdict(scale.world),
    }
    with alone(out):
        _open_folder(out, settings)
        if (out / MANIFEST_FILE).is_file():
            return out
        plan = _plan(scale.world, seed, association_split)
        total = sum(map(len, plan.splits.values())) + len(plan.general) + len(plan.held_out)
        with studio(workers or cores()) as render, progress("drawing people and icons", total) as advance:
            _write_evaluation(out / "salmubench", plan, render, advance)
            _write_general(out, plan, render, advance)
        _write_training(out / "salmu", out / "salmubench")
        write_cards(out, facts=settings)
        write_manifest(out, facts={**settings, "counts": _counts(plan), "licences": [portraits.LICENCE, icons.LICENCE]})
    return out
