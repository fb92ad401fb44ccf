"""sweep_speedup: wall of eight runs on one Ray worker / on two, one thread each. Aim: >= 1.8.

Ray's cluster is started beforehand and each of its workers warmed by a run, so that what is compared is the runs. The
two are timed in turn, and the medians compared: a machine shared with others changes its speed by the minute.

    .venv/bin/python benchmarks/sweep_speedup.py MODEL DATA [BUDGET [ROUNDS]]
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from salmubench.studies.study import Study
from salmubench.studies.sweep import sweep

RUNS = 8


def seconds(study: Study, cpus: int, out: Path) -> float:
    """Wall of the study on a warm cluster of so many CPUs."""
    import ray

    ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    sweep(study.model_copy(update={"seeds": [1_000 + place for place in range(cpus)]}), out, ray="auto", threads=1)
    began = time.perf_counter()
    done = sweep(study, out, ray="auto", threads=1)
    took = time.perf_counter() - began
    ray.shutdown()
    assert not done.failed, done.failed
    return took


def main() -> None:
    model, data = sys.argv[1:3]
    budget, rounds = [*sys.argv[3:5], "1", "1"][:2]
    study = Study(
        data=data, models={"m": model}, methods=["finetuning"], budgets=[float(budget)], seeds=list(range(RUNS))
    )
    found: dict[int, list[float]] = {1: [], 2: []}
    for number in range(int(rounds)):
        for cpus, walls in found.items():
            with tempfile.TemporaryDirectory() as scratch:
                walls.append(seconds(study, cpus, Path(scratch)))
            print(f"round {number + 1}: {cpus} worker(s): {walls[-1]:.1f} s", flush=True)
    print(f"sweep_speedup: {median(found[1]) / median(found[2]):.2f}")


if __name__ == "__main__":
    main()
