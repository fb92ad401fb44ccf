"""Test material for the leaderboard: entries of made-up reports, as `submit` writes them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from reports_world import METHODS, make_reports
from salmubench.atomic import read_json, write_json
from salmubench.reports.leaderboard.submit import submit

WHO: dict[str, Any] = {"authors": ["Ada", "Bo"], "checkpoint": "hf-hub:ada/forgets"}
RECORD = {"method": "delete", "options": {}, "budget": 2, "learning_rate": 3e-5, "batch_size": 32}


def some_reports(folder: Path, *, revision: str = "sha256:" + "a" * 64, **changes: Any) -> dict[str, Path]:
    """Reports of both bounds and nine methods by name; ``changes`` to their provenance."""
    benchmark: Any = SimpleNamespace(revision=revision, sets={"forget": range(100)})
    paths = make_reports(folder, benchmark, sidecars=False)
    for path in paths:
        content = read_json(path)
        record = {**RECORD, "method": path.stem.removesuffix("-2x")} if path.stem in METHODS else None
        content["provenance"] |= {"unlearning": record, **(changes if record else {})}
        write_json(path, content)
    return {path.stem: path for path in paths}


def some_entries(folder: Path, reports: dict[str, Path], **options: Any) -> Path:
    """A folder of entries, one a report."""
    for name, path in reports.items():
        submit(path, folder / f"{name}.json", kind="method" if name in METHODS else name, **{**WHO, **options})
    return folder


def changed(path: Path, change: Any, to: Path | None = None) -> Path:
    """The entry with what ``change(content)`` makes of it."""
    content = read_json(path)
    change(content)
    write_json(to or path, content)
    return to or path
