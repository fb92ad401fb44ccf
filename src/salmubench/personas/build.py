"""Strings the stages together: from a preset and a seed to a data set folder (design.md section 2).

Every picture is a function of the seed and its own name, so that the bytes depend neither on the number of workers nor
on where an earlier run was stopped. A stage whose output stands is kept; the manifest comes last: then all is there.
"""

import functools
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from salmubench.atomic import alone, read_json, remove_leftovers, replacing, write_json
from salmubench.dataset.card import write_cards
from salmubench.dataset.manifest import DATA_FOLDERS
from salmubench.dataset.retain import CaptionedPicture, resume_classification, resume_shards
from salmubench.dataset.schema import (
    CAPTIONS_FILE,
    MANIFEST_FILE,
    SENSITIVE_SPLITS,
    AssociationSplit,
    Row,
)
from salmubench.dataset.store import load_split, split_files, write_manifest
from salmubench.dataset.write import resume_split
from salmubench.errors import UserError
from salmubench.jobs import cores
from salmubench.personas import icons
from salmubench.personas.casting import ALBUM, Casting, Sources
from salmubench.personas.plan import FIRST_OUTSIDER, Plan, Shot, counts, make_plan
from salmubench.personas.source import open_source
from salmubench.personas.studio import Render, cluster, studio
from salmubench.personas.wording import caption_sources
from salmubench.presets import Preset
from salmubench.presets import preset as preset_by_name
from salmubench.progress import Advance, Progress, silent

STAGES = "stages"
"""Pictures that were made before the data set is written, and what curation said of them; it may go in the end."""
SETTINGS_FILE = "build.json"
"""What a folder is being built with; written first, so that a second run knows whether it may go on."""
ANSWERS = ".captions"
"""Folder of a language model's answers while a data set is being built, so that nothing is asked twice."""


class _Counter:
    """Moves a bar up to a place; what lies before it, in files that are kept, counts as done."""

    def __init__(self, advance: Advance) -> None:
        self._advance, self._counted = advance, 0

    def up_to(self, place: int) -> None:
        if place > self._counted:
            self._advance(place - self._counted)
            self._counted = place


class _Drawn:
    """Draws the pictures of a run when they are asked for.

    Attributes:
        shots: what a file's runs count in.
    """

    def __init__(self, shots: Sequence[Shot], render: Render, advance: Advance) -> None:
        self.shots, self._render, self._done = shots, render, _Counter(advance)

    def __call__(self, run: range) -> Iterator[Row]:
        self._done.up_to(run.start)
        shots = self.shots[run.start : run.stop]
        drawn = self._render(shot.draw for shot in shots)
        for place, shot, image in zip(run, shots, drawn, strict=True):
            self._done.up_to(place + 1)
            yield Row(image, shot.text, shot.identity_id, shot.file_name)

    def finish(self) -> None:
        """Counts what was kept after the last file that was drawn."""
        self._done.up_to(len(self.shots))


def _write_evaluation(folder: Path, plan: Plan, render: Render, advance: Advance) -> None:
    for name, content in plan.sides.items():
        if not (folder / name).is_file():
            write_json(folder / name, content)
    for split, shots in plan.splits.items():
        drawn = _Drawn(shots, render, advance)
        resume_split(folder, split, len(shots), drawn)
        drawn.finish()


def _write_general(out: Path, plan: Plan, render: Render, advance: Advance) -> None:
    drawn = _Drawn(plan.general, render, advance)
    resume_shards(
        out / "retain_real",
        len(plan.general),
        lambda run: (
            CaptionedPicture(f"{place:08d}", row.image, row.text) for place, row in zip(run, drawn(run), strict=True)
        ),
    )
    drawn.finish()
    held_out = _Drawn([Shot(draw, "", None, "") for draw, _ in plan.held_out], render, advance)
    resume_classification(
        out / "general_knowledge",
        len(plan.held_out),
        lambda run: ((row.image, plan.held_out[place][1]) for place, row in zip(run, held_out(run), strict=True)),
        class_names=[icon.name for icon in plan.classes],
        templates=icons.TEMPLATES,
    )
    held_out.finish()


def _write_training(folder: Path, evaluation: Path, progress: Progress) -> None:
    """The training layout holds the same pictures: sensitive is the three splits merged, retain_synth is the same."""
    splits = {split: load_split(evaluation, split) for split in SENSITIVE_SPLITS}
    places = sorted(
        (name, split, row) for split, (pairs, _) in splits.items() for row, name in enumerate(pairs.file_name)
    )

    def rows(run: range) -> Iterator[Row]:
        wanted = places[run.start : run.stop]
        streams = {
            split: store.stream(np.array([row for _, owner, row in wanted if owner == split], dtype=np.int64))
            for split, (_, store) in splits.items()
        }
        for place, (name, split, row) in zip(run, wanted, strict=True):
            pairs, _ = splits[split]
            done.up_to(place + 1)
            yield Row(next(streams[split]), pairs.text[row], pairs.identity_id[row], name)

    with progress("copying to the training layout", len(places)) as advance:
        done = _Counter(advance)
        resume_split(folder, "sensitive", len(places), rows)
        done.up_to(len(places))
    for path in split_files(evaluation, "retain_synth"):
        if not (folder / "data" / path.name).is_file():
            with replacing(folder / "data" / path.name) as temporary:
                shutil.copyfile(path, temporary)


