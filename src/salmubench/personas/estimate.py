"""What a build will hold, take and weigh, from its plan and a few pictures drawn on this machine."""

import functools
import time
from dataclasses import dataclass

from salmubench.dataset.schema import AssociationSplit
from salmubench.jobs import cores
from salmubench.personas import portraits
from salmubench.personas.anchors import make_anchors
from salmubench.personas.plan import counts, make_plan
from salmubench.personas.studio import Task
from salmubench.presets import Preset, World
from salmubench.presets import preset as preset_by_name

SAMPLE = 24
"""Pictures drawn to measure the rate."""
_ROW_BYTES = 400
"""What caption, names and side files add to a picture, roughly."""


@dataclass(frozen=True)
class Estimate:
    """What ``salmubench data build`` will make.

    Attributes:
        counts: rows a set, identities, classes.
        pictures: pictures that will be drawn.
        bytes: of the finished folder; the sensitive and retained pictures lie in it twice, once a layout.
        seconds: of drawing, with all workers at the rate measured.
        pictures_per_second: that rate.
        workers: processes that will draw.
    """

    counts: dict[str, int]
    pictures: int
    bytes: int
    seconds: float
    pictures_per_second: float
    workers: int


def sample(world: World, count: int) -> list[Task]:
    """Tasks that draw ``count`` portraits of a world's size, all different."""
    people = make_anchors(min(count, world.identities), seed=0, purpose="sample")
    return [
        functools.partial(
            portraits.draw_portrait,
            people[number % len(people)],
            seed=0,
            picture=number // len(people) + 1,
            long_side=world.long_side,
        )
        for number in range(count)
    ]


def estimate(
    preset: str | Preset, *, seed: int = 42, association_split: AssociationSplit = "pair", workers: int | None = None
) -> Estimate:
    """Plans a build without writing anything, and measures how fast this machine draws.

    Raises:
        UserError: the preset asks for what cannot be, as ``build`` says it.
    """
    world, workers = preset_by_name(preset).world, workers or cores()
    tasks = sample(world, SAMPLE)
    tasks[0]()  # what is read and cached once
    started = time.perf_counter()
    drawn = sum(len(task()) for task in tasks)
    rate = workers * len(tasks) / (time.perf_counter() - started)
    found = counts(make_plan(world, seed, association_split))
    twice = found["sensitive"] + found["retain_synth"]
    once = found["retain_real"] + found["general_knowledge"]
    return Estimate(
        counts=found,
        pictures=twice + once,
        bytes=(2 * twice + once) * (drawn // len(tasks) + _ROW_BYTES),
        seconds=(twice + once) / rate,
        pictures_per_second=rate,
        workers=workers,
    )
