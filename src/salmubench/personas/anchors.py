"""Stage 1: the anchor of an identity, i.e. the traits of a face that stay the same in all of a person's pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from salmubench.errors import UserError
from salmubench.seeds import generator

Gender = Literal["female", "male"]

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

_COMMON = {"facial_hair": {"none": 0.45}, "glasses": {"none": 0.5}}
_CANDIDATES = 16
_ROUNDS = 40


@dataclass(frozen=True)
class Anchor:
    """A face. All values but the first two are names of python_avatars parts or of this file's colours."""

    identity_id: str
    gender: Gender
    skin: str
    hair: str
    hair_color: str
    brows: str
    nose: str
    facial_hair: str
    glasses: str


def distance(one: Anchor, other: Anchor) -> int:
    """Sum of the weights of the traits in which two anchors differ; 0 means that they look alike."""
    return sum(weight for trait, weight in WEIGHTS.items() if getattr(one, trait) != getattr(other, trait))


def _options(gender: Gender) -> dict[str, tuple[str, ...]]:
    return {
        "skin": SKINS,
        "hair": HAIR[gender],
        "hair_color": HAIR_COLORS,
        "facial_hair": FACIAL_HAIR if gender == "male" else ("none",),
        "glasses": GLASSES,
        "brows": BROWS,
        "nose": NOSES,
    }


def _candidate(rng: np.random.Generator, gender: Gender) -> dict[str, str]:
    traits = {}
    for trait, options in _options(gender).items():
        common = _COMMON.get(trait, {})
        rest = (1 - sum(common.values())) / max(1, len(options) - len(common))
        shares = [common.get(option, rest) for option in options] if len(options) > 1 else [1.0]
        traits[trait] = str(rng.choice(options, p=shares))
    return traits


def _codes(traits: Sequence[dict[str, str]], codebook: dict[str, int]) -> NDArray[np.int16]:
    rows = [[codebook.setdefault(row[trait], len(codebook)) for trait in WEIGHTS] for row in traits]
    return np.array(rows, dtype=np.int16).reshape(len(rows), len(WEIGHTS))


def make_anchors(
    count: int, *, seed: int, purpose: str, avoid: Sequence[Anchor] = (), first_id: int = 0
) -> list[Anchor]:
    """Samples ``count`` faces, women and men in turn, that keep apart from each other and from ``avoid``.

    Best-candidate sampling: each face is the one of 16 draws that lies farthest from its nearest neighbour so far, and
    further draws follow until it is ``APART`` or, after 40 rounds, merely unlike all others.

    Args:
        count: how many.
        seed: the world's seed.
        purpose: names the random stream, e.g. ``"set"`` or ``"outsiders"``.
        avoid: faces of others to keep apart from.
        first_id: number of the first identity; ids are eight digits and count up.

    Raises:
        UserError: the space of faces is full.
    """
    rng = generator(seed, "anchors", purpose)
    weights = np.array(list(WEIGHTS.values()), dtype=np.int16)
    codebook: dict[str, int] = {}
    taken = np.empty((len(avoid) + count, len(WEIGHTS)), dtype=np.int16)
    taken[: len(avoid)] = _codes([{trait: getattr(anchor, trait) for trait in WEIGHTS} for anchor in avoid], codebook)
    anchors: list[Anchor] = []
    for number in range(count):
        gender: Gender = "female" if number % 2 == 0 else "male"
        present = taken[: len(avoid) + number]
        best, best_gap = None, 0
        for _ in range(_ROUNDS):
            candidates = [_candidate(rng, gender) for _ in range(_CANDIDATES)]
            codes = _codes(candidates, codebook)
            gaps = ((codes[:, None, :] != present[None]) @ weights).min(axis=1, initial=int(weights.sum()))
            farthest = int(np.argmax(gaps))
            if gaps[farthest] > best_gap:
                best, best_gap = candidates[farthest], int(gaps[farthest])
                taken[len(avoid) + number] = codes[farthest]
            if best_gap >= APART:
                break
        if best is None:
            raise UserError(
                f"there is no face left for person {number + 1} of {count} ({purpose}); ask for fewer people"
            )
        anchors.append(Anchor(identity_id=f"{first_id + number:08d}", gender=gender, **best))
    return anchors