def _open_folder(out: Path, settings: Mapping[str, Any]) -> None:
    """Claims a folder for these settings, or goes on in one that has them.

    Until the data set itself is begun, the curation may be set anew: the pictures of the set's own people stand and are
    judged again. Who the others are depends on who of these stays, so that their pictures go.

    Raises:
        UserError: the folder holds something else.
    """
    known = out / SETTINGS_FILE
    if not known.is_file():
        if any(path for path in out.iterdir() if ".tmp-" not in path.name):
            raise UserError(f"{out}: is in use by something else than a data set; choose another --out or empty it")
    elif (before := read_json(known)) != settings:
        begun = any((out / name).exists() for name in DATA_FOLDERS)
        if begun or _uncurated(before) != _uncurated(settings):
            raise UserError(f"{out}: was built with other settings ({known}); choose another --out or delete it")
        for record in (out / STAGES).glob("curation-*"):
            record.unlink()
        for person in (out / STAGES / ALBUM).glob("*"):
            if person.name >= f"{FIRST_OUTSIDER}":
                shutil.rmtree(person)
        known.unlink()
    remove_leftovers(out)
    if not known.is_file():
        write_json(known, settings)


def _uncurated(settings: Any) -> Any:
    """Settings without the curation's own."""
    try:
        sources = settings["sources"]
        rest = {key: value for key, value in sources["settings"].items() if not key.startswith("curation.")}
    except (KeyError, TypeError, AttributeError):  # not of this version
        return None
    return {**settings, "sources": {**sources, "settings": rest}}


def build(
    preset: str | Preset,
    out: Path,
    *,
    seed: int = 42,
    association_split: AssociationSplit = "pair",
    workers: int | None = None,
    ray: str | None = None,
    captions: str | None = None,
    caption_options: Mapping[str, Any] | None = None,
    sources: Sources | None = None,
    progress: Progress = silent,
) -> Path:
    """Makes fictitious people, their pictures and captions, and general knowledge, and writes the data set folder.

    A run that was stopped goes on after its last whole file; a folder that is complete is left as it is.

    Args:
        preset: the scale, or its name.
        out: the data set folder.
        seed: the world's seed.
        association_split: halve the pairs of the forgotten people by pair or by field.
        workers: processes that draw; all cores by default. It does not change a byte.
        ray: draw on a Ray cluster instead: its address, or ``auto`` for the one at hand or one of this machine's cores.
        captions: who writes the sensitive captions, by default the preset's; `llm` is a language model.
        caption_options: options of that source by name, e.g. ``{"model": "owner/name"}``.
        sources: where faces and pictures come from, and whether they are curated; by default all are drawn.
        progress: shows a bar a stage.

    Returns:
        ``out``.

    Raises:
        UserError: the folder holds something else, or the preset asks for more faces or classes than there are.
        RunError: the disk is full, or a worker was killed.
    """
    scale = preset_by_name(preset)
    world = replace(scale.world, captions=captions or scale.world.captions)
    options = {f"captions.{key}": value for key, value in (caption_options or {}).items()}
    source = open_source(caption_sources, world.captions, options, prefix="captions.")
    sources = sources or Sources()
    casting = Casting(sources, seed=seed, long_side=world.long_side, scratch=out / STAGES, progress=progress)
    settings = {
        "package": version("salmubench"),
        "preset": scale.name,
        "seed": seed,
        "association_split": association_split,
        "world": asdict(world),
        "sources": asdict(sources),
        **source.settings,
    }
    with alone(out):
        _open_folder(out, settings)
        if (out / MANIFEST_FILE).is_file():
            return out
        write_captions = functools.partial(source.write, seed=seed, scratch=out / ANSWERS, progress=progress)
        plan = make_plan(world, seed, association_split, write_captions, casting, progress)
        total = sum(map(len, plan.splits.values())) + len(plan.general) + len(plan.held_out)
        draw = cluster(ray) if ray else studio(workers or cores())
        with draw as render, progress("drawing people and icons", total) as advance:
            _write_evaluation(out / "salmubench", plan, render, advance)
            _write_general(out, plan, render, advance)
        _write_training(out / "salmu", out / "salmubench", progress)
        writers = Counter(entry["source"] for entry in plan.sides[CAPTIONS_FILE].values())
        facts = {"counts": counts(plan), "captions": writers, "licences": [casting.portraits.licence, icons.LICENCE]}
        write_cards(out, facts={**settings, **facts})
        shutil.rmtree(out / ANSWERS, ignore_errors=True)
        write_manifest(out, facts={**settings, **casting.facts(), **facts}, progress=progress)
    return out
