"""From nothing to a report in a browser: people, two models, every method, ten metrics, one page.

Each step is the public function behind a verb of the command line, and each keeps what it finds finished; so a second
run only opens the report, and a killed one goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

from salmubench.atomic import sha256_file
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


def demo(
    out: str | Path = "salmubench-demo", *, preset: str = "mini", seed: int = 42, progress: Progress = console
) -> Path:
    """Runs the whole benchmark at a small scale.

    Writes ``out/data``, ``out/models/{clean,compromised}``, ``out/runs/<method>-<budget>x``, ``out/reports/*.json`` and
    ``out/site/index.html``.

    Args:
        out: the folder to write; finished steps in it are kept.
        preset: ``tiny`` (a minute, to see the path) or ``mini`` (minutes, to see the effect).
        seed: the one seed of everything. Two runs with one seed on one machine give the same report.
        progress: shows the bars of the steps that run in this process.

    Returns:
        The report page, ``out/site/index.html``.
    """
    scale = preset_by_name(preset)
    out = Path(out)
    data, models, reports = out / "data", out / "models", out / "reports"
    build(scale, data, seed=seed, progress=progress)
    with Pool() as pool:
        shared = {"data": data, "preset": scale, "seed": seed, "threads": pool.threads}
        pool.run(
            "training Clean and Compromised",
            [
                Job("", train, {"which": which, "out": models / which, **shared})  # both at once, a share of cores each
                for which in ("clean", "compromised")
            ],
        )
        if not (data / "salmubench" / FRAGILE_IDS_FILE).is_file():
            write_fragile(data, score_fragile(models / "compromised", data, progress=progress))
        bounds = {name: reports / f"{name}.json" for name in ("clean", "compromised")}
        pool.run(
            "measuring both",
            [
                Job(name, evaluated, {"checkpoint": models / name, "data": data, "out": path, "seed": seed})
                for name, path in bounds.items()
            ],
        )
        recipe = scale.unlearning
        runs = {f"{method}-{recipe.budget:g}x": method for method in methods}
        pool.run(
            "unlearning and measuring",
            [
                Job(
                    run,
                    unlearned_and_evaluated,
                    {
                        "unlearning": {
                            "method": method,
                            "model": models / "compromised",
                            "data": data,
                            "out": out / "runs" / run,
                            "budget": recipe.budget,
                            "learning_rate": recipe.learning_rate,
                            "batch_size": recipe.batch_size,
                            "warmup_share": recipe.warmup_share,
                            "weight_decay": recipe.weight_decay,
                            "seed": seed,
                        },
                        "out": reports / f"{run}.json",
                        "bounds": bounds,
                    },
                )
                for run, method in runs.items()
            ],
        )
    return build_site([*bounds.values(), *(reports / f"{run}.json" for run in runs)], out / "site", data=data)


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
        clean, compromised = (bounds["clean"], bounds["compromised"]) if bounds else (None, None)
        evaluate(
            checkpoint, data, name=out.stem, out=out, seed=seed, progress=progress, clean=clean, compromised=compromised
        )
    return out


def unlearned_and_evaluated(
    unlearning: dict[str, object], out: Path, bounds: dict[str, Path], progress: Progress
) -> Path:
    """One method's run and its report."""
    checkpoint = unlearn(**unlearning, progress=progress)  # type: ignore[arg-type]
    data, seed = Path(str(unlearning["data"])), int(str(unlearning["seed"]))
    return evaluated(checkpoint, data, out, seed, progress, bounds)
