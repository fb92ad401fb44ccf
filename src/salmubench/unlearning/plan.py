"""Which rows each step sees: a pure function of the seed, the sets' sizes, the budget and the batch size."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salmubench.errors import UserError
from salmubench.seeds import generator

Rows = NDArray[np.int64]

MAX_BUDGET = 1000
"""Passes over the forget set. The paper goes to 10; far more would fill the memory with plans before a first step."""


@dataclass(frozen=True)
class Plan:
    """Rows of the forget and of the retain set, step by step.

    A pass over forget shows every row once, in an order of its own. It is cut into equal steps (sizes differ by one at
    most), so no step repeats a row. Retain rows are drawn without replacement until too few are left for a step.

    Attributes:
        seed: what everything random in the run derives from.
        forget: rows of each step, shape (b,); b may differ by one between steps.
        retain: as many retain rows of each step.
        first_pass: steps that the first pass over forget takes.
    """

    seed: int
    forget: tuple[Rows, ...]
    retain: tuple[Rows, ...]
    first_pass: int

    def __len__(self) -> int:
        return len(self.forget)

    def rows(self, name: str, step: int) -> Rows:
        """The rows of the set ``name`` (forget or retain) that ``step`` sees."""
        return (self.forget if name == "forget" else self.retain)[step]

    def consumed(self, name: str, steps: Iterable[int]) -> tuple[Rows, Rows]:
        """The distinct rows of a set that ``steps`` see, ascending, and how often they see each."""
        seen = [np.empty(0, dtype=np.int64), *(self.rows(name, step) for step in steps)]
        rows, counts = np.unique(np.concatenate(seen), return_counts=True)
        return rows, counts

    def permutation(self, step: int) -> Rows:
        """A random cycle through the step's batch, hence without fixed points, shape (b,)."""
        order = generator(self.seed, "unlearning", "permutation", step).permutation(len(self.forget[step]))
        permutation = np.empty_like(order)
        permutation[order] = np.roll(order, 1)
        return permutation


def check_budget(budget: float, batch_size: int) -> None:
    """Refuses what no set could be planned with.

    Raises:
        UserError: the budget or the batch size is out of range.
    """
    if not 0 < budget <= MAX_BUDGET:
        raise UserError(
            f"--budget {budget:g}: must be above 0 and at most {MAX_BUDGET}, counted in passes over the forget set, "
            "e.g. 1 or 0.5"
        )
    if batch_size < 2:
        raise UserError(f"--batch-size {batch_size}: a contrastive loss compares pairs; give 2 or more")


def check_rates(learning_rate: float, warmup_share: float, weight_decay: float) -> None:
    """Refuses what no optimizer could work with.

    Raises:
        UserError: one of the numbers is out of range.
    """
    if not 0 < learning_rate <= 1:
        raise UserError(f"--learning-rate {learning_rate:g}: must be above 0 and at most 1, e.g. 3e-5")
    if not 0 <= warmup_share <= 1:
        raise UserError(f"--warmup-share {warmup_share:g}: must lie between 0 and 1, e.g. 0.1")
    if not 0 <= weight_decay < math.inf:
        raise UserError(f"--weight-decay {weight_decay:g}: must be 0 or more, e.g. 1e-3")


def make_plan(forget: int, retain: int, *, budget: float, batch_size: int, seed: int) -> Plan:
    """Plans a run.

    Args:
        forget: rows of the forget set.
        retain: rows of the retain set.
        budget: passes over forget; a fraction ends the last pass early (two pairs at least).
        batch_size: forget pairs a step, at most; as many retain pairs come with them.
        seed: the run's seed.

    Raises:
        UserError: the budget, the batch size or a set is too small.
    """
    check_budget(budget, batch_size)
    if forget < 2:
        raise UserError(f"the forget set holds {forget} pairs; at least two are needed, check --data")
    steps: list[Rows] = []
    first_pass = 0
    whole = math.floor(budget)
    for number in range(math.ceil(budget)):
        share = 1 if number < whole else budget - whole
        rows = generator(seed, "unlearning", "forget", number).permutation(forget)[: max(2, round(share * forget))]
        steps += np.array_split(rows, min(math.ceil(len(rows) / batch_size), len(rows) // 2))
        first_pass = first_pass or len(steps)
    return Plan(seed, tuple(steps), _draw_retain([len(rows) for rows in steps], retain, seed), first_pass)


def _draw_retain(sizes: list[int], retain: int, seed: int) -> tuple[Rows, ...]:
    if retain < max(sizes):
        raise UserError(f"the retain set holds {retain} pairs, fewer than a step's {max(sizes)}; lower --batch-size")
    steps: list[Rows] = []
    left = np.empty(0, dtype=np.int64)
    passes = 0
    for number, size in enumerate(sizes):
        if len(left) < size:
            # Never the whole retain set of 400 M rows: `choice` draws what the rest of the run can use.
            wanted = min(sum(sizes[number:]), retain)
            left = generator(seed, "unlearning", "retain", passes).choice(retain, size=wanted, replace=False)
            passes += 1
        steps.append(left[:size])
        left = left[size:]
    return tuple(steps)
