"""``--limit N``: a part of a benchmark for a quick look, with every set still there."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset.store import Benchmark, PairSet
from salmubench.errors import UserError
from salmubench.seeds import derive


def sample(benchmark: Benchmark, limit: int, *, seed: int) -> Benchmark:
    """Keeps at most ``limit`` rows of each set, spread over its people (or classes) as evenly as possible.

    A picture's priority depends on its name and the seed alone, so overlapping sets keep the same pictures where they
    can, and fewer need to be encoded.

    Raises:
        UserError: ``limit`` is below 1.
    """
    if limit < 1:
        raise UserError(f"--limit {limit}: give the number of rows to keep of each set, 1 or more")
    sets = {name: _sample_pairs(pairs, limit, seed) for name, pairs in benchmark.sets.items()}
    general = benchmark.general_knowledge
    if general is not None:
        names = [f"general_knowledge/{row}" for row in range(len(general.label))]
        kept = _choose(names, general.label.tolist(), limit, seed)
        general = replace(general, picture=general.picture[kept], label=general.label[kept])
    return replace(benchmark, sets=sets, general_knowledge=general)


def _sample_pairs(pairs: PairSet, limit: int, seed: int) -> PairSet:
    strata = [identity or file for identity, file in zip(pairs.identity_id, pairs.file_name, strict=True)]
    kept = set(_choose(pairs.file_name, strata, limit, seed).tolist())
    return pairs.subset(pairs.name, (row in kept for row in range(len(pairs))))


def _choose(names: Sequence[str], strata: Sequence[Hashable], limit: int, seed: int) -> NDArray[np.int64]:
    """Rows taken in rounds, one of each stratum a round, in random order; ascending."""
    priority = [derive(seed, "limit", name) for name in names]
    seen: Counter[Hashable] = Counter()
    turn = {}
    for row in sorted(range(len(names)), key=priority.__getitem__):
        turn[row] = seen[strata[row]]
        seen[strata[row]] += 1
    chosen = sorted(turn, key=lambda row: (turn[row], priority[row]))[:limit]
    return np.array(sorted(chosen), dtype=np.int64)
