"""Who is in the world and which pictures of them there are: stages 1 to 3 by the sources that are named.

Drawings are cheap and pass every test by construction: they are planned and drawn when the data set is written. All
else (a diffusion model, or a curation) is made first, into an album: ``<scratch>/album/<identity>/<file name>``. What
stands there is not made again, so that a run that was stopped goes on after its last whole batch.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from salmubench.atomic import read_json, replacing, write_json
from salmubench.errors import RunError, UserError
from salmubench.options import parse_options
from salmubench.personas import portraits
from salmubench.personas.captions import generic_caption
from salmubench.personas.contact import write_contact_sheet
from salmubench.personas.curation import Candidate, CurationOptions, Verdicts, curate, require_models
from salmubench.personas.source import (
    Anchor,
    AnchorSource,
    Picture,
    PortraitSource,
    anchor_sources,
    open_source,
    portrait_sources,
)
from salmubench.personas.studio import Task
from salmubench.progress import Progress, silent

PROCEDURAL = "procedural"
ALBUM = "album"
"""Folder of the pictures that are made before the data set is written, one folder a person."""
MOST_PICTURES = 999
"""Of a person: a picture's name has three digits for its number."""
_PREFIXES = ("anchors.", "portraits.", "curation.")


@dataclass(frozen=True)
class Sources:
    """Where people come from.

    Attributes:
        anchors: a source of anchors by name, or ``folder:PATH``.
        portraits: a source of portraits by name.
        curation: judge the pictures and keep those that pass.
        settings: their options, e.g. ``{"portraits.steps": "20", "curation.keep": "0.7"}``.
    """

    anchors: str = PROCEDURAL
    portraits: str = PROCEDURAL
    curation: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def drawn(self) -> bool:
        """Whether pictures are drawn when the data set is written, without an album."""
        return self.portraits == PROCEDURAL and not self.curation


@dataclass(frozen=True)
class Take:
    """One picture of a person: its name, what it shows, how to get its bytes."""

    file_name: str
    traits: Mapping[str, str]
    image: Task


@dataclass(frozen=True)
class Group:
    """People who are asked for together.

    Attributes:
        purpose: who they are.
        people: how many.
        pictures: what each may need.
        first_id: the number of the first.
    """

    purpose: str
    people: int
    pictures: int
    first_id: int = 0


class Cast:
    """The people of one group and their pictures, drawn when they are asked for.

    Attributes:
        people: in the order of their numbers.
    """

    def __init__(self, people: Sequence[Any], *, seed: int, long_side: int) -> None:
        self.people = people
        self._seed, self._long_side = seed, long_side

    def numbers(self, identity: str, most: int) -> Sequence[int]:
        """The picture numbers that there are of a person: the first ``most`` where all can be drawn."""
        return range(1, most + 1)

    def take(self, anchor: Any, number: int) -> Take:
        """Picture number ``number`` of a person."""
        settings = {"seed": self._seed, "picture": number, "long_side": self._long_side}
        portrait = portraits.render_portrait(anchor, **settings)
        return Take(portrait.file_name, portrait.traits, functools.partial(portraits.draw_portrait, anchor, **settings))


class Album(Cast):
    """The people of one group and their pictures, made before."""

    def __init__(self, people: Sequence[Anchor], pictures: Mapping[str, Mapping[int, Picture]], folder: Path) -> None:
        self.people = people
        self._pictures, self._folder = pictures, folder

    def numbers(self, identity: str, most: int) -> Sequence[int]:
        return sorted(self._pictures[identity])

    def take(self, anchor: Anchor, number: int) -> Take:
        picture = self._pictures[anchor.identity_id][number]
        path = self._folder / anchor.identity_id / picture.file_name
        return Take(picture.file_name, picture.traits, path.read_bytes)


