"""``leaderboard build``: a static site of all entries, opened from disk without a network."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from salmubench.atomic import write_json, write_text
from salmubench.errors import UserError
from salmubench.evaluation.metric import title
from salmubench.reports.leaderboard.entry import TRACKS, read_entry
from salmubench.reports.leaderboard.published import SOURCE
from salmubench.reports.leaderboard.tables import STATES, Board, Submission, as_csv, as_markdown, boards, slug_of
from salmubench.reports.pages import scripts, templates
from salmubench.reports.redact import plain
from salmubench.reports.results import LABELS, MEANING

MOST_ENTRIES = 2000
LEAST_KEY = 16
OURS = re.compile(r"[a-z0-9-]+-[0-9a-f]{8}\.(html|json|csv|md)")
"""How the files of entries and tables are called, so that those of entries that are gone can be removed."""


def read_key(path: Path | None) -> bytes | None:
    """The maintainer's secret.

    Raises:
        UserError: it is not there, or so short that it can be guessed.
    """
    if path is None:
        return None
    try:
        key = path.read_bytes()
    except OSError as error:
        raise UserError(f"--key {path}: cannot be read ({error.strerror}); check the path and its rights") from None
    if len(key) < LEAST_KEY:
        raise UserError(f"--key {path}: holds {len(key)} bytes, which can be guessed; fill it with 32 random ones")
    return key


def read_entries(folder: Path, key: bytes | None = None) -> list[Submission]:
    """Every ``*.json`` of a folder, in the order of names. With a key a stamp that it did not seal is dropped.

    Raises:
        UserError: there is none, or too many, or one is no fit entry.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one that holds the entries")
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise UserError(f"{folder}: holds no entry (*.json); make one with `salmubench leaderboard submit`")
    if len(paths) > MOST_ENTRIES:
        raise UserError(f"{folder}: holds {len(paths)} entries, more than {MOST_ENTRIES}; split it")
    found = []
    for path in paths:
        entry, report = read_entry(path)
        if key is not None and not entry.is_sealed(key):
            entry = entry.model_copy(update={"verified": None})
        found.append(Submission(entry, report, slug_of(path)))
    return found


def build(entries: str | Path, out: str | Path, *, key: bytes | None = None) -> tuple[Path, int]:
    """Writes the site. The same entries give the same bytes.

    Args:
        entries: the folder of entries. What they say is shown as text, whatever it holds.
        out: folder of the site: ``index.html``; ``entries/`` with a page and the report of each; ``tables/`` as CSV and
            Markdown. Pages of entries that are gone are removed.
        key: the maintainer's secret; a stamp that was not sealed with it does not count.

    Returns:
        Path of ``index.html``, and how many stamps were taken on trust.

    Raises:
        UserError: an entry cannot be read, touched a holdout or contradicts itself; nothing is written.
    """
    folder, out = Path(entries), Path(out)
    if out.resolve() == folder.resolve():
        raise UserError(f"--out {out}: is the folder of the entries; give the site another one")
    submissions = read_entries(folder, key)
    made = boards(submissions)
    environment = _environment()
    written = set()
    for each in submissions:
        page = environment.get_template("leaderboard_entry.html").render(
            it=each, entry=each.entry, origin=each.report.provenance, settings=_settings(each), numbers=_numbers(each),
            **scripts(environment),
        )  # fmt: skip
        write_text(out / "entries" / f"{each.slug}.html", page)
        write_json(out / "entries" / f"{each.slug}.json", each.report.model_dump(mode="json", by_alias=True))
        written |= {f"{each.slug}.html", f"{each.slug}.json"}
    for board in made:
        write_text(out / "tables" / f"{board.ident}.csv", as_csv(board))
        write_text(out / "tables" / f"{board.ident}.md", as_markdown(board))
        written |= {f"{board.ident}.csv", f"{board.ident}.md"}
    write_text(out / "index.html", _index(environment, made, submissions))
    for path in [*(out / "entries").iterdir(), *(out / "tables").iterdir()]:
        if OURS.fullmatch(path.name) and path.name not in written:
            path.unlink()
    trusted = 0 if key is not None else sum(each.entry.verified is not None for each in submissions)
    return out / "index.html", trusted


def _environment() -> jinja2.Environment:
    environment = templates()
    environment.globals |= {
        "states": STATES,
        "tracks": {**TRACKS, "published": "The paper's own numbers as far as they could be recovered; not re-run"},
    }
    return environment


def _index(environment: jinja2.Environment, made: Sequence[Board], submissions: Sequence[Submission]) -> str:
    return environment.get_template("leaderboard.html").render(
        boards=made,
        contested=[each for each in submissions if each.state == "contested"],
        entries=[each for each in submissions if each.entry.kind == "method"],
        labels=[(label, MEANING[label]) for label in LABELS],
        source=SOURCE,
        **scripts(environment, "page.js", "leaderboard.js"),
    )


def _settings(each: Submission) -> list[tuple[str, str]]:
    settings = each.entry.settings
    if isinstance(settings, str):
        return []
    return [(plain(key, 60), plain(str(value), 200)) for key, value in settings.items()]


def _numbers(each: Submission) -> list[dict[str, Any]]:
    """Each headline number as reported and as verified."""
    checked = each.entry.verified.numbers if each.entry.verified else {}
    lines = []
    for key, metric in each.report.metrics.items():
        numbers: dict[str, float | None] = {**metric.numbers()} or {"": None}
        for name, value in numbers.items():
            again = checked.get(title(key, name))
            lines.append(
                {
                    "title": plain(title(key, name), 40),
                    "target": metric.target,
                    "value": value,
                    "interval": metric.interval_of(name),
                    "reason": metric.reason,
                    "again": again,
                }
            )
    return lines
