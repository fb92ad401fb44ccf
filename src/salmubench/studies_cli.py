"""The verb of many runs: ``salmubench sweep``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from salmubench.atomic import write_text
from salmubench.errors import UserError, printable

if TYPE_CHECKING:
    from salmubench.studies.study import Study
    from salmubench.studies.sweep import Sweep


def sweep(
    study: Annotated[
        Path, typer.Argument(metavar="STUDY.yaml", help="Methods, settings, budgets, seeds, checkpoints.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the runs; finished ones in it are skipped.")],
    data: Annotated[str | None, typer.Option(help="A data set folder, instead of the study's.")] = None,
    model: Annotated[str | None, typer.Option(help="The checkpoint to start from, instead of the study's.")] = None,
    clean: Annotated[Path | None, typer.Option(help="Clean's report: one bound of the verdicts.")] = None,
    compromised: Annotated[Path | None, typer.Option(help="Compromised's report: the other bound.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at once on this machine.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads a run; by default the cores shared out.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="auto|ADDRESS", help="Run on a Ray cluster; needs the extra `scale`.")
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs a run on Ray or Slurm; on Ray a fraction shares one.")] = 0,
    slurm: Annotated[
        Path | None, typer.Option(help="Write a Slurm job array for `sbatch` here, and run nothing.")
    ] = None,
    only: Annotated[
        list[int] | None, typer.Option(help="Run this one alone, by its number from --dry-run; repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs and what is finished; run nothing.")
    ] = False,
    save_best: Annotated[
        Path | None, typer.Option(help="Write each method's best settings by the criterion (docs/sweep.md) here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of tables.")] = False,
) -> None:
    """Run a study: methods x budgets x seeds x settings x checkpoints; ends with a table and results.parquet."""
    from salmubench.studies import sweep as studies
    from salmubench.studies.study import read_study

    models = None if model is None else {Path(model).name: model}
    asked = read_study(study, data=data, models=models, clean=clean, compromised=compromised)
    if dry_run:
        _list(studies.plan(asked, out), workers, as_json)
        return
    if slurm is not None:
        if unused := [flag for flag, given in (("--only", only), ("--ray", ray), ("--save-best", save_best)) if given]:
            raise UserError(
                f"{unused[0]} with --slurm: that writes a script for the whole study and runs nothing; give one of them"
            )
        if gpus != int(gpus):
            raise UserError(f"--gpus {gpus:g}: Slurm gives whole GPUs; only a run on Ray may take a fraction of one")
        given = {"out": out, "data": data, "model": model, "clean": clean, "compromised": compromised}
        flags = [word for key, value in given.items() if value is not None for word in (f"--{key}", str(value))]
        count = len(studies.plan(asked, out).planned)
        write_text(slurm, studies.job_array([str(study), *flags], count, threads=threads or 1, gpus=int(gpus)))
        typer.echo(f"The job array: sbatch {slurm}")
        return
    done = studies.sweep(asked, out, workers=workers, threads=threads, ray=ray, gpus=gpus, only=only)
    if save_best is not None:
        studies.save_best(done, save_best, command=f"salmubench sweep {study}")
    _show(done, asked, as_json)
    if done.failed:
        raise typer.Exit(1)


def _show(done: Sweep, study: Study, as_json: bool) -> None:
    from salmubench.reports.results import with_bounds
    from salmubench.reports.table import table
    from salmubench.studies.sweep import rows

    if as_json:
        typer.echo(json.dumps({"runs": rows(done), "results": done.results and str(done.results)}, indent=1))
        return
    if reports := done.reports:
        Console().print(table(with_bounds(reports, study.clean, study.compromised)))
    for run, why in done.failed.items():
        typer.echo(f"Failed: {run}: {printable(why)}; the same command tries it again.", err=True)
    if done.results is not None:
        typer.echo(f"The results: {done.results}")


def _list(planned: Sweep, workers: int, as_json: bool) -> None:
    from rich.table import Table

    left = planned.seconds_left(workers)
    if as_json:
        runs: list[dict[str, Any]] = [
            {"run": each.folder.name, "finished": each.finished, **each.run.setting(), "seed": each.run.seed}
            for each in planned.planned
        ]
        typer.echo(json.dumps({"runs": runs, "seconds_left": left}, indent=1))
        return
    grid = Table(box=None)
    for title in ("#", "run", "seed", "settings", "finished"):
        grid.add_column(title, overflow="fold")
    for number, each in enumerate(planned.planned):
        run = each.run
        words = f"lr {run.learning_rate:g}, batch {run.batch_size}, {run.scope} "
        words += " ".join(f"{key}={value}" for key, value in run.options.items())
        grid.add_row(str(number), each.folder.name, str(run.seed), words, "yes" if each.finished else "")
    Console().print(grid)
    done = sum(each.finished for each in planned.planned)
    time = "unknown until one is" if left is None else f"about {left / 60:.0f} min with {workers} at once"
    typer.echo(f"{len(planned.planned)} runs, {done} finished; the rest takes {time}.")
