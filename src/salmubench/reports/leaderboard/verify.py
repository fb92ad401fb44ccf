"""``leaderboard verify``: measure an entry's checkpoint again, in full or on a sample, and stamp the entry."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Unpack

from scipy.stats import norm, t

from salmubench import __version__
from salmubench.dataset.store import Benchmark, load_benchmark
from salmubench.encoders.checkpoint import weights_sha256
from salmubench.errors import UserError
from salmubench.evaluation.metric import metrics as registry
from salmubench.evaluation.metric import title
from salmubench.evaluation.metrics.retfail import DISTRACTORS
from salmubench.evaluation.protocol import Settings, evaluate
from salmubench.evaluation.report import MetricEntry, Report
from salmubench.evaluation.verify import HALF_TOLERANCE, tolerance
from salmubench.reports.leaderboard.entry import HUB, Checked, Entry, Verification, inside, read_entry, write_entry

DEFAULT_SEED = 42
COMPARED = 14
"""Headline numbers of a report: for all honest ones to lie inside in 95 % of samples each may miss in 5 / 14 %."""
UNSEEN = 3
"""Rule of three: what a sample of n rows has not shown may still be as frequent as 3 / n."""


def verify(
    path: str | Path,
    data: str | Path,
    *,
    checkpoint: str | Path | None = None,
    key: bytes | None = None,
    **settings: Unpack[Settings],
) -> Entry:
    """Measures an entry's checkpoint again and writes what came out into the entry.

    Args:
        path: the entry.
        data: the data that it speaks of.
        checkpoint: the weights, where the entry's reference cannot be loaded as it stands.
        key: seals the stamp, so that nobody else can write one (see ``build``).
        settings: as for ``evaluate``. ``limit`` measures a sample of so many rows a set, which ``seed`` draws: one that
            the maintainer keeps to herself cannot be prepared for. Metric options and precision are the report's, and
            no embedding comes from a cache.

    Returns:
        The stamped entry; ``verified.differences`` says what is not as reported.

    Raises:
        UserError: the entry cannot be read; data, weights or metric versions are not those that it names; its run
            touched a holdout.
    """
    path = Path(path)
    entry, stored = read_entry(path)
    weights = _weights(entry, path, checkpoint, settings.get("arch"))
    benchmark = load_benchmark(data, general_knowledge=settings.get("general_knowledge"))
    if benchmark.revision != entry.data_revision:
        raise UserError(
            f"{data}: is not the data that {path.name} was measured on ({benchmark.revision[:19]}… against "
            f"{entry.data_revision[:19]}…); name that folder with --data"
        )
    for name, version in entry.metric_versions.items():
        if name in registry.names() and registry[name].spec.version != version:
            raise UserError(
                f"{path}: {name} has version {version} there and {registry[name].spec.version} here; "
                "have it evaluated again with this version of salmubench"
            )
    again = _measure(stored, weights, data, settings)
    if again.provenance.touched_holdout:
        raise UserError(f"{path}: its run touched a holdout, as the record beside its weights says; refuse the entry")
    numbers = check(stored, again, _people(benchmark))
    if all(checked.agrees is None for checked in numbers.values()):
        raise UserError(f"--limit {settings.get('limit')}: so small a sample tells nothing; take more rows, or all")
    differences = _origins(stored, again) + [
        f"{name}: {checked.reported} reported, {checked.verified} now"
        for name, checked in numbers.items()
        if checked.agrees is False
    ]
    stamp = Verification(
        entry_sha256=entry.digest(),
        date=datetime.now(UTC).date().isoformat(),
        salmubench=__version__,
        device=again.provenance.device,
        limit=again.provenance.limit,
        seed=again.provenance.seed,
        touched_holdout=again.provenance.touched_holdout,
        numbers=numbers,
        differences=differences,
    )
    stamped = entry.model_copy(update={"verified": stamp})
    if key is not None:
        stamped = stamped.model_copy(update={"verified": stamp.model_copy(update={"seal": stamped.seal(key)})})
    write_entry(stamped, path)
    return stamped


def _weights(entry: Entry, path: Path, given: str | Path | None, arch: str | None) -> str | Path:
    """The checkpoint to load, certain to be the one that the entry means."""
    reference = entry.checkpoint.reference
    weights: str | Path
    if given is not None:
        weights = given
    elif re.fullmatch(HUB, reference):
        weights = reference
    elif ":" in reference:
        raise UserError(f"{path}: its checkpoint is to be fetched from an address; fetch it and add --checkpoint PATH")
    else:
        weights = inside(path.parent, reference, path)
        if weights.is_dir() and any(each.is_symlink() for each in weights.rglob("*")):
            raise UserError(f"{weights}: holds links; put the files themselves there")
    found = weights_sha256(weights, arch=arch)
    if found != entry.checkpoint.sha256:
        raise UserError(f"{path}: {weights} is not its checkpoint (SHA-256 {found[:12]}…); give the one that it means")
    return weights


def _people(benchmark: Benchmark) -> dict[str, int]:
    """By metric: the people whose rows it looks at, or the rows where they are nobody's."""
    return {
        key: len({who or file for who, file in zip(pairs.identity_id, pairs.file_name, strict=True)})
        for key in registry
        if (pairs := benchmark.sets.get(registry[key].spec.sets[0])) is not None
    }


