"""From nothing to a report in a browser: people, two models, every method, ten metrics, one page.

Each step is the public function behind a verb of the command line, and each keeps what it finds finished; so a second
run only opens the report, and a killed one goes on where it was.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salmubench.atomic import read_json, sha256_file, write_json
from salmubench.dataset.manifest import read_manifest
from salmubench.dataset.schema import FRAGILE_IDS_FILE
from salmubench.dataset.splits import write_fragile
from salmubench.encoders.checkpoint import RECORD_FILE, WEIGHTS_FILE
from salmubench.encoders.pretrain import train
from salmubench.errors import UserError
from salmubench.evaluation.metric import describe
from salmubench.evaluation.protocol import evaluate, score_fragile
from salmubench.evaluation.report import outcomes_path, read_report
from salmubench.jobs import Job, Pool
from salmubench.personas.build import build
from salmubench.presets import Preset, recipe
from salmubench.presets import preset as preset_by_name
from salmubench.progress import Progress, console
from salmubench.reports.site import build_site
from salmubench.unlearning.method import methods
from salmubench.unlearning.run import unlearn

BOUNDS = ("clean", "compromised")


@dataclass(frozen=True)
class Demo:
    """What a demo made: the report page, and the reports on it (the two bounds first)."""

    page: Path
    reports: list[Path]


def demo(
    out: str | Path = "salmubench-demo", *, preset: str = "mini", seed: int = 42, progress: Progress = console
) -> Demo:
    """Runs the whole benchmark at a small scale.

    Writes ``out/data``, ``out/models/{clean,compromised}``, ``out/runs/<method>-<budget>x``, ``out/reports/*.json``,
    ``out/site/index.html`` and, last, ``out/demo.json`` with the seconds that each phase took this time.

    Args:
        out: the folder to write; finished steps in it are kept.
        preset: ``tiny`` (to see the path) or ``mini`` (to see the effect).
        seed: the one seed of everything. Two runs with one seed on one machine give the same report.
        progress: shows the bars of the steps that run in this process.

    Raises:
        UserError: there is no such preset, or ``out`` holds a demo of other settings.
    """
    scale = preset_by_name(preset)
    out = Path(out)
    clock = _Clock()
    with clock("making people, pictures and captions"):
        build(scale, out / "data", seed=seed, progress=progress)
    with Pool() as pool:
        bounds = _bounds(out, scale, seed, pool, clock, progress)
        runs = _runs(out, scale, seed, pool, clock, bounds)
    with clock("drawing the report"):
        reports = [*bounds.values(), *runs]
        page = build_site(reports, out / "site", data=out / "data")
    write_json(
        out / "demo.json",
        {"preset": preset, "seed": seed, "processes": pool.workers, "threads": pool.threads, "seconds": clock.seconds},
    )
    return Demo(page, reports)


def _bounds(out: Path, scale: Preset, seed: int, pool: Pool, clock: _Clock, progress: Progress) -> dict[str, Path]:
    """Trains Clean and Compromised, lets Compromised choose the fragile set, and measures both."""
    data, models = out / "data", out / "models"
    with clock("training Clean and Compromised") as title:
        shared = {"data": data, "preset": scale, "seed": seed, "threads": pool.threads}
        pool.run(title, [Job("", train, {"which": which, "out": models / which, **shared}) for which in BOUNDS])
    with clock("measuring Clean and Compromised") as title:
        manifest = read_manifest(data)
        if manifest is None or f"salmubench/{FRAGILE_IDS_FILE}" not in manifest.files:
            write_fragile(data, score_fragile(models / "compromised", data, progress=progress))
        reports = {name: out / "reports" / f"{name}.json" for name in BOUNDS}
        measure = {"data": data, "seed": seed}
        jobs = [Job(name, evaluated, {"checkpoint": models / name, "out": reports[name], **measure}) for name in BOUNDS]
        pool.run(title, jobs)
    return reports


def _runs(out: Path, scale: Preset, seed: int, pool: Pool, clock: _Clock, bounds: dict[str, Path]) -> list[Path]:
    """Unlearns with every registered method and measures each run."""
    shared = {"data": out / "data", "model": out / "models" / "compromised", "seed": seed}
    jobs = []
    for method in methods:
        run = f"{method}-{scale.unlearning.budget:g}x"
        unlearning = {"method": method, "out": out / "runs" / run, **shared, **recipe(scale, method)}
        report = out / "reports" / f"{run}.json"
        jobs.append(Job(run, unlearned_and_evaluated, {"unlearning": unlearning, "out": report, "bounds": bounds}))
    with clock("unlearning and measuring each method") as title:
        reports: list[Path] = pool.run(title, jobs)
    return reports


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
        report = read_report(out)
        provenance = report.provenance
        fresh = (
            outcomes_path(out).is_file()
            and {key: entry.version for key, entry in report.metrics.items()}
            == {spec.key: spec.version for spec in describe()}
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
            checkpoint,
            data,
            name=out.stem,
            out=out,
            seed=seed,
            progress=progress,
            clean=clean,
            compromised=compromised,
            cache=False,  # each of these weights is measured once
        )
    return out


def unlearned_and_evaluated(unlearning: dict[str, Any], out: Path, bounds: dict[str, Path], progress: Progress) -> Path:
    """One method's run and its report. A run of a method that has been edited since is made anew."""
    record = unlearning["out"] / RECORD_FILE
    if record.is_file() and read_json(record).get("method_sha256") != methods[unlearning["method"]].source_sha256:
        shutil.rmtree(unlearning["out"])
    checkpoint = unlearn(**unlearning, progress=progress)
    return evaluated(checkpoint, unlearning["data"], out, unlearning["seed"], progress, bounds)
