"""From nothing to a report in a browser: people, two models, every method, ten metrics, one page.

Each step is the public function behind a verb of the command line, and each keeps what it finds finished; so a second
run only opens the report, and a killed one goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from salmubench.atomic import sha256_file, write_json
from salmubench.dataset.manifest import read_manifest
from salmubench.dataset.schema import FRAGILE_IDS_FILE
from salmubench.dataset.splits import write_fragile
from salmubench.encoders.encoder import WEIGHTS_FILE
from salmubench.encoders.pretrain import train
from salmubench.errors import UserError
from salmubench.evaluation.protocol import evaluate, score_fragile
from salmubench.evaluation.report import outcomes_path, read_report
from salmubench.jobs import Job, Pool
from salmubench.personas.build import build
from salmubench.presets import preset as preset_by_name
from salmubench.progress import Progress, console
from salmubench.reports.site import build_site
from salmubench.unlearning.method import methods
from salmubench.unlearning.run import unlearn

BOUNDS = ("clean", "compromised")


def demo(
    out: str | Path = "salmubench-demo", *, preset: str = "mini", seed: int = 42, progress: Progress = console
) -> Path:
    """Runs the whole benchmark at a small scale.

    Writes ``out/data``, ``out/models/{clean,compromised}``, ``out/runs/<method>-<budget>x``, ``out/reports/*.json``,
    ``out/site/index.html`` and, last, ``out/demo.json`` with the seconds that each phase took this time.

    Args:
        out: the folder to write; finished steps in it are kept.
        preset: ``tiny`` (to see the path) or ``mini`` (to see the effect).
        seed: the one seed of everything. Two runs with one seed on one machine give the same report.
        progress: shows the bars of the steps that run in this process.

    Returns:
        The report page, ``out/site/index.html``.

    Raises:
        UserError: there is no such preset, or ``out`` holds a demo of other settings.
    """
    scale = preset_by_name(preset)
    out = Path(out)
    data, models, reports = out / "data", out / "models", out / "reports"
    clock = _Clock()
    with clock("making people, pictures and captions"):
        build(scale, data, seed=seed, progress=progress)
    with Pool() as pool:
        shared = {"data": data, "preset": scale, "seed": seed, "threads": pool.threads}
        with clock("training Clean and Compromised") as title:
            pool.run(title, [Job("", train, {"which": which, "out": models / which, **shared}) for which in BOUNDS])
        with clock("measuring Clean and Compromised") as title:
            if not (data / "salmubench" / FRAGILE_IDS_FILE).is_file():
                write_fragile(data, score_fragile(models / "compromised", data, progress=progress))
            bounds = {name: reports / f"{name}.json" for name in BOUNDS}
            measure = {"data": data, "seed": seed}
            pool.run(
                title,
                [
                    Job(name, evaluated, {"checkpoint": models / name, "out": bounds[name], **measure})
                    for name in BOUNDS
                ],
            )
        with clock("unlearning and measuring each method") as title:
            recipe = {"data": data, "model": models / "compromised", "seed": seed, **asdict(scale.unlearning)}
            runs = {f"{method}-{scale.unlearning.budget:g}x": method for method in methods}
            pool.run(
                title,
                [
                    Job(
                        run,
                        unlearned_and_evaluated,
                        {
                            "unlearning": {"method": method, "out": out / "runs" / run, **recipe},
                            "out": reports / f"{run}.json",
                            "bounds": bounds,
                        },
                    )
                    for run, method in runs.items()
                ],
            )
    with clock("drawing the report"):
        page = build_site([*bounds.values(), *(reports / f"{run}.json" for run in runs)], out / "site", data=data)
    write_json(
        out / "demo.json",
        {"preset": preset, "seed": seed, "processes": pool.workers, "threads": pool.threads, "seconds": clock.seconds},
    )
    return page


class _Clock:
    """Seconds of each phase, in order; entered with the phase's title, which it hands back."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, title: str) -> Iterator[str]:
        started = time.perf_counter()
        yield title
        self.seconds[title] = round(time.perf_counter() - started, 1)


def evaluated(
    checkpoint: Path, data: Path, out: Path, seed: int, progress: Progress, bounds: dict[str, Path] | None = None
) -> Path:
    """The checkpoint's report at ``out``: the one that is there if it is of these weights and these data."""
    manifest = read_manifest(data)
    try:
        provenance = read_report(out).provenance
        fresh = (
            outcomes_path(out).is_file()
            and provenance.weights_sha256 == sha256_file(checkpoint / WEIGHTS_FILE)
            and manifest is not None
            and provenance.data_revision == manifest.revision
            and provenance.seed == seed
        )
    except UserError:
        fresh = False
    if not fresh:
        clean, compromised = (bounds[name] for name in BOUNDS) if bounds else (None, None)
        evaluate(
            checkpoint, data, name=out.stem, out=out, seed=seed, progress=progress, clean=clean, compromised=compromised
        )
    return out


def unlearned_and_evaluated(unlearning: dict[str, Any], out: Path, bounds: dict[str, Path], progress: Progress) -> Path:
    """One method's run and its report."""
    checkpoint = unlearn(**unlearning, progress=progress)
    return evaluated(checkpoint, unlearning["data"], out, unlearning["seed"], progress, bounds)
