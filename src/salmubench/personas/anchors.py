"""Stage 1: the anchor of an identity, i.e. the traits of a face that stay the same in all of a person's pictures."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salmubench.errors import UserError
from salmubench.personas.source import Anchor, Gender
from salmubench.progress import Progress, silent
from salmubench.seeds import generator

SKINS = ("pale", "light", "tan", "brown", "dark")
HAIR_COLORS = ("black", "dark_brown", "auburn", "blonde", "platinum", "red", "grey", "pink", "blue", "green")
BROWS = ("default_natural", "flat_natural", "frown_natural", "raised_excited", "angry_natural", "sad_concerned_natural")
NOSES = ("default", "small", "wide")
FACIAL_HAIR = ("none", "beard_light", "beard_magestic", "moustache_fancy", "moustache_magnum", "wick_beard")
GLASSES = ("none", "prescription_01", "prescription_02", "round", "sunglasses", "kurt")

HAIR: dict[Gender, tuple[str, ...]] = {
    "female": (
        "big_hair", "bob", "bun", "curly", "curvy", "dreads", "fro", "fro_band", "long_not_too_long", "mia_wallace",
        "straight_1", "straight_strand", "braids", "curly_2", "loose_hair", "pixie", "half_shaved", "twist_long_hair",
        "dreadlocks", "wild",
    ),
    "male": (
        "caesar", "short_flat", "short_curly", "short_dreads_1", "short_dreads_2", "shaggy", "shaggy_mullet", "frizzle",
        "elvis", "mohawk", "pompadour", "quiff", "cornrows", "mowgli", "wick", "fro", "wild", "twist_long_hair_2",
    ),
}  # fmt: skip
"""Hair styles by the names of python_avatars. Left out: costumes (astronaut, bride, hat, evil_spike, frida), styles of
one fixed colour (straight_2, shaved_sides), bald heads (their hair colour would not show) and near-duplicates."""

WEIGHTS: dict[str, int] = {"skin": 2, "hair": 2, "hair_color": 2, "facial_hair": 2, "glasses": 2, "brows": 1, "nose": 1}
"""What a differing trait adds to the distance of two anchors: the traits that show from afar count double."""
APART = 4
"""The distance that anchors keep where the space of faces allows it: at least two traits that show from afar."""

_BARE = 0.5
"""Share of people without glasses, and of men without facial hair."""
_DRAWS = (16, 2048)
"""Faces drawn for a person, as people have them: the farthest of the first few, or of many where none is apart."""


@dataclass(frozen=True)
class DrawnFace(Anchor):
    """A face to be drawn. The traits are names of python_avatars parts or of this file's colours."""

    skin: str
    hair: str
    hair_color: str
    brows: str
    nose: str
    facial_hair: str
    glasses: str

    @property
    def demographics(self) -> dict[str, str]:
        """Gender and skin: a drawing tells no age."""
        return {"gender": self.gender, "skin": self.skin}


def distance(one: DrawnFace, other: DrawnFace) -> int:
    """Sum of the weights of the traits in which two faces differ; 0 means that they look alike."""
    return sum(weight for trait, weight in WEIGHTS.items() if getattr(one, trait) != getattr(other, trait))


def _options(gender: Gender) -> dict[str, tuple[str, ...]]:
    """Trait -> what a person of that gender may have, in the order of ``WEIGHTS``."""
    return {
        "skin": SKINS,
        "hair": HAIR[gender],
        "hair_color": HAIR_COLORS,
        "facial_hair": FACIAL_HAIR if gender == "male" else ("none",),
        "glasses": GLASSES,
        "brows": BROWS,
        "nose": NOSES,
    }


