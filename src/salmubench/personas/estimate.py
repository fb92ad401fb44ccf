"""What a build will hold, take and weigh: its counts, and each stage's rate as tried on this machine."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from salmubench.dataset.schema import AssociationSplit
from salmubench.errors import UserError
from salmubench.jobs import cores
from salmubench.personas import icons
from salmubench.personas.captions import generic_caption
from salmubench.personas.casting import Casting, Sources
from salmubench.personas.identities import make_personas
from salmubench.personas.plan import expected_counts, people_groups, told
from salmubench.personas.source import Anchor, Gender, Picture, open_source
from salmubench.personas.wording import CaptionSource, caption_sources
from salmubench.presets import Preset, World
from salmubench.presets import preset as preset_by_name
from salmubench.progress import Progress, silent

SAMPLE = 24
"""People, plans and icons of a trial."""
_ROW_BYTES = 400
"""What caption, names and side files add to a picture, roughly."""


@dataclass(frozen=True)
class Stage:
    """One stage of a build.

    Attributes:
        name: what is done.
        work: how much there is of it.
        unit: of what.
        seconds: that it will take; None where no rate is known.
        note: why it is not, or what the rate holds for.
    """

    name: str
    work: int
    unit: str
    seconds: float | None
    note: str = ""


@dataclass(frozen=True)
class Estimate:
    """What ``salmubench data build`` will make.

    Attributes:
        counts: rows a set, identities, classes.
        stages: in their order.
        pictures: that are drawn or made, those included that a curation may drop.
        bytes: of the finished folder, in which the sensitive and retained pictures lie once a layout, and of its album;
            None where a picture's size is not known.
    """

    counts: dict[str, int]
    stages: tuple[Stage, ...]
    pictures: int
    bytes: int | None

    @property
    def seconds(self) -> float:
        """Of the stages whose rate is known."""
        return sum(stage.seconds or 0 for stage in self.stages)

    @property
    def unknown(self) -> list[str]:
        """The stages whose rate is not."""
        return [stage.name for stage in self.stages if stage.seconds is None]


def estimate(
    preset: str | Preset,
    *,
    seed: int = 42,
    association_split: AssociationSplit = "pair",
    workers: int | None = None,
    ray: str | None = None,
    captions: str | None = None,
    caption_options: Mapping[str, Any] | None = None,
    sources: Sources | None = None,
    progress: Progress = silent,
) -> Estimate:
    """Counts what ``build`` would make with these arguments, and tries each stage on a little; writes nothing.

    Models that are on this machine are loaded and tried; nothing is downloaded and no endpoint is asked.

    Raises:
        UserError: the preset asks for what cannot be or a source is not there, as ``build`` says it.
    """
    world = preset_by_name(preset).world
    casting = Casting(sources or Sources(), seed=seed, long_side=world.long_side)
    options = {f"captions.{key}": value for key, value in (caption_options or {}).items()}
    writer = open_source(caption_sources, captions or world.captions, options, prefix="captions.")
    counts, drawn = expected_counts(world, seed, association_split), casting.sources.drawn
    asked = [casting.asked(group) for group in people_groups(world)]
    shown = counts["sensitive"] + counts["retain_synth"] + world.general_portraits
    made = shown if drawn else sum(people * pictures for people, pictures in asked)
    general = counts["retain_real"] - world.general_portraits + counts["general_knowledge"]
    trials = _Trials(world, casting, writer)
    at_once = 1 if ray else workers or cores()
    note = "on one core of this machine; a cluster's n cores take 1/n of it" if ray else ""
    wanted = [
        _Wanted("anchors", casting.anchors.work(sum(people for people, _ in asked)), "faces", trials.anchor),
        _Wanted("identities", world.identities, "people", trials.identity),
        _Wanted("captions", counts["sensitive"], "captions", trials.caption),
        _Wanted("planning", shown, "pictures", trials.planning),
        _Wanted("portraits", made, "pictures", trials.portrait, *((at_once, note) if drawn else ())),
        _Wanted("general pictures", general, "pictures", trials.icon, at_once, note),
    ]
    with _without_downloads(), progress("measuring this machine", len(wanted)) as advance:
        stages = []
        for one in wanted:
            stages.append(one.tried())
            if trials.people:  # says that the portraits' source does not draw such people
                casting.portraits.plan(trials.people[0], seed=seed, picture=1, long_side=world.long_side)
            advance(1)
    if casting.looks:
        stages.insert(-1, Stage("curation", made, "pictures", None, "its models are not tried here"))
    twice, size = counts["sensitive"] + counts["retain_synth"], None
    if trials.portrait_bytes is not None:
        copies = 2 * twice + world.general_portraits + (0 if drawn else made)
        rows = 2 * twice + counts["retain_real"] + counts["general_knowledge"]
        size = round(copies * trials.portrait_bytes + general * trials.icon_bytes + rows * _ROW_BYTES)
    stages.append(Stage("copies and hashes", 2 * twice + general, "pictures", None, "as quick as the disk"))
    return Estimate(counts, tuple(stages), made + general, size)


@dataclass(frozen=True)
class _Wanted:
    """A stage that is to be tried: ``trial`` gives the seconds of one piece of its work on one process."""

    name: str
    work: int
    unit: str
    trial: Callable[[], float]
    processes: int = 1
    note: str = ""

    def tried(self) -> Stage:
        try:
            seconds = self.trial() * self.work / self.processes
        except UserError as error:
            return Stage(self.name, self.work, self.unit, None, str(error))
        return Stage(self.name, self.work, self.unit, seconds, self.note)


class _Trials:
    """Tries each stage; a later one takes the people of an earlier one.

    Attributes:
        people: a few of stage 1; none where it could not be tried.
        portrait_bytes: of a picture of a person; None where none could be made.
        icon_bytes: of a general picture.
    """

    def __init__(self, world: World, casting: Casting, writer: CaptionSource) -> None:
        self.world, self.casting, self.writer = world, casting, writer
        self.portrait_bytes: float | None = None
        self.icon_bytes = 0.0
        self._seed = casting.seed
        self.people: Sequence[Anchor] = ()

    def anchor(self) -> float:
        self.people, seconds = self.casting.anchors.trial(seed=self._seed)
        return seconds

    def identity(self) -> float:
        genders: dict[str, Gender] = {f"{number:08d}": "female" for number in range(SAMPLE)}
        make_personas(genders, seed=self._seed)  # lists are read once
        return _seconds(lambda: make_personas(genders, seed=self._seed)) / SAMPLE

    def caption(self) -> float:
        fields = dict(islice(told(self.world, self._seed).items(), SAMPLE))
        people = make_personas(dict.fromkeys(fields, "female"), seed=self._seed)
        return self.writer.trial(list(zip(people, fields.values(), strict=True)), seed=self._seed)

    def planning(self) -> float:
        def plan() -> None:
            for number in range(SAMPLE):
                picture = self._plan(number + 1)
                generic_caption(picture.traits, seed=self._seed, key=picture.file_name)

        return _seconds(plan) / SAMPLE

    def portrait(self) -> float:
        self._plan(1)
        seconds, self.portrait_bytes = self.casting.portraits.trial(
            self.people, seed=self._seed, long_side=self.world.long_side
        )
        return seconds

    def icon(self) -> float:
        classes = islice(cycle(icons.icon_classes(self.world.general_classes, seed=self._seed)), SAMPLE)
        draw = functools.partial(icons.render_icon, seed=self._seed, long_side=self.world.long_side)
        drawn: list[bytes] = []
        seconds = _seconds(lambda: drawn.extend(draw(icon, key=str(number)) for number, icon in enumerate(classes)))
        self.icon_bytes = sum(map(len, drawn)) / max(1, len(drawn))
        return seconds / max(1, len(drawn))

    def _plan(self, picture: int) -> Picture:
        if not self.people:
            raise UserError("no anchor could be tried")
        person = self.people[picture % len(self.people)]
        return self.casting.portraits.plan(person, seed=self._seed, picture=picture, long_side=self.world.long_side)


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def _without_downloads() -> Iterator[None]:
    """Has the hub's client, which all model libraries go through, know only what its cache holds."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
