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

_BARE = 0.5
"""Share of people without glasses, and of men without facial hair."""
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


def _options() -> dict[str, tuple[str, ...]]:
    """Trait -> what it may be, over both genders, in the order of ``WEIGHTS``."""
    return {
        "skin": SKINS,
        "hair": tuple(dict.fromkeys(HAIR["female"] + HAIR["male"])),
        "hair_color": HAIR_COLORS,
        "facial_hair": FACIAL_HAIR,
        "glasses": GLASSES,
        "brows": BROWS,
        "nose": NOSES,
    }


def _shares(gender: Gender) -> list[NDArray[np.float64]]:
    """How often a person of that gender has each option of each trait."""
    shares = []
    for trait, options in _options().items():
        weight = np.ones(len(options))
        if trait == "hair":
            weight = np.array([style in HAIR[gender] for style in options], dtype=float)
        elif trait == "facial_hair" and gender == "female":
            weight = np.array([option == "none" for option in options], dtype=float)
        elif trait in ("facial_hair", "glasses") and len(options) > 1:
            weight[options.index("none")] = (len(options) - 1) * _BARE / (1 - _BARE)
        shares.append(weight / weight.sum())
    return shares


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
    options = _options()
    shares: dict[Gender, list[NDArray[np.float64]]] = {"female": _shares("female"), "male": _shares("male")}
    weights = np.array(list(WEIGHTS.values()))
    faces = [[options[trait].index(getattr(anchor, trait)) for trait in options] for anchor in avoid]
    taken = np.zeros((len(avoid) + count, len(options)), dtype=np.int64)
    taken[: len(avoid)] = np.array(faces).reshape(-1, len(options))
    anchors: list[Anchor] = []
    for number in range(count):
        gender: Gender = "female" if number % 2 == 0 else "male"
        place, best_gap = len(avoid) + number, 0
        for _ in range(_ROUNDS):
            drawn = np.stack([rng.choice(len(share), size=_CANDIDATES, p=share) for share in shares[gender]], axis=1)
            gaps = ((drawn[:, None] != taken[None, :place]) @ weights).min(axis=1, initial=int(weights.sum()))
            if gaps.max() > best_gap:
                best_gap, taken[place] = int(gaps.max()), drawn[gaps.argmax()]
            if best_gap >= APART:
                break
        if not best_gap:
            raise UserError(f"no face is left for person {number + 1} of {count} ({purpose}); ask for fewer people")
        traits = {trait: choices[code] for (trait, choices), code in zip(options.items(), taken[place], strict=True)}
        anchors.append(Anchor(identity_id=f"{first_id + number:08d}", gender=gender, **traits))
    return anchors
