"""An entry: who unlearned what how, the report of it, and what a verification found. A stranger wrote it.

Whatever an entry says stays text and bounded; its paths stay inside its folder; what it says twice must agree.
"""

import hashlib
import hmac
import inspect
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from salmubench.atomic import read_json, sha256_file, write_json
from salmubench.dataset.hub import MODEL_SCHEME
from salmubench.errors import UserError
from salmubench.evaluation.metric import describe
from salmubench.evaluation.report import MetricEntry, Report, parse_report
from salmubench.reports.redact import plain

MOST_BYTES = 4 << 20
"""An entry with its report has about 50 KB."""
MOST_DEPTH = 16
"""How deep an entry's JSON may nest; an embedded report with its unlearning record needs 6."""

LARGEST = 1.001
"""A cosine of float32 vectors may round to a little more than 1."""

UNTUNED = "untuned"
TRACKS = {
    "standard": "Started from Compromised, and the record of the run proves that it saw forget and retain pairs alone",
    "open": "Anything else: another start, other data, or no record of the rows that the run saw",
}
Kind = Literal["method", "clean", "compromised"]
Track = Literal["standard", "open"]


def _web_address(text: str) -> str:
    """Refuses all but plain http(s) addresses: a browser follows what stands in a link."""
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or not re.fullmatch(r"https?://[!-~]+", text) or "@" in parts.netloc or re.search(r"[\\\"'<>`]", text):
        raise ValueError("is not a plain https:// address")
    return text


def _reference(text: str) -> str:
    """Refuses what neither the hub, the web nor the entry's folder could hold."""
    path = PurePosixPath(text)
    if re.match(r"https?://", text):
        return _web_address(text)
    if not re.fullmatch(HUB, text) and (":" in text or path.is_absolute() or ".." in path.parts):
        raise ValueError("is neither hf-hub:OWNER/NAME, an https:// address nor a path in the entry's folder")
    return text


def _visible(text: str) -> str:
    """Refuses a name that nobody could see or click."""
    if not any(unicodedata.category(letter)[0] in "LNPS" and letter not in BLANK for letter in plain(text)):
        raise ValueError("shows nothing")
    return text


BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and signs by their category that are drawn as white."""
HUB = rf"{MODEL_SCHEME}[\w.-]+/[\w.-]+(@[\w./-]+)?"
Line = Annotated[str, Field(min_length=1, max_length=200)]
Url = Annotated[str, Field(max_length=500, pattern=r"^https?://"), AfterValidator(_web_address)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Setting = bool | int | float | Line


class _Part(BaseModel):
    """What an entry is made of: nothing more than the schema names, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


class Checkpoint(_Part):
    """Where the weights are: ``hf-hub:OWNER/NAME[@REVISION]``, an https address, or a path in the entry's folder."""

    reference: Annotated[Line, AfterValidator(_reference)]
    sha256: Sha256


class ReportFile(_Part):
    """A report that lies beside the entry: its path from the entry's folder."""

    path: Line
    sha256: Sha256


class Checked(_Part):
    """A number as the entry reports it and as it was measured again; ``agrees`` is null where a sample cannot tell."""

    reported: float | None
    verified: float | None
    interval: tuple[float, float] | None = None
    agrees: bool | None


class Verification(_Part):
    """What measuring the checkpoint again gave.

    Attributes:
        entry_sha256: of the entry without this stamp: an entry that was changed afterwards is told.
        limit: rows a set, or null where all were measured; drawn with ``seed``.
        seal: HMAC-SHA256 of entry and stamp with the maintainer's key, where one was used.
    """

    entry_sha256: Sha256
    date: Line
    salmubench: Line
    device: Line
    limit: int | None = Field(None, ge=1)
    seed: int
    touched_holdout: bool | None
    numbers: dict[Line, Checked] = Field(max_length=100)
    differences: list[Annotated[str, Field(max_length=400)]] = Field(max_length=100)
    seal: Sha256 | None = None


