"""rank_kernel: exact ranks of 30,468 queries among 2,001 candidates / the bare matrix product. Aim: <= 1.3.

.venv/bin/python benchmarks/rank_kernel.py
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from salmubench.evaluation.similarity import exact_ranks

QUERIES, CANDIDATES, DIMENSION, ROUNDS = 30_468, 2_000, 512, 5


def unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    vectors = rng.standard_normal((rows, DIMENSION), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    rng = np.random.default_rng(0)
    queries, targets, candidates = unit(rng, QUERIES), unit(rng, QUERIES), unit(rng, CANDIDATES)
    nobody = np.arange(QUERIES), QUERIES + np.arange(CANDIDATES)
    bare, ours = [], []
    for _ in range(ROUNDS):  # side by side, so that a noisy machine slows both
        bare.append(seconds(lambda: queries @ candidates.T))
        ours.append(seconds(lambda: exact_ranks(queries, targets, candidates, *nobody)))
    print(f"threads: {torch.get_num_threads()}")
    print(f"rank_kernel: {np.median(np.array(ours) / np.array(bare)):.3f}")


if __name__ == "__main__":
    main()
