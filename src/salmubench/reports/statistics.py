"""The page of a data set's statistics: statistics.json and a self-contained index.html."""

from dataclasses import asdict
from pathlib import Path

import jinja2

from salmubench.atomic import require_writable, write_json, write_text
from salmubench.personas.validation import require_inputs, statistics
from salmubench.progress import Progress, silent

PAGE = "index.html"
NEGLIGIBLE, NOTABLE = 0.15, 0.1
"""Cliff's delta below which two samples count as alike; Cramer's V above which an attribute tells the group."""


def prepare_statistics(out: Path, *, model: str | None = None, real_portraits: Path | None = None) -> None:
    """Says before the long work what would stop ``write_statistics`` after it.

    Raises:
        UserError: the page cannot be written there, or model or portraits cannot be read.
    """
    require_writable(out / PAGE)
    require_inputs(model, real_portraits)


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
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("salmubench.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = (Path(__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
    page = environment.get_template("statistics.html").render(
        found=found, css=css, negligible=NEGLIGIBLE, notable=NOTABLE, shown=12
    )
    write_json(out / "statistics.json", found)
    write_text(out / PAGE, page)
    return out / PAGE