class Entry(_Part):
    """One row of the leaderboard.

    Attributes:
        kind: ``method``; or one of the bounds, ``clean`` or ``compromised``, which a table needs for its verdicts.
        budget: passes over the forget set; null where it has none.
        settings: what was set to other than the method's default; ``untuned`` where nothing was.
        report: embedded, or the file that holds it.
        data_revision, metric_versions: as in the report; entries that differ in them never share a table.
        verified: the stamp of ``leaderboard verify``.
    """

    schema_: Literal[1] = Field(1, alias="schema")
    kind: Kind = "method"
    method: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_visible)]
    track: Track
    budget: float | None = Field(None, ge=0, le=1e6)
    settings: Literal["untuned"] | Annotated[dict[Line, Setting], Field(min_length=1, max_length=100)]
    authors: list[Line] = Field(min_length=1, max_length=100)
    paper: Url | None = None
    code: Url | None = None
    checkpoint: Checkpoint
    report: Report | ReportFile
    data_revision: Line
    metric_versions: dict[Line, int] = Field(max_length=100)
    verified: Verification | None = None

    @property
    def tuned(self) -> bool:
        return self.settings != UNTUNED

    @property
    def state(self) -> Literal["self-reported", "verified", "sampled", "contested"]:
        """How far its numbers are known to be true."""
        if self.verified is None:
            return "self-reported"
        if self.verified.differences:
            return "contested"
        return "verified" if self.verified.limit is None else "sampled"

    def content(self) -> dict[str, Any]:
        """The entry as JSON."""
        return self.model_dump(mode="json", by_alias=True)

    def digest(self) -> str:
        """SHA-256 of the entry without its stamp."""
        return hashlib.sha256(_canonical({**self.content(), "verified": None})).hexdigest()

    def seal(self, key: bytes) -> str:
        """What only who holds ``key`` can write: an HMAC of the entry with its stamp."""
        content = self.content()
        content["verified"]["seal"] = None
        return hmac.new(key, _canonical(content), hashlib.sha256).hexdigest()

    def is_sealed(self, key: bytes) -> bool:
        """Whether the stamp was written by who holds ``key``."""
        return bool(self.verified and hmac.compare_digest(self.verified.seal or "", self.seal(key)))


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False).encode()


def entry_schema() -> dict[str, Any]:
    """The published JSON schema of an entry."""
    return Entry.model_json_schema(by_alias=True)


def read_entry(path: Path) -> tuple[Entry, Report]:
    """Reads an entry with its report and checks all that can be checked without the checkpoint.

    Raises:
        UserError: it is no entry, too large or too deep, leads out of its folder, contradicts itself, or its run
            touched a holdout.
    """
    entry = _parse(_bounded_json(path), path)
    report = read_report_of(entry, path)
    for problem in problems(entry, report):
        raise UserError(f"{path}: {problem}")
    if entry.verified and entry.verified.entry_sha256 != entry.digest():
        raise UserError(f"{path}: was changed after it was verified; verify it again, or set `verified` to null")
    return entry, report


def _parse(content: Any, path: Path) -> Entry:
    try:
        return Entry.model_validate(content)
    except ValidationError as error:
        # A member that may have two forms has two complaints: the deepest is of the form that was meant.
        first = max(error.errors(), key=lambda each: len(each["loc"]))
        where = plain(".".join(str(part) for part in first["loc"]), 80) or "the top level"
        raise UserError(
            f"{path}: not a leaderboard entry ({where}: {plain(first['msg'], 160)}); see docs/leaderboard.schema.json"
        ) from None


def write_entry(entry: Entry, path: Path) -> None:
    """Writes an entry atomically."""
    write_json(path, entry.content())


def read_report_of(entry: Entry, path: Path) -> Report:
    """The entry's report, embedded or beside it.

    Raises:
        UserError: the file leaves the entry's folder, is not there, is not the one that was meant, or is no report.
    """
    if isinstance(entry.report, Report):
        return entry.report
    place = inside(path.parent, entry.report.path, path)
    content = _bounded_json(place)
    if sha256_file(place) != entry.report.sha256:
        raise UserError(f"{path}: {place.name} is not the report that it was made with (its SHA-256 differs)")
    return parse_report(content, place)


def inside(folder: Path, named: str, owner: Path) -> Path:
    """The path that an entry names, certain to lie in ``folder`` with no link on the way.

    Raises:
        UserError: it does not.
    """
    parts = PurePosixPath(named).parts
    odd = not parts or parts[0] == "/" or ".." in parts or re.search(r"[\\:\x00-\x1f]", named)
    steps = [] if odd else [folder.joinpath(*parts[: count + 1]) for count in range(len(parts))]
    if odd or any(step.is_symlink() for step in steps):
        raise UserError(f"{owner}: {plain(named, 80)!r} leads out of its folder; name a file in it, without links")
    return steps[-1]


