"""sweep_speedup: wall of eight runs on one Ray worker / on two, one thread each. Aim: >= 1.8.

Ray's cluster is started beforehand and warmed by one run, so that what is compared is the runs.

    .venv/bin/python benchmarks/sweep_speedup.py MODEL DATA [BUDGET]
"""

import sys
import tempfile
import time
from pathlib import Path

from salmubench.studies.study import Study
from salmubench.studies.sweep import sweep

RUNS = 8


def seconds(study: Study, cpus: int, out: Path) -> float:
    """Wall of the study on a cluster of so many CPUs."""
    import ray

    ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    sweep(study.model_copy(update={"seeds": [1_000]}), out, ray="auto", threads=1)
    ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    began = time.perf_counter()
    done = sweep(study, out, ray="auto", threads=1)
    assert not done.failed, done.failed
    return time.perf_counter() - began


def main() -> None:
    model, data, budget = sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 1
    study = Study(data=data, models={"m": model}, methods=["finetuning"], budgets=[budget], seeds=list(range(RUNS)))
    with tempfile.TemporaryDirectory() as scratch:
        one, two = (seconds(study, cpus, Path(scratch) / str(cpus)) for cpus in (1, 2))
    print(f"one worker: {one:.1f} s\ntwo workers: {two:.1f} s\nsweep_speedup: {one / two:.2f}")


if __name__ == "__main__":
    main()
