"""Many runs: each one unlearns, is measured, and lies in a folder named by its content; results are one tidy parquet.

A sweep keeps no state but its runs' folders. A run whose report is there is finished; so a killed driver goes on, one
sweep may be split over machines, and two studies may share a folder.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from salmubench.atomic import alone, read_json, replacing, require_writable, write_json
from salmubench.encoders.checkpoint import RECORD_FILE, load_encoder, weights_sha256
from salmubench.errors import UserError
from salmubench.evaluation.metric import describe
from salmubench.evaluation.protocol import evaluate
from salmubench.evaluation.report import Report, outcomes_path, read_report
from salmubench.jobs import Failed, Job, Outcomes, apart, cores, on_ray
from salmubench.progress import Progress, silent
from salmubench.studies.criterion import judge, pair_cosines, read_cosines, write_cosines
from salmubench.studies.study import GRID, Run, Study, expand
from salmubench.unlearning.data import ForgetRetain
from salmubench.unlearning.run import unlearn

RESULTS_FILE = "results.parquet"
REPORT_FILE, JUDGED_FILE, FAILURE_FILE = "report.json", "criterion.json", "failure.json"
MOST_TASKS = 1000
"""Slurm's default MaxArraySize."""
STATED = (RECORD_FILE, JUDGED_FILE, REPORT_FILE)
"""Of a run's folder, what its row of results is made of."""
ATTEMPTS = 2
"""Times that a run whose process was lost is tried in one sweep; a run that failed by itself waits for the next."""


@dataclass(frozen=True)
class Planned:
    """A run and its folder."""

    run: Run
    folder: Path

    @property
    def report(self) -> Path:
        return self.folder / REPORT_FILE

    @property
    def finished(self) -> bool:
        """Whether all of it is there; the report is what a run writes last."""
        return self.report.is_file() and outcomes_path(self.report).is_file()

    @property
    def damaged(self) -> bool:
        """Whether it is finished and a file of it cannot be read: a disk that failed, a copy that was cut off."""
        return self.finished and not all(map(_readable, (self.folder / name for name in STATED)))


@dataclass
class Sweep:
    """What a sweep left.

    Attributes:
        planned: its runs, in the study's order.
        failed: why a run failed, by the name of its folder.
        results: the parquet file, or None where only a part of the study was to be run.
    """

    planned: list[Planned]
    failed: dict[str, str] = field(default_factory=dict)
    results: Path | None = None

    @property
    def reports(self) -> list[Report]:
        return [read_report(each.report) for each in self.planned if each.finished]

    def seconds_left(self, workers: int) -> float | None:
        """Estimate for the runs that are left, by the mean of the finished ones; None where none is finished."""
        done = [read_json(each.folder / JUDGED_FILE)["seconds"] for each in self.planned if each.finished]
        left = len(self.planned) - len(done)
        return math.ceil(left / workers) * sum(done) / len(done) if done else None


def plan(study: Study, out: Path) -> Sweep:
    """The study's runs with their folders; reads no more than the hashes of data and checkpoints.

    Raises:
        UserError: the study names no data or checkpoint, or one that cannot be read, or a bound that is no report.
    """
    if study.data is None or not study.models:
        missing = "data (--data)" if study.data is None else "checkpoint under `models` (--model)"
        raise UserError(f"the study names no {missing}; give it")
    for bound in (study.clean, study.compromised):
        if bound is not None:
            read_report(bound)
    hashes = {name: weights_sha256(checkpoint) for name, checkpoint in study.models.items()}
    content = {
        "fingerprint": ForgetRetain(study.data).fingerprint,
        "metrics": {spec.key: spec.version for spec in describe()},
        "limit": study.limit,
    }
    data = json.dumps(content, sort_keys=True)
    planned = [Planned(run, out / "runs" / run.identifier(hashes[run.model], data)) for run in expand(study)]
    return Sweep(planned, _failures(planned))


def _failures(planned: Sequence[Planned]) -> dict[str, str]:
    files = {each.folder.name: each.folder.with_name(f"{each.folder.name}.{FAILURE_FILE}") for each in planned}
    return {name: read_json(file)["why"] for name, file in files.items() if file.is_file()}


