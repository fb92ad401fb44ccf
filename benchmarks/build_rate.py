"""build_rate: pictures per second that a build of the preset ``paper`` draws, on a slice of its pictures.

Aim: >= 60 over two idle cores at 512 px.

    .venv/bin/python benchmarks/build_rate.py [WORKERS]
"""

import sys
import time

from salmubench.jobs import cores
from salmubench.personas.estimate import sample
from salmubench.personas.studio import studio
from salmubench.presets import PRESETS

PICTURES = 600


def main() -> None:
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else cores()
    tasks = sample(PRESETS["paper"].world, PICTURES)
    with studio(workers) as render:
        list(render(tasks[: 32 * workers]))  # the processes start and import
        started = time.perf_counter()
        size = sum(map(len, render(tasks)))
        seconds = time.perf_counter() - started
    print(f"workers: {workers}, bytes a picture: {size / len(tasks):.0f}")
    print(f"pictures_per_second: {len(tasks) / seconds:.1f}")


if __name__ == "__main__":
    main()
