"""build_rate: pictures per second that a build of the preset ``paper`` draws, on a slice of its pictures.

Aim: >= 60 over two idle cores at 512 px.

    .venv/bin/python benchmarks/build_rate.py [WORKERS]
"""

import sys
import time
from functools import partial

from salmubench.jobs import cores
from salmubench.personas.anchors import make_anchors
from salmubench.personas.portraits import draw_portrait
from salmubench.personas.studio import studio
from salmubench.presets import PRESETS

PICTURES = 600


def main() -> None:
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else cores()
    people = make_anchors(PICTURES, seed=0, purpose="sample")
    size = PRESETS["paper"].world.long_side
    tasks = [partial(draw_portrait, person, seed=0, picture=1, long_side=size) for person in people]
    with studio(workers) as render:
        list(render(tasks[: 32 * workers]))  # the processes start and import
        started = time.perf_counter()
        drawn = sum(map(len, render(tasks)))
        seconds = time.perf_counter() - started
    print(f"workers: {workers}, bytes a picture: {drawn / len(tasks):.0f}")
    print(f"pictures_per_second: {len(tasks) / seconds:.1f}")


if __name__ == "__main__":
    main()