def sweep(
    study: Study,
    out: str | Path,
    *,
    workers: int = 1,
    threads: int | None = None,
    ray: str | None = None,
    gpus: float = 0,
    only: Sequence[int] | None = None,
) -> Sweep:
    """Runs what is not finished of a study and collects the results.

    Each run has a process of its own, so that no more than ``workers`` runs are in memory, and its failure is its own.

    Args:
        study: methods x settings x budgets x seeds x checkpoints.
        out: gets ``runs/<run>/`` (checkpoint, record, log, report.json) and results.parquet.
        workers: runs at once on this machine.
        threads: CPU threads of each run; by default the cores shared out among the workers (on Ray: 1).
        ray: run on a Ray cluster instead: its address, or ``auto``.
        gpus: GPUs of each run on Ray; a fraction shares one.
        only: the places in ``plan(study, out).planned`` to run, as a job array does; then nothing is collected.

    Raises:
        UserError: the study cannot be run as it stands.
        RunError: the Ray cluster failed.
    """
    out = Path(out)
    whole = plan(study, out)
    chosen = whole.planned if only is None else [_at(whole.planned, place) for place in only]
    require_writable(out / RESULTS_FILE)
    todo = [each for each in chosen if not each.finished or each.damaged]
    evaluation = {"clean": study.clean, "compromised": study.compromised, "limit": study.limit}
    for attempt in range(ATTEMPTS):
        jobs = [
            Job(each.folder.name, perform, {"run": each.run, "data": study.data, "out": each.folder.resolve(),
                                            "device": study.device, "evaluation": evaluation})
            for each in todo
        ]  # fmt: skip
        lost = []
        for place, outcome in _outcomes(jobs, workers, threads, ray, gpus) if jobs else ():
            _note(todo[place], outcome)
            if isinstance(outcome, Failed) and outcome.lost:
                lost.append(todo[place])
        todo = lost if attempt + 1 < ATTEMPTS else []
    done = Sweep(chosen, _failures(chosen))
    if only is None:
        done.results = out / RESULTS_FILE
        write_results(done)
    return done


def _at(planned: list[Planned], place: int) -> Planned:
    if not 0 <= place < len(planned):
        raise UserError(f"--only {place}: the study has the runs 0 to {len(planned) - 1}")
    return planned[place]


