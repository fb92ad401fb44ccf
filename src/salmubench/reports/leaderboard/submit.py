"""``leaderboard submit``: an entry from a report and the folder of the run, or all that is missing for one."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from salmubench.atomic import sha256_file
from salmubench.encoders.checkpoint import weights_sha256
from salmubench.errors import UserError
from salmubench.evaluation.report import Report, read_report
from salmubench.reports.leaderboard.entry import (
    UNTUNED,
    Checkpoint,
    Entry,
    ReportFile,
    metric_versions,
    problems,
    read_entry,
    settings_of,
    write_entry,
)
from salmubench.reports.redact import plain


def submit(
    report: str | Path,
    out: str | Path,
    *,
    run: str | Path | None = None,
    arch: str | None = None,
    kind: str = "method",
    method: str | None = None,
    track: str | None = None,
    budget: float | None = None,
    settings: Mapping[str, str] | None = None,
    untuned: bool = False,
    authors: Sequence[str] = (),
    paper: str | None = None,
    code: str | None = None,
    checkpoint: str | None = None,
    link: bool = False,
) -> Entry:
    """Makes an entry, checks it as ``build`` does, and writes it.

    Method, budget, settings and track are taken from the record of the run that the report holds; a run without one
    names them.

    Args:
        report: the report of the whole benchmark, as ``evaluate --out`` writes it.
        out: the entry to write (JSON).
        run: the checkpoint's folder or weights file (with ``arch``), to prove that the report speaks of it.
        arch: as for ``evaluate``.
        kind: ``method``, or ``clean`` or ``compromised`` for a bound.
        method: its name on the leaderboard.
        track: ``standard`` or ``open``; by default the first where the record proves it.
        budget: passes over the forget set.
        settings: what was set to other than the method's default, where no record says so.
        untuned: nothing was.
        authors: who made the entry.
        paper: an https address.
        code: an https address.
        checkpoint: where others find the weights: ``hf-hub:OWNER/NAME``, an https address or a path beside the entry.
        link: name the report by its path from the entry's folder instead of embedding it.

    Returns:
        The entry.

    Raises:
        UserError: something is missing (all of it is named) or wrong.
    """
    source, out = Path(report), Path(out)
    found = read_report(source)
    origin = found.provenance
    record = origin.unlearning or {}
    told = settings_of(record) if record else dict(settings or {}) or (UNTUNED if untuned or kind != "method" else None)
    named: dict[str, Any] = {
        "method": method or record.get("method") or (kind if kind != "method" else None),
        "budget": budget if budget is not None else record.get("budget"),
        "settings": told,
        "authors": list(authors) or None,
        "checkpoint": checkpoint,
    }
    flags = {"method": "--method", "budget": "--budget", "settings": "--set or --untuned", "authors": "--author",
             "checkpoint": "--checkpoint"}  # fmt: skip
    needless = {"budget"} if kind != "method" else set()
    missing = [flags[key] for key, value in named.items() if value is None and key not in needless]
    if missing:
        raise UserError(f"{source}: an entry of it lacks {', '.join(missing)}; add what is missing")
    if run is not None and (actual := weights_sha256(run, arch=arch)) != origin.weights_sha256:
        raise UserError(f"{source}: speaks of other weights than {run} (SHA-256 {actual[:12]}…); evaluate that run")
    proven = bool(record) and origin.touched_holdout is False
    try:
        entry = Entry.model_validate(
            named
            | {
                "schema": 1,
                "kind": kind,
                "track": track or ("standard" if proven or kind != "method" else "open"),
                "paper": paper,
                "code": code,
                "checkpoint": Checkpoint(reference=str(checkpoint), sha256=origin.weights_sha256),
                "report": _beside(source, out) if link else _without_times(found),
                "data_revision": origin.data_revision,
                "metric_versions": metric_versions(found),
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0])
        raise UserError(f"--{where} {plain(str(first['input']), 80)}: {first['msg']}; mend it") from None
    if faults := list(problems(entry, found)):
        raise UserError(f"{source}: no entry can be made of it: {'; '.join(faults)}")
    write_entry(entry, out)
    read_entry(out)
    return entry


def optional_gaps(entry: Entry, report: Report) -> list[str]:
    """What an entry does without, though readers will ask for it."""
    gaps = [f"no {name} is named (--{name})" for name in ("paper", "code") if getattr(entry, name) is None]
    skipped = [key for key, metric in report.metrics.items() if metric.value is None]
    if skipped:
        gaps.append(f"{', '.join(skipped)} not measured")
    if entry.kind == "method" and entry.track == "open":
        gaps.append("the open track: nothing proves that the run saw no holdout")
    return gaps


def _without_times(report: Report) -> Report:
    """The report without what a submitter need not show: command line, memory, times."""
    return report.model_copy(update={"provenance": report.provenance.model_copy(update={"run": {}})})


def _beside(report: Path, entry: Path) -> ReportFile:
    path = os.path.relpath(report.resolve(), entry.resolve().parent)
    if path.startswith(".."):
        raise UserError(f"{report}: does not lie in the entry's folder; copy it there, or leave --link out")
    return ReportFile(path=Path(path).as_posix(), sha256=sha256_file(report))
