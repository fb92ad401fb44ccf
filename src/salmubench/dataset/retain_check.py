"""``data check --retain``: one walk through retain pairs reports those that tell of a sensitive person.

Memory holds fingerprints of the sensitive pictures and one chunk of retain pairs, however many there are.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salmubench.atomic import replacing, require_writable, write_json
from salmubench.dataset.contamination import Limits, Pictures, Texts
from salmubench.dataset.retain import SIZES_FILE, CaptionedPicture, write_pairs
from salmubench.dataset.schema import SENSITIVE_SPLITS
from salmubench.dataset.store import Benchmark, load_benchmark, load_split
from salmubench.dataset.urls import expand_urls, stream_pairs
from salmubench.errors import UserError
from salmubench.progress import Progress, silent

Embed = Callable[[Sequence[tuple[str, bytes]]], NDArray[np.float32]]
"""(where a picture lies, its bytes) for each -> unit vectors, shape (n, d)."""
CHUNK = 256
"""Pairs looked at together."""
SYNTHETIC = "retain_synth"
DEFAULT = Limits()


@dataclass(frozen=True)
class Offence:
    """A retain pair that should go.

    Attributes:
        shard: its shard, or ``retain_synth``.
        key: its key in it, or its file name.
        kind: ``picture``, ``caption`` or ``broken``.
        reason: in words; names a person's field, never its value.
    """

    shard: str
    key: str
    kind: str
    reason: str


@dataclass(frozen=True)
class RetainReport:
    """What was found.

    Attributes:
        pairs: retain pairs looked at.
        offenders: pairs with an offence.
        kinds: offences by kind.
        first: the first few.
        kept: pairs written; None where nothing was to be.
    """

    pairs: int
    offenders: int
    kinds: dict[str, int]
    first: tuple[Offence, ...]
    kept: int | None

    @property
    def passed(self) -> bool:
        """Whether no pair has an offence."""
        return not self.offenders


class _Judge:
    """Looks at retain pairs, a chunk at a time."""

    def __init__(self, benchmark: Benchmark, limits: Limits, embed: Embed | None, progress: Progress) -> None:
        self.texts = Texts(benchmark.identities, limits.fuzzy)
        self.pictures = Pictures(limits)
        self.limits, self.embed = limits, embed
        features = []
        sets = [benchmark.sets[split] for split in SENSITIVE_SPLITS]
        with progress("looking at sensitive pictures", sum(map(len, sets))) as advance:
            for pairs in sets:
                rows = zip(pairs.file_name, pairs.picture, benchmark.pictures.stream(pairs.picture), strict=True)
                while chunk := list(islice(rows, CHUNK)):
                    seen = [(benchmark.pictures.describe(int(place)), image) for _, place, image in chunk]
                    for (name, _, _), (where, image) in zip(chunk, seen, strict=True):
                        self.pictures.add(name, image, where)
                    features += [embed(seen)] if embed else []
                    advance(len(chunk))
        self.features = np.concatenate(features) if features else None

    def look(self, shard: str, pairs: Sequence[CaptionedPicture]) -> list[list[Offence]]:
        """The offences of each pair."""
        found: list[list[Offence]] = [[] for _ in pairs]
        sound: list[int] = []
        for row, pair in enumerate(pairs):
            for value, score in self.texts.find(pair.text).items():
                how = "holds" if score == 100 else f"nearly holds ({score:g} of 100)"
                reason = f"its caption {how} the {value.field} of {value.who}"
                found[row].append(Offence(shard, pair.key, "caption", reason))
            try:
                near = self.pictures.find(pair.image, f"{shard}, sample {pair.key}")
            except UserError:
                found[row].append(Offence(shard, pair.key, "broken", "its picture does not decode"))
                continue
            if near:
                found[row].append(Offence(shard, pair.key, "picture", f"its picture is {near}"))
            else:
                sound.append(row)
        for row, name, cosine in self._alike(shard, pairs, sound):
            reason = f"its picture is like {name} (cosine {cosine:.3f})"
            found[row].append(Offence(shard, pairs[row].key, "picture", reason))
        return found

    def _alike(
        self, shard: str, pairs: Sequence[CaptionedPicture], rows: Sequence[int]
    ) -> Iterator[tuple[int, str, float]]:
        if self.embed is None or self.features is None or not rows:
            return
        features = self.embed([(f"{shard}, sample {pairs[row].key}", pairs[row].image) for row in rows])
        similarity = features @ self.features.T
        for row, place, cosine in zip(rows, similarity.argmax(axis=1), similarity.max(axis=1), strict=True):
            if cosine >= self.limits.cosine:
                yield row, self.pictures.names[place], float(cosine)


def check_retain(
    data: str | Path,
    *,
    shards: Sequence[str] = (),
    report: Path | None = None,
    out: Path | None = None,
    limits: Limits = DEFAULT,
    embed: Embed | None = None,
    progress: Progress = silent,
) -> RetainReport:
    """Checks the retain pairs of a data set folder, or shards from elsewhere, against its sensitive people.

    Args:
        data: a data set folder or evaluation folder.
        shards: retain shards, as ``expand_urls`` reads them; none: the folder's own retain_real and retain_synth.
        report: a file to write, one JSON object a line: each offence, then the summary.
        out: a folder to write the other pairs to, as shards with their ``sizes.json``.
        limits: how near is too near.
        embed: embeds pictures, so that a model's eye is asked too.
        progress: shows bars.

    Raises:
        UserError: data or a shard cannot be read, or ``out`` or ``report`` cannot be written.
    """
    if report is not None:
        require_writable(report)
    if out is not None and (out / SIZES_FILE).exists():
        raise UserError(f"--out {out}: holds shards already; choose another folder or remove them")
    benchmark = load_benchmark(data)
    urls = expand_urls(shards) if shards else sorted(map(str, (Path(data) / "retain_real").glob("*.tar")))
    judge = _Judge(benchmark, limits, embed, progress)
    tally = _Tally()
    sizes: dict[str, int] = {}
    sources = [(url, stream_pairs(url)) for url in urls]
    if not shards:
        sources.append((SYNTHETIC, _synthetic(benchmark.root)))
    with ExitStack() as stack, progress("looking at retain shards", len(sources)) as advance:
        lines = stack.enter_context(stack.enter_context(replacing(report)).open("w")) if report else None
        for number, (name, pairs) in enumerate(sources):
            kept = tally.judged(judge, name, pairs, lambda line: lines.write(line + "\n") if lines else None)
            if out is None:
                for _ in kept:
                    pass
            else:
                shard = f"{number:05d}.tar"
                sizes[shard] = write_pairs(out / shard, kept)
            advance(1)
        found = tally.report(sum(sizes.values()) if out is not None else None)
        if lines:
            lines.write(json.dumps({"summary": asdict(found) | {"first": None, "limits": asdict(limits)}}) + "\n")
    if out is not None:
        write_json(out / SIZES_FILE, sizes)
    return found


def _synthetic(root: Path) -> Iterator[CaptionedPicture]:
    pairs, pictures = load_split(root, SYNTHETIC)
    for name, text, image in zip(pairs.file_name, pairs.text, pictures.stream(pairs.picture), strict=True):
        key, _, extension = name.rpartition(".")
        yield CaptionedPicture(key.replace(".", "-"), image, text, extension)


class _Tally:
    """Counts while pairs go by."""

    FIRST = 10

    def __init__(self) -> None:
        self.pairs = self.offenders = 0
        self.kinds: Counter[str] = Counter()
        self.first: list[Offence] = []

    def judged(
        self, judge: _Judge, name: str, pairs: Iterable[CaptionedPicture], write: Callable[[str], object]
    ) -> Iterator[CaptionedPicture]:
        """The pairs without offence."""
        remaining = iter(pairs)
        while chunk := list(islice(remaining, CHUNK)):
            for pair, offences in zip(chunk, judge.look(name, chunk), strict=True):
                self.pairs += 1
                self.offenders += bool(offences)
                self.kinds.update(offence.kind for offence in offences)
                self.first += offences[: self.FIRST - len(self.first)]
                for offence in offences:
                    write(json.dumps(asdict(offence), ensure_ascii=False))
                if not offences:
                    yield pair

    def report(self, kept: int | None) -> RetainReport:
        """What was found."""
        return RetainReport(self.pairs, self.offenders, dict(sorted(self.kinds.items())), tuple(self.first), kept)