def _outcomes(jobs: list[Job], workers: int, threads: int | None, ray: str | None, gpus: float) -> Outcomes:
    if ray is not None:
        return on_ray("runs", jobs, address=ray, threads=threads or 1, gpus=gpus)
    return apart("runs", jobs, workers=workers, threads=threads or max(1, cores() // workers))


def _note(planned: Planned, outcome: object) -> None:
    """Keeps why a run failed beside its folder, until it succeeds."""
    file = planned.folder.with_name(f"{planned.folder.name}.{FAILURE_FILE}")
    if isinstance(outcome, Failed):
        write_json(file, {"why": outcome.words, "run": asdict(planned.run)})
    else:
        file.unlink(missing_ok=True)


def perform(
    run: Run, data: str, out: Path, device: str | None, evaluation: dict[str, Any], progress: Progress = silent
) -> None:
    """One run: unlearns, judges, measures. What is there and can be read is not done again; the report comes last."""
    for damaged in (out / name for name in STATED if not _readable(out / name)):
        damaged.unlink(missing_ok=True)
    settings = {key: value for key, value in run.setting().items() if key not in ("method", "options")}
    options = {key: str(value) for key, value in run.options.items()}
    checkpoint = unlearn(
        run.method, run.checkpoint, data, out, options=options, seed=run.seed, device=device, tracker="none",
        progress=progress, **settings,
    )  # fmt: skip
    if not (out / JUDGED_FILE).is_file():
        encoder, pairs = load_encoder(checkpoint, device=device), ForgetRetain(data)
        original = out.parent / f"original-{weights_sha256(run.checkpoint)[:16]}-{pairs.fingerprint[:16]}.npz"
        if not original.is_file():
            write_cosines(pair_cosines(load_encoder(run.checkpoint, device=device), pairs, progress=progress), original)
        judged = judge(pair_cosines(encoder, pairs, progress=progress), read_cosines(original))
        seconds = read_json(out / RECORD_FILE)["run"]["seconds"]
        write_json(out / JUDGED_FILE, {**asdict(judged), "score": judged.score, "seconds": seconds, "run": asdict(run)})
    evaluate(
        checkpoint, data, name=out.name, out=out / REPORT_FILE, device=device, cache=False, progress=progress,
        **evaluation,
    )  # fmt: skip


def _readable(path: Path) -> bool:
    try:
        return bool(read_report(path) if path.name == REPORT_FILE else read_json(path))
    except UserError:
        return False


def write_results(done: Sweep) -> None:
    """Writes results.parquet: one row a number of a run; a failed run has one row with ``error`` and no value.

    Columns: run, what was set (model, method, budget, seed, scope, ..., options as JSON), metric, number, value, low,
    high, target, verdict, leakage_reduction, criterion, leak, damage, seconds, peak_memory_mb, error.
    """
    assert done.results is not None
    with alone(done.results.parent), replacing(done.results) as temporary:
        pd.DataFrame(rows(done)).to_parquet(temporary, index=False)


def rows(done: Sweep) -> list[dict[str, Any]]:
    """The rows of ``write_results``."""
    return [row for each in done.planned for row in _rows(each, done.failed.get(each.folder.name))]


def _rows(planned: Planned, error: str | None) -> list[dict[str, Any]]:
    settings = asdict(planned.run) | {"options": json.dumps(planned.run.options, sort_keys=True)}
    common = {"run": planned.folder.name, **settings, "error": error}
    if error is not None or not planned.finished:
        return [common]
    report, judged = read_report(planned.report), read_json(planned.folder / JUDGED_FILE)
    run = read_json(planned.folder / RECORD_FILE)["run"]
    common |= {
        "verdict": report.verdict and report.verdict.label,
        "leakage_reduction": report.verdict and report.verdict.leakage_reduction,
        "criterion": judged["score"], "leak": judged["leak"], "damage": judged["damage"],
        "seconds": run["seconds"], "peak_memory_mb": run["peak_memory_mb"],
    }  # fmt: skip
    rows = []
    for key, entry in report.metrics.items():
        numbers: dict[str, float | None] = {**(entry.numbers() or {"": None})}
        for number, value in numbers.items():
            low, high = entry.interval_of(number) or (None, None)
            rows.append({**common, "metric": key, "number": number, "value": value, "low": low, "high": high,
                         "target": entry.target})  # fmt: skip
    return rows


def best(done: Sweep) -> dict[str, dict[str, Any]]:
    """Each method's settings with the lowest criterion, a mean over seeds, budgets and checkpoints.

    Raises:
        UserError: no run is finished.
    """
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for each in done.planned:
        if each.finished:
            setting = {key: getattr(each.run, key) for key in (*GRID, "options")}
            key = each.run.method, json.dumps(setting, sort_keys=True)
            found.setdefault(key, []).append(read_json(each.folder / JUDGED_FILE))
    if not found:
        raise UserError("no run of the study is finished; run the sweep first")
    chosen: dict[str, dict[str, Any]] = {}
    for (method, tried), judged in found.items():
        mean = {part: round(sum(one[part] for one in judged) / len(judged), 4) for part in ("score", "leak", "damage")}
        if method not in chosen or mean["score"] < chosen[method]["criterion"]["score"]:
            chosen[method] = {**json.loads(tried), "criterion": mean}
    return dict(sorted(chosen.items()))


def save_best(done: Sweep, path: Path, *, command: str) -> None:
    """Writes the tuned settings as a preset's table (``salmubench/tuned/<preset>.json``)."""
    write_json(path, {"command": command, "methods": best(done)})


def job_array(arguments: Sequence[str], count: int, *, threads: int, gpus: int) -> str:
    """A Slurm batch script whose task i does the runs i, i + tasks, ...; ``sbatch`` takes it as it stands.

    Args:
        arguments: of ``salmubench sweep``.
        count: runs in all.
        threads: CPUs a task.
        gpus: GPUs a task.
    """
    tasks = min(count, MOST_TASKS)
    command = shlex.join(["salmubench", "sweep", *arguments])
    lines = [
        "#!/bin/bash",
        "#SBATCH --job-name=salmubench-sweep",
        f"#SBATCH --array=0-{tasks - 1}",
        f"#SBATCH --cpus-per-task={threads}",
        *([f"#SBATCH --gpus-per-task={gpus}"] if gpus else []),
        "#SBATCH --output=sweep-%A_%a.log",
        "#SBATCH --requeue",
        "failed=0",
        f"for run in $(seq $SLURM_ARRAY_TASK_ID {tasks} {count - 1}); do",
        f'  {command} --threads {threads} --only "$run" || failed=1',
        "done",
        "exit $failed",
        f"# When all tasks have ended, this collects the results: {command}",
    ]
    return "\n".join(lines) + "\n"