def _measure(stored: Report, weights: str | Path, data: str | Path, settings: Settings) -> Report:
    """The report of the weights now, under the conditions of the stored one."""
    options = {f"{key}.{name}": value for key, entry in stored.metrics.items() for name, value in entry.options.items()}
    sampled = settings.get("limit") is not None
    as_recorded: Settings = {
        **settings,
        "options": options,
        "skip_broken": bool(stored.provenance.skipped_pictures),
        "precision": stored.provenance.precision,
        "seed": settings.get("seed", DEFAULT_SEED) if sampled else stored.provenance.seed,
        "cache": False,
    }
    return evaluate(weights, data, name="verified", **as_recorded)


def _origins(stored: Report, again: Report) -> list[str]:
    """What the report says of its origin and is not so, in so far as it decides which table it stands in."""
    members = ["architecture", "general_knowledge", "association_split", "unlearning", "touched_holdout"]
    if again.provenance.limit is None:
        members.append("sets")
    odd = [name for name in members if getattr(stored.provenance, name) != getattr(again.provenance, name)]
    return [f"{name} is not what the report says" for name in odd]


def check(stored: Report, again: Report, people: Mapping[str, int]) -> dict[str, Checked]:
    """Every headline number as reported and as measured again.

    In full the two must be the same to ``tolerance`` (another kind of device rounds differently: 1e-3). On a sample
    the reported number must lie in the sample's interval, widened as ``widening`` says, and by the rule of three where
    rows are hits or misses. A metric that is easier among fewer captions or names than the whole has is not compared.

    Args:
        stored: the entry's report.
        again: what was measured now.
        people: by metric, how many the whole data have of what the bootstrap draws; as many as rows where it is not
            named.
    """
    here, there = again.provenance, stored.provenance
    same_device = here.device.split()[0] == there.device.split()[0]
    allowed = tolerance(there.precision) if same_device else HALF_TOLERANCE
    found: dict[str, Checked] = {}
    for key, entry in stored.metrics.items():
        if key not in again.metrics:
            continue
        other = again.metrics[key]
        said, now = entry.numbers(), other.numbers()
        for number in dict.fromkeys((*said, *now)):
            a, b, bounds = said.get(number), now.get(number), other.interval_of(number)
            if here.limit is None:
                agrees: bool | None = a is not None and b is not None and abs(a - b) <= allowed
            elif a is None or b is None or bounds is None or not _as_hard(key, stored, again, people):
                agrees = None
            else:
                drawn = min(here.limit, people.get(key, here.limit))
                agrees = _within(a, b, bounds, key, other, drawn)
            found[title(key, number)] = Checked(reported=a, verified=b, interval=bounds, agrees=agrees)
    return found


def _within(
    reported: float, value: float, bounds: tuple[float, float], key: str, entry: MetricEntry, people: int
) -> bool:
    least = UNSEEN / entry.rows if entry.rows and registry[key].spec.limits == (0.0, 1.0) else 0.0
    below, above = (widening(people) * max(abs(value - end), least) for end in bounds)
    return value - below <= reported <= value + above


def widening(people: int) -> float:
    """By how much a 95 % bootstrap interval over so many people is too narrow to judge all numbers of a report by.

    Student's t for that many people at a level shared out among ``COMPARED`` numbers, against the normal 1.96; and a
    bootstrap of k draws spreads sqrt(1 - 1 / k) times as far as their mean does. 1.5 for many people, 2.7 for six.
    """
    if people < 2:
        return math.inf
    level = 0.05 / (2 * COMPARED)
    factor = t.isf(level, people - 1) / norm.isf(0.025) * math.sqrt(people / (people - 1))
    return float(factor)


def _as_hard(key: str, stored: Report, again: Report, people: Mapping[str, int]) -> bool:
    """Whether a sample asks as much of the model as the whole: among as many captions, or names."""
    if key == "RetFail":
        whole, part = stored.provenance.sets, again.provenance.sets
        sizes = [(whole.get(name, 0), part.get(name, 0)) for name in ("forget", "retain_disjoint")]
        return all(min(size, DISTRACTORS) == min(sampled, DISTRACTORS) for size, sampled in sizes)
    return key != "IdZSC" or (again.provenance.limit or 0) >= people[key]
