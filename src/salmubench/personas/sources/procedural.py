"""Stages 1 and 2 without a model: faces that python_avatars draws."""

import functools
import time
from collections.abc import Iterator, Sequence
from typing import Any

from salmubench.errors import UserError
from salmubench.options import NoOptions
from salmubench.personas.anchors import DrawnFace, make_anchors
from salmubench.personas.portraits import LICENCE, Portrait, draw_portrait, render_portrait
from salmubench.personas.source import Anchor, anchor_source, portrait_source
from salmubench.progress import Progress, silent

_TRIAL = 24
"""Faces and pictures of a trial."""


@anchor_source("procedural", NoOptions)
class ProceduralAnchors:
    """Faces to be drawn, sampled so that no two people look alike."""

    def __init__(self, options: NoOptions) -> None:
        pass

    def sample(
        self,
        count: int,
        *,
        seed: int,
        purpose: str,
        avoid: Sequence[Anchor] = (),
        beside: Sequence[Anchor] = (),
        first_id: int = 0,
        progress: Progress = silent,
    ) -> list[DrawnFace]:
        """See ``make_anchors``."""
        known = [[face for face in faces if isinstance(face, DrawnFace)] for faces in (avoid, beside)]
        return make_anchors(
            count, seed=seed, purpose=purpose, avoid=known[0], beside=known[1], first_id=first_id, progress=progress
        )

    def work(self, people: int) -> int:
        """See ``AnchorSource``."""
        return people

    def trial(self, *, seed: int) -> tuple[list[DrawnFace], float]:
        """See ``AnchorSource``."""
        started = time.perf_counter()
        people = make_anchors(_TRIAL, seed=seed, purpose="trial")
        return people, (time.perf_counter() - started) / _TRIAL

    def facts(self) -> dict[str, Any]:
        """None: a drawn face is nobody's."""
        return {}


@portrait_source("procedural", NoOptions)
class ProceduralPortraits:
    """Drawings of the faces of ``--anchors procedural``, many a second and without a model."""

    licence = LICENCE
    at_once = 16

    def __init__(self, options: NoOptions) -> None:
        pass

    def plan(self, anchor: Anchor, *, seed: int, picture: int, long_side: int) -> Portrait:
        """See ``render_portrait``.

        Raises:
            UserError: the face is a photograph.
        """
        if not isinstance(anchor, DrawnFace):
            raise UserError("--portraits procedural: draws no photographed faces; add --portraits ip-adapter")
        return render_portrait(anchor, seed=seed, picture=picture, long_side=long_side)

    def batches(self, pictures: Sequence[Portrait]) -> Iterator[list[Portrait]]:
        """As they come."""
        for start in range(0, len(pictures), self.at_once):
            yield list(pictures[start : start + self.at_once])

    def draw(self, pictures: Sequence[Portrait], *, seed: int) -> list[bytes]:
        """One after another; a picture's bytes do not depend on its company."""
        return [portrait.image for portrait in pictures]

    def trial(self, people: Sequence[DrawnFace], *, seed: int, long_side: int) -> tuple[float, float]:
        """See ``PortraitSource``."""
        tasks = [functools.partial(draw_portrait, one, seed=seed, picture=1, long_side=long_side) for one in people]
        tasks[0]()  # what is read and cached once
        started = time.perf_counter()
        size = sum(len(task()) for task in tasks)
        return (time.perf_counter() - started) / len(tasks), size / len(tasks)
