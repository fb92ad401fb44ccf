"""bootstrap_seconds: the interval of 30,468 rows of 580 people, 1,000 draws. Aim: < 2, also where each row is a person.

.venv/bin/python benchmarks/bootstrap.py
"""

import time

import numpy as np

from salmubench.evaluation.bootstrap import interval

ROWS, PEOPLE, ROUNDS = 30_468, 580, 5


def main() -> None:
    rng = np.random.default_rng(0)
    outcomes = rng.random(ROWS)
    people = np.array([f"{row % PEOPLE:08d}" for row in range(ROWS)])
    for name, identity_id in (("bootstrap_seconds", people), ("bootstrap_seconds_of_single_rows", None)):
        walls = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            interval(outcomes, identity_id, rng)
            walls.append(time.perf_counter() - started)
        print(f"{name}: {np.median(walls):.3f}")


if __name__ == "__main__":
    main()