class Casting:
    """Opens the sources; makes the people and pictures of one group after another.

    Args:
        sources: where people come from.
        seed: the world's seed.
        long_side: of a picture, in pixels.
        scratch: the folder of the album and of the curation's reports; drawings need none.
        progress: shows the pictures made.

    Raises:
        UserError: there is no such source or option.
    """

    def __init__(
        self, sources: Sources, *, seed: int, long_side: int, scratch: Path = Path(), progress: Progress = silent
    ) -> None:
        self.sources, self.seed, self.long_side = sources, seed, long_side
        self.scratch, self.progress = scratch, progress
        for key in sources.settings:
            if not key.startswith(_PREFIXES):
                raise UserError(f"--set {key}: begins with none of {', '.join(_PREFIXES)}; e.g. portraits.steps=20")
        name, _, folder = sources.anchors.partition(":")
        settings = {**sources.settings, **({"anchors.folder": folder} if folder else {})}
        self.anchors: AnchorSource = open_source(anchor_sources, name, settings, prefix="anchors.")
        self.portraits: PortraitSource = open_source(portrait_sources, sources.portraits, settings, prefix="portraits.")
        own = {key.removeprefix("curation."): value for key, value in settings.items() if key.startswith("curation.")}
        if "min_pictures" in own:
            raise UserError("--set curation.min_pictures: the preset says how many pictures a person needs; drop it")
        self.curation: CurationOptions = parse_options(CurationOptions, own, owner="the curation", prefix="curation.")
        if own and not sources.curation:
            raise UserError(f"--set curation.{min(own)}: nothing is curated; add --curation, or drop it")

    @property
    def looks(self) -> bool:
        """Whether the curation has models look at the pictures."""
        return self.sources.curation and bool(self.curation.model or self.curation.faces or self.curation.classifiers)

    def asked(self, group: Group) -> tuple[int, int]:
        """People, and pictures each, that are made for a group: more than it needs if some may fall.

        Raises:
            UserError: more pictures of a person than there are numbers.
        """
        if not self.sources.curation:
            return group.people, group.pictures
        people = math.ceil(group.people * self.curation.people_surplus)
        pictures = math.ceil(group.pictures * self.curation.surplus)
        if pictures > MOST_PICTURES:
            raise UserError(
                f"--set curation.surplus={self.curation.surplus:g}: makes {pictures:,} pictures of a person, and "
                f"{MOST_PICTURES} can be numbered; lower it"
            )
        return people, pictures

    def cast(self, group: Group, *, avoid: Sequence[Anchor] = (), beside: Sequence[Anchor] = ()) -> Cast:
        """So many people with at least so many pictures each.

        Raises:
            UserError: the source has not so many people.
            RunError: too few are left after the curation.
        """
        people, pictures = self.asked(group)
        faces = self.anchors.sample(
            people, seed=self.seed, purpose=group.purpose, avoid=avoid, beside=beside, first_id=group.first_id,
            progress=self.progress,
        )  # fmt: skip
        plan = functools.partial(self.portraits.plan, seed=self.seed, long_side=self.long_side)
        if self.sources.drawn:
            for face in faces[:1]:  # says that it draws no photographs
                plan(face, picture=1)
            return Cast(faces, seed=self.seed, long_side=self.long_side)
        if self.sources.curation and not self._record(group.purpose).is_file():
            require_models(self.curation)
        planned = {face.identity_id: {n: plan(face, picture=n) for n in range(1, pictures + 1)} for face in faces}
        self._make([picture for mine in planned.values() for picture in mine.values()], group.purpose)
        if not self.sources.curation:
            return Album(faces, planned, self._album)
        kept = self._curate(planned, group)
        left = [face for face in faces if face.identity_id in kept]
        if len(left) < group.people:
            raise RunError(
                f"{self._record(group.purpose)}: the curation leaves {len(left)} of {len(faces)} people with "
                f"{group.pictures} pictures, and {group.people} are needed; raise --set curation.surplus or, "
                "to keep all that was made of the set's people, curation.people_surplus, and run again"
            )
        chosen = {
            face.identity_id: {
                number: picture
                for number, picture in planned[face.identity_id].items()
                if picture.file_name in kept[face.identity_id]
            }
            for face in left[: group.people]
        }
        return Album(left[: group.people], chosen, self._album)

    @property
    def _album(self) -> Path:
        return self.scratch / ALBUM

    def _record(self, purpose: str) -> Path:
        return self.scratch / f"curation-{purpose}.json"

    def _path(self, picture: Picture) -> Path:
        return self._album / picture.anchor.identity_id / picture.file_name

    def _make(self, pictures: Sequence[Picture], purpose: str) -> None:
        """Draws what the album lacks. A batch is drawn whole: its pictures' bytes may depend on the company."""
        with self.progress(f"making pictures ({purpose})", len(pictures)) as advance:
            for batch in self.portraits.batches(pictures):
                paths = [self._path(picture) for picture in batch]
                if not all(path.is_file() for path in paths):
                    for path, image in zip(paths, self.portraits.draw(batch, seed=self.seed), strict=True):
                        with replacing(path) as temporary:
                            temporary.write_bytes(image)
                advance(len(batch))

    def _curate(self, planned: Mapping[str, Mapping[int, Picture]], group: Group) -> dict[str, list[str]]:
        """identity -> the file names that stay, as judged by an earlier run or now."""
        record = self._record(group.purpose)
        if record.is_file():
            return dict(read_json(record)["kept"])
        candidates = [
            Candidate(
                anchor=picture.anchor,
                file_name=picture.file_name,
                text=generic_caption(picture.traits, seed=self.seed, key=picture.file_name),
                path=self._path(picture),
                known=self._known(picture),
            )
            for mine in planned.values()
            for picture in mine.values()
        ]
        options = replace(self.curation, min_pictures=group.pictures)
        verdicts: Verdicts = curate(candidates, options, progress=self.progress)
        write_contact_sheet(record.with_suffix(".png"), candidates, verdicts, seed=self.seed)
        write_json(record, {**verdicts.report(), "kept": verdicts.kept})
        return verdicts.kept

    def _known(self, picture: Picture) -> dict[str, str]:
        """What a drawing is known to show, in the words of its traits."""
        known = ("gender", "skin") if self.sources.portraits == PROCEDURAL else ()
        return {kind: picture.traits[kind] for kind in known}

    def facts(self) -> dict[str, Any]:
        """What the manifest records: sources with their options, the photographs, the curation's counts."""
        if self.sources.drawn and self.sources.anchors == PROCEDURAL:
            return {}
        records = {path.stem: read_json(path) for path in sorted(self.scratch.glob("curation-*.json"))}
        for record in records.values():
            del record["kept"]
        return {
            "anchors": {
                "source": self.sources.anchors.partition(":")[0],
                **_options(self.anchors),
                **self.anchors.facts(),
            },
            "portraits": {"source": self.sources.portraits, **_options(self.portraits)},
            **({"curation": records} if records else {}),
        }


def _options(source: Any) -> dict[str, Any]:
    return {"options": asdict(source.options)} if hasattr(source, "options") else {}
