"""Numbers about a data set that no promise fixes: what is alike, and whether anything tells the splits apart.

Each function takes arrays or plain mappings; reading and encoding are done by the caller.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.stats import chi2_contingency, ks_2samp, mannwhitneyu
from sklearn.metrics import roc_auc_score

from salmubench.seeds import generator

_HASH_SIDE, _HASH_PICTURE = 8, 32
_EXPECTED = 5.0
"""Least expected count of a cell of a chi-square table; rarer values are joined as "other"."""


@dataclass(frozen=True)
class Comparison:
    """Two samples of similarities side by side.

    Attributes:
        name: what was compared.
        sizes: of both samples.
        means: of both samples.
        statistic: Kolmogorov and Smirnov's, the largest distance of the two distribution functions, 0 to 1.
        p: of the two-sample test. In large samples it is small for differences that nobody need mind.
        delta: Cliff's effect size, -1 to 1: how much likelier a value of the first sample is above one of the second
            than below it; below .15 it counts as negligible.
    """

    name: str
    sizes: tuple[int, int]
    means: tuple[float, float]
    statistic: float
    p: float
    delta: float


def compare_samples(name: str, one: NDArray[np.floating], other: NDArray[np.floating]) -> Comparison:
    """Compares two samples, shapes (n,) and (m,), neither empty."""
    test = ks_2samp(one, other)
    larger = float(mannwhitneyu(one, other).statistic)
    return Comparison(
        name,
        (len(one), len(other)),
        (float(np.mean(one)), float(np.mean(other))),
        float(test.statistic),
        float(test.pvalue),
        2 * larger / (len(one) * len(other)) - 1,
    )


@dataclass(frozen=True)
class Independence:
    """Whether an attribute tells which group a person or row belongs to: Pearson's chi-square over a table.

    Attributes:
        attribute: what was counted.
        values: distinct values, as counted (the rare ones joined).
        statistic, p: of the test.
        cramers_v: effect size, 0 (independent) to 1.
    """

    attribute: str
    values: int
    statistic: float
    p: float
    cramers_v: float


def independence(attribute: str, groups: Sequence[str], values: Sequence[str]) -> Independence | None:
    """Tests a pair of labels a person or row, both of length n; None where there is nothing to test.

    Values too rare for an expected count of five in every group are joined.
    """
    group_sizes, counted = Counter(groups), Counter(values)
    smallest = min(group_sizes.values(), default=0) / max(len(groups), 1)
    kept = {value for value, count in counted.items() if count * smallest >= _EXPECTED}
    joined = [value if value in kept else "other" for value in values]
    rows, columns = sorted(group_sizes), sorted(set(joined))
    if len(rows) < 2 or len(columns) < 2:
        return None
    cells = Counter(zip(groups, joined, strict=True))
    table = np.array([[cells[row, column] for column in columns] for row in rows])
    statistic, p, _, _ = chi2_contingency(table)
    effect = np.sqrt(statistic / (table.sum() * (min(table.shape) - 1)))
    return Independence(attribute, len(columns), float(statistic), float(p), float(effect))


def perceptual_hash(picture: Image.Image) -> int:
    """64 bits that pictures alike to the eye share: the signs of the low frequencies about their median.

    Zauner (2010), "Implementation and benchmarking of perceptual image hash functions", DCT hash.
    """
    small = picture.convert("L").resize((_HASH_PICTURE, _HASH_PICTURE), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(small, dtype=np.float64), norm="ortho")[:_HASH_SIDE, :_HASH_SIDE].ravel()
    bits = low > np.median(low[1:])  # the first is the mean brightness
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@dataclass(frozen=True)
class Duplicates:
    """Things that occur more than once.

    Attributes:
        what: pictures, captions or values.
        total: how many there are.
        repeated: how many of them have a twin.
        across: how many have a twin in another split or of another person, whichever ``what`` is about.
        example: one such pair, or empty.
    """

    what: str
    total: int
    repeated: int
    across: int
    example: str = ""


def duplicates(what: str, entries: Iterable[tuple[str, str, str]]) -> Duplicates:
    """Counts twins among (key, owner, name): same key; ``across`` where their owners differ."""
    owners: dict[str, list[tuple[str, str]]] = {}
    for key, owner, name in entries:
        owners.setdefault(key, []).append((owner, name))
    twins = [members for members in owners.values() if len(members) > 1]
    mixed = [members for members in twins if len({owner for owner, _ in members}) > 1]
    example = ""
    if mixed:
        first = mixed[0][0]
        second = next(member for member in mixed[0] if member[0] != first[0])
        example = f"{first[1]} ({first[0]}) and {second[1]} ({second[0]})"
    return Duplicates(what, sum(map(len, owners.values())), sum(map(len, twins)), sum(map(len, mixed)), example)


def near_twins(hashes: Sequence[int], people: Sequence[str], distance: int = 4) -> int:
    """How many pictures have a picture of another person within ``distance`` bits of their perceptual hash.

    One row of the (n, n) table of distances is in memory at a time.
    """
    bits = np.array(hashes, dtype=np.uint64)
    owner = np.unique(np.array(people), return_inverse=True)[1]
    return sum(
        bool(((np.bitwise_count(bits ^ bits[row]) <= distance) & (owner != owner[row])).any())
        for row in range(len(bits))
    )


def verification_auc(
    embeddings: NDArray[np.floating], people: Sequence[str], *, seed: int = 0, pairs: int = 20_000
) -> float | None:
    """How well a cosine tells two pictures of one person from pictures of two: area under the ROC curve, 1 is perfect.

    Args:
        embeddings: unit vectors, (n, d).
        people: who each shows, n.
        seed: of the pairs that are drawn.
        pairs: drawn of each kind, with replacement.

    Returns:
        The area, or None where there are no two people or nobody has two pictures.
    """
    owner = np.unique(np.array(people), return_inverse=True)[1]
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(owner.max(initial=-1) + 2))
    several = np.flatnonzero(np.diff(starts) > 1)
    if len(starts) < 3 or not len(several):
        return None
    rng = generator(seed, "verification pairs")
    chosen = rng.choice(several, pairs)
    size = starts[chosen + 1] - starts[chosen]
    first = rng.integers(0, size)
    second = (first + rng.integers(1, size)) % size
    same = order[starts[chosen] + first], order[starts[chosen] + second]
    left, right = rng.integers(0, len(owner), (2, 2 * pairs))
    apart = owner[left] != owner[right]
    cosines = [np.einsum("nd,nd->n", embeddings[a], embeddings[b]) for a, b in (same, (left[apart], right[apart]))]
    labels = np.repeat([1, 0], [len(cosines[0]), len(cosines[1])])
    return float(roc_auc_score(labels, np.concatenate(cosines)))
