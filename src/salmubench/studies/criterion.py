"""The criterion by which settings are chosen: it looks at forget and retain pairs alone, never at a holdout or Clean.

Let g(D) be the mean cosine of the true pairs of D less that of D's pairs with captions permuted, at the unlearned model
u or at the original o. Then

    leak    = |g_u(forget) / g_o(forget)|              0: a true caption is no nearer than another's
    damage  = mean over retain pairs of |c_u - c_o| / |g_o(retain)|, c: the pair's cosine
    score   = leak + damage                            lower is better

A model that forgets by breaking pays in damage; one that changes nothing has leak 1 and damage 0. Both are in units of
the original's own gaps. Over-generalisation to other people cannot be seen without holdouts, and is not sought here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from salmubench.atomic import replacing
from salmubench.encoders.encoder import Encoder
from salmubench.errors import UserError
from salmubench.evaluation.similarity import row_cosines
from salmubench.progress import Progress, silent
from salmubench.seeds import generator
from salmubench.unlearning.data import SETS, ForgetRetain

MOST_PAIRS = 2_000
"""Pairs of each set, drawn once by the seed; all of them where there are fewer."""


@dataclass(frozen=True)
class Cosines:
    """Cosines of each set's pairs, true and with captions permuted, by the set's name."""

    true: dict[str, NDArray[np.float64]]
    permuted: dict[str, NDArray[np.float64]]

    def gap(self, name: str) -> float:
        """How much nearer a true caption is than another pair's, on average."""
        return float(self.true[name].mean() - self.permuted[name].mean())


@dataclass(frozen=True)
class Criterion:
    """How far a model is from having forgotten at no cost; 0 is best."""

    leak: float
    damage: float

    @property
    def score(self) -> float:
        return self.leak + self.damage


def pair_cosines(encoder: Encoder, data: ForgetRetain, *, seed: int = 42, progress: Progress = silent) -> Cosines:
    """Encodes a sample of the forget and of the retain pairs; of one seed, the same pairs for every model."""
    true, permuted = {}, {}
    for name in SETS:
        draw = generator(seed, "criterion", name)
        rows = np.sort(draw.permutation(data.size(name))[:MOST_PAIRS])
        pairs = list(data.read(name, rows))
        picture = encoder.encode_pictures(((pair.where, pair.image) for pair in pairs), len(rows), progress=progress)
        text = encoder.encode_texts([pair.text for pair in pairs], progress=progress)
        order = draw.permutation(len(rows))
        partner = np.empty_like(order)
        partner[order] = np.roll(order, 1)
        true[name], permuted[name] = row_cosines(picture, text), row_cosines(picture, text[partner])
    return Cosines(true, permuted)


def judge(model: Cosines, original: Cosines) -> Criterion:
    """The criterion of a model, from its cosines and those of the original on the same pairs."""
    drift = np.abs(model.true["retain"] - original.true["retain"]).mean()
    return Criterion(abs(model.gap("forget") / original.gap("forget")), float(drift) / abs(original.gap("retain")))


def write_cosines(cosines: Cosines, path: Path) -> None:
    """Keeps the original's cosines for the other runs of a sweep (.npz without pickles)."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file, **{f"{kind}.{name}": values for kind, sets in vars(cosines).items() for name, values in sets.items()}
        )


def read_cosines(path: Path) -> Cosines:
    """What ``write_cosines`` wrote.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            return Cosines(*({name: found[f"{kind}.{name}"] for name in SETS} for kind in ("true", "permuted")))
    except (ValueError, EOFError, KeyError, TypeError, BadZipFile) as error:
        raise UserError(f"{path}: damaged, or not the cosines that a sweep keeps; remove it and run again") from error