class _Space:
    """Every face of a gender, and how far it lies from its nearest neighbour among those placed so far."""

    def __init__(self, gender: Gender) -> None:
        self.gender = gender
        self.options = _options(gender)
        shape = tuple(map(len, self.options.values()))
        farthest = sum(WEIGHTS.values())
        self.others = np.full(shape, farthest, np.uint8)
        """Distance from the nearest of those to keep apart from."""
        self.nearest = np.full(shape, farthest, np.uint8)
        """Distance from the nearest of all."""
        self.shares = [self._shares(trait, options) for trait, options in self.options.items()]

    @staticmethod
    def _shares(trait: str, options: Sequence[str]) -> NDArray[np.float64]:
        weight = np.ones(len(options))
        if trait in ("facial_hair", "glasses") and len(options) > 1:
            weight[options.index("none")] = (len(options) - 1) * _BARE / (1 - _BARE)
        shares: NDArray[np.float64] = weight / weight.sum()
        return shares

    def place(self, face: DrawnFace, *, apart: bool) -> None:
        """Counts a face among the neighbours; ``apart``: of those that must not come near."""
        differs = [
            np.array([option != getattr(face, trait) for option in options], np.uint8) * WEIGHTS[trait]
            for trait, options in self.options.items()
        ]
        # In two halves: an outer sum is quick where its last axis is long.
        halves = [functools.reduce(np.add.outer, half).ravel() for half in (differs[:3], differs[3:])]
        gap = np.add.outer(*halves).reshape(self.nearest.shape)
        np.minimum(self.nearest, gap, out=self.nearest)
        if apart:
            np.minimum(self.others, gap, out=self.others)

    @staticmethod
    def _score(others: Any, nearest: Any) -> Any:
        """Orders by the distance from the others, as far as it counts, then by that from all."""
        return np.minimum(others, APART) * (sum(WEIGHTS.values()) + 1) + nearest

    def draw(self, rng: np.random.Generator) -> dict[str, str] | None:
        """The traits of a new face, or None where the space is full."""
        for draws in _DRAWS:
            drawn = np.stack([rng.choice(len(share), size=draws, p=share) for share in self.shares])
            score = self._score(self.others[tuple(drawn)], self.nearest[tuple(drawn)])
            code = drawn[:, score.argmax()]
            if score.max() >= self._score(APART, APART):
                break
        else:
            whole = self._score(self.others, self.nearest)
            if whole.max() > score.max():
                best = np.flatnonzero(whole == whole.max())
                code = np.array(np.unravel_index(rng.choice(best), whole.shape))
        if self.nearest[tuple(code)] == 0:
            return None
        return {trait: options[at] for (trait, options), at in zip(self.options.items(), code, strict=True)}


def make_anchors(
    count: int,
    *,
    seed: int,
    purpose: str,
    avoid: Sequence[DrawnFace] = (),
    beside: Sequence[DrawnFace] = (),
    first_id: int = 0,
    progress: Progress = silent,
) -> list[DrawnFace]:
    """Samples ``count`` faces, women and men in turn.

    Each face keeps ``APART`` from all of ``avoid`` first, and then lies as far from its nearest neighbour as the best
    of a few draws, of many draws or, where those find nothing, of the whole space.

    Args:
        count: how many.
        seed: the world's seed.
        purpose: names the random stream, e.g. ``"set"`` or ``"outsiders"``.
        avoid: faces of others to keep apart from.
        beside: faces of others to be merely unlike.
        first_id: number of the first identity; ids are eight digits and count up.
        progress: shows the faces.

    Raises:
        UserError: the space of faces is full.
    """
    rng = generator(seed, "anchors", purpose)
    spaces = [_Space("female"), _Space("male")]
    for space in spaces:
        for faces, apart in ((avoid, True), (beside, False)):
            for face in faces:
                space.place(face, apart=apart)
    anchors: list[DrawnFace] = []
    with progress(f"sampling faces ({purpose})", count) as advance:
        for number in range(count):
            space = spaces[number % 2]
            traits = space.draw(rng)
            if traits is None:
                raise UserError(f"no face is left for person {number + 1} of {count} ({purpose}); ask for fewer people")
            anchors.append(DrawnFace(identity_id=f"{first_id + number:08d}", gender=space.gender, **traits))
            for space in spaces:
                space.place(anchors[-1], apart=False)
            advance(1)
    return anchors
