"""The page of a data set's statistics: statistics.json and a self-contained index.html."""

from dataclasses import asdict
from pathlib import Path

from salmubench.atomic import write_json, write_text
from salmubench.personas.validation import statistics
from salmubench.progress import Progress, silent
from salmubench.reports.pages import scripts, templates

NEGLIGIBLE, NOTABLE = 0.15, 0.1
"""Cliff's delta below which two samples count as alike; Cramer's V above which an attribute tells the group."""


def write_statistics(
    data: str | Path,
    out: Path,
    *,
    model: str | None = None,
    real_portraits: Path | None = None,
    progress: Progress = silent,
) -> Path:
    """Computes the statistics and writes both files.

    Args:
        data: a data set folder, an evaluation folder, or ``hf://owner/name``.
        out: the folder to write.
        model: the checkpoint whose similarities are compared.
        real_portraits: a folder of real portraits to compare with.
        progress: shows the long steps.

    Returns:
        The page.

    Raises:
        UserError: data, model or portraits cannot be read.
    """
    found = asdict(statistics(data, model=model, real_portraits=real_portraits, progress=progress))
    environment = templates()
    page = environment.get_template("statistics.html").render(
        found=found, negligible=NEGLIGIBLE, notable=NOTABLE, shown=12, **scripts(environment)
    )
    write_json(out / "statistics.json", found)
    write_text(out / "index.html", page)
    return out / "index.html"
