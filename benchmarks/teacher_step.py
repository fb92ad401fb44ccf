"""teacher_step: step time of a method with a frozen original / step time of plain fine-tuning. Aim: <= 1.05.

VLUnlearn looks at the original's features of all its pairs; fine-tuning is given the same pairs, forget and retain, and
no original, so that both encode the same. Steps of the two alternate, after the original has been encoded once, which
is timed by itself. A third argument names another method.

    .venv/bin/python benchmarks/teacher_step.py salmubench-demo/models/compromised salmubench-demo/data
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from salmubench import load_encoder
from salmubench.progress import silent
from salmubench.unlearning.data import ForgetRetain
from salmubench.unlearning.features import FeatureSource
from salmubench.unlearning.method import Method, NoOptions, Step, clip_loss, methods
from salmubench.unlearning.plan import make_plan
from salmubench.unlearning.run import parameter_groups

BATCH, ROUNDS, WARM = 32, 40, 4


class FineTuning(Method[NoOptions]):
    """CLIP's loss on both sets."""

    needs = ("forget", "retain")

    def loss(self, step: Step) -> Tensor:
        return clip_loss(step.forget) + clip_loss(step.retain)


class Run:
    """Steps of one method on a model of its own."""

    def __init__(self, method: Method, checkpoint: str, data: ForgetRetain, scratch: Path) -> None:
        encoder = load_encoder(checkpoint)
        plan = make_plan(data.size("forget"), data.size("retain"), budget=1, batch_size=BATCH, seed=42)
        self.method, self.model = method, encoder.model
        began = time.perf_counter()
        self.source = FeatureSource(
            data, plan, method.needs, encoder, steps=len(plan), scratch=scratch, progress=silent
        )
        self.preparation = time.perf_counter() - began
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, 1e-3), lr=3e-5, fused=True)

    def step(self, number: int) -> float:
        """Seconds of one step."""
        began = time.perf_counter()
        loss = self.method.loss(self.source.encode(self.model, self.source.inputs(number)))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.source.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


def main() -> None:
    checkpoint, data = sys.argv[1], ForgetRetain(sys.argv[2])
    entry = methods[sys.argv[3] if len(sys.argv) > 3 else "vlunlearn"]
    with tempfile.TemporaryDirectory() as scratch:
        built = entry.build(entry.parse({}))
        plain, taught = (Run(method, checkpoint, data, Path(scratch)) for method in (FineTuning(NoOptions()), built))
        seconds = []
        for number in range(WARM + ROUNDS):
            step = number % len(plain.source.plan)
            pair = [run.step(step) for run in ((plain, taught) if number % 2 else (taught, plain))]
            seconds.append(pair if number % 2 else pair[::-1])
    times = np.array(seconds[WARM:])
    print(f"threads: {torch.get_num_threads()}, steps of each: {ROUNDS}, pairs a step: {BATCH} and {BATCH}")
    print(f"preparation_plain: {plain.preparation:.1f} s, with_original: {taught.preparation:.1f} s")
    print(f"step_plain: {np.median(times[:, 0]) * 1000:.1f} ms, with_original: {np.median(times[:, 1]) * 1000:.1f} ms")
    low, ratio, high = np.quantile(times[:, 1] / times[:, 0], [0.25, 0.5, 0.75])
    print(f"teacher_step: {ratio:.3f} (quartiles {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
