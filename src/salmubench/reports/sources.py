"""What a report page is made of: report files, folders that hold them, and files of attacks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from salmubench.dataset.pictures import open_parquet, read_columns
from salmubench.errors import UserError
from salmubench.evaluation.report import Report, parse_report, read_result
from salmubench.reports.relearning import Curve, is_attack, read_curves

IN_FOLDER = ("report.json", "reports/*.json", "runs/*/report.json", "*/report.json", "attack.json",
             "runs/*/attack.json", "*/attack.json")  # fmt: skip
"""Where the files of a run, a sweep or a demo lie in their folder; one with none of these has reports alone."""


@dataclass(frozen=True)
class Sources:
    """Reports with their paths, in one order, and the curves of attacks."""

    paths: tuple[Path, ...]
    reports: tuple[Report, ...]
    curves: tuple[Curve, ...]


def read_sources(named: Sequence[Path]) -> Sources:
    """Reads what the user named: files, folders of a run, a sweep or a demo, and results.parquet of a sweep.

    Raises:
        UserError: a file cannot be read or is neither report nor attack; a folder holds none; there is no report.
    """
    paths: list[Path] = []
    reports: list[Report] = []
    curves: list[Curve] = []
    for path in dict.fromkeys(file for each in named for file in _files(Path(each))):
        content = read_result(path)
        if is_attack(content):
            curves += read_curves(path)
        else:
            paths.append(path)
            reports.append(parse_report(content, path))
    if curves and not reports:
        raise UserError("there are files of attacks but no report to show; name at least one report.json")
    return Sources(tuple(paths), tuple(reports), tuple(curves))


def _files(path: Path) -> list[Path]:
    if path.suffix == ".parquet":
        return _runs(path)
    if not path.is_dir():
        return [path]
    found = [file for pattern in IN_FOLDER for file in sorted(path.glob(pattern)) if file.is_file()]
    if not found and not (found := sorted(path.glob("*.json"))):
        raise UserError(f"{path}: holds no report ({', '.join(IN_FOLDER[:3])}); name the report files")
    return found


def _runs(results: Path) -> list[Path]:
    """The reports of the runs that a sweep's results.parquet lists, failed ones left out."""
    names = open_parquet(results).schema_arrow.names
    if "run" not in names:
        raise UserError(f"{results}: lacks the column 'run'; give the results.parquet of a sweep")
    table = read_columns(results, ["run", "value"]).to_pydict() if "value" in names else {"run": [], "value": []}
    finished = dict.fromkeys(run for run, value in zip(*table.values(), strict=True) if value is not None)
    if not finished:
        raise UserError(f"{results}: no run in it is finished; run the sweep again")
    return [results.parent / "runs" / str(run) / "report.json" for run in finished]