def _bounded_json(path: Path) -> Any:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f"{path}: not an ordinary file; put the file itself there")
    if path.exists() and path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path}: larger than any entry ({path.stat().st_size >> 20} MB; at most {MOST_BYTES >> 20})")
    content = read_json(path)
    level, depth = [content], 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            raise UserError(f"{path}: nests deeper than any entry ({MOST_DEPTH} levels)")
        texts = [text for each in level for text in (each if isinstance(each, dict) else [each])]
        if any(isinstance(text, str) and not _is_unicode(text) for text in texts):
            raise UserError(f"{path}: holds text that is no Unicode (half a surrogate pair)")
        level = [child for each in level for child in _children(each)]
    return content


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def problems(entry: Entry, report: Report) -> Iterator[str]:
    """What makes an entry unfit, one sentence each with its mend."""
    origin, record = report.provenance, report.provenance.unlearning or {}
    if origin.touched_holdout or (entry.verified and entry.verified.touched_holdout):
        yield "its run touched a holdout, so its utility numbers mean nothing; unlearn with forget and retain data only"
    if origin.limit is not None:
        yield f"its report was measured on {origin.limit} rows a set; evaluate without --limit"
    if missing := [spec.key for spec in describe() if spec.key not in report.metrics]:
        yield f"its report lacks {', '.join(missing)}; evaluate with this version of salmubench"
    if odd := [key for key, metric in report.metrics.items() if not _is_possible(metric)]:
        yield f"its report holds numbers that no cosine or share can be ({plain(', '.join(odd), 60)}); evaluate again"
    if entry.checkpoint.sha256 != origin.weights_sha256:
        yield "its report speaks of other weights than its checkpoint (SHA-256); evaluate that checkpoint"
    if entry.data_revision != origin.data_revision or entry.metric_versions != metric_versions(report):
        yield "its data revision or metric versions are not those of its report; make it again with `submit`"
    if entry.kind != "method":
        if entry.budget is not None or entry.tuned or record:
            yield f"a bound ({entry.kind}) was not unlearned: it has no budget, settings or record"
        return
    if entry.track == "standard" and (not record or origin.touched_holdout is not False):
        yield "the standard track needs the record of the run and its rows; evaluate the run's folder, or take `open`"
    if "budget" in record and record["budget"] != entry.budget:
        yield f"its run's record has the budget {plain(str(record['budget']), 20)}, and it says {entry.budget}"
    if record and not entry.tuned and (found := settings_of(record)) != UNTUNED:
        yield f"it says untuned, and its run's record has {plain(', '.join(found), 100)} set"


def _is_possible(metric: MetricEntry) -> bool:
    """All that is measured is a cosine or a share."""
    ends = [end for name in metric.numbers() for end in metric.interval_of(name) or ()]
    return all(-LARGEST <= number <= LARGEST for number in (*metric.numbers().values(), *ends))


def metric_versions(report: Report) -> dict[str, int]:
    """The version of each metric of a report."""
    return {key: metric.version for key, metric in report.metrics.items()}


LOOP_SETTINGS = ("scope", "learning_rate", "batch_size", "warmup_share", "weight_decay")
"""Of the one loop. A run that keeps their defaults, and its method's options, is untuned."""


def settings_of(record: dict[str, Any]) -> Any:
    """What an unlearning run's record has set to other than the defaults, or ``untuned``.

    The options of a method that this version does not know are left out: nobody here can tell their defaults.
    """
    from salmubench.unlearning.method import methods
    from salmubench.unlearning.run import unlearn

    defaults = {name: inspect.signature(unlearn).parameters[name].default for name in LOOP_SETTINGS}
    changed = {key: record[key] for key, value in defaults.items() if key in record and record[key] != value}
    name, options = record.get("method"), record.get("options")
    if name in methods.names() and isinstance(options, dict):
        kind = methods[str(name)].options
        usual = TypeAdapter(kind).dump_python(kind(), mode="json")
        changed |= {key: value for key, value in options.items() if key not in usual or usual[key] != value}
    return changed or UNTUNED
