"""``salmubench attack``: can what a checkpoint seems to have forgotten be had from it after all?"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from salmubench.atomic import require_writable
from salmubench.dataset.store import Benchmark, load_benchmark
from salmubench.encoders.cache import DEFAULT_GIGABYTES, EmbeddingCache
from salmubench.encoders.checkpoint import load_encoder
from salmubench.encoders.embeddings import embed
from salmubench.encoders.encoder import BatchSize, Encoder
from salmubench.errors import UserError
from salmubench.evaluation.provenance import provenance, run_facts
from salmubench.evaluation.recovery import (
    AttackReport,
    Bound,
    Extraction,
    Finding,
    Means,
    Membership,
    Paraphrase,
    Point,
    Probes,
    Relearning,
    Scores,
    Source,
    scores,
    write_attack,
)
from salmubench.evaluation.sampling import sample
from salmubench.progress import Progress, silent
from salmubench.studies import probes as looks
from salmubench.studies.relearn import Lesson, Teaching, make_lesson, read_steps, relearn
from salmubench.studies.wordings import Rivals

Attack = Literal["relearning", "relearning_holdout", "paraphrase", "extraction", "membership"]
ATTACKS: tuple[Attack, ...] = get_args(Attack)
LESSONS: dict[Attack, Source] = {"relearning": "forget", "relearning_holdout": "holdout_identity"}
KINDS: dict[str, type[Scores]] = {"paraphrase": Paraphrase, "extraction": Extraction, "membership": Membership}
Taught = Mapping[int, tuple[Means, Means]]


@dataclass
class Found:
    """What the attacks found on one model: by attack and group, and of relearning by attack and step."""

    looked: dict[str, Mapping[str, Finding]] = field(default_factory=dict)
    taught: dict[str, Taught] = field(default_factory=dict)


def attack(
    checkpoints: Sequence[str | Path],
    data: str | Path,
    *,
    control: str | Path | None = None,
    compromised: str | Path | None = None,
    out: str | Path | None = None,
    probes: Sequence[str] | None = None,
    pairs: int = 32,
    steps: str | Sequence[int] = (1, 2, 5, 10, 20),
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    limit: int | None = None,
    encoding: BatchSize = "auto",
    workers: int | None = None,
    cache: bool = True,
    arch: str | None = None,
    device: str | None = None,
    precision: str = "fp32",
    seed: int = 42,
    progress: Progress = silent,
) -> list[AttackReport]:
    """Attacks checkpoints and reports what comes back; no file of theirs is changed.

    Attacking is the evaluator's part: it reads holdouts and Clean, which an unlearning method never does.

    Args:
        checkpoints: as for ``evaluate``.
        data: as for ``evaluate``.
        control: Clean, attacked in the same way: what anyone would get who never saw the forget set.
        compromised: Compromised; with ``control`` it gives the recovered shares.
        out: the file to write; of several checkpoints, a folder that gets ``<name>.json`` of each.
        probes: of ``ATTACKS``, all by default.
        pairs: that relearning teaches.
        steps: of relearning after which is measured; 0 always is.
        learning_rate: of relearning.
        batch_size: of relearning.
        limit: at most so many rows of each set, as for ``evaluate``.
        encoding: inputs a forward pass, or ``auto``.
        workers: threads that decode pictures.
        cache: keep embeddings of the models as they came for the next run.
        arch: open_clip's name of the architecture, for weights files.
        device: ``cpu``, ``cuda``, ...
        precision: as for ``evaluate``; relearning's steps are always fp32.
        seed: of all that is drawn.
        progress: shows the steps.

    Returns:
        One report a checkpoint, in their order.

    Raises:
        UserError: a wrong argument, or data or checkpoints that cannot be read.
        RunError: a model's embeddings, or the loss of relearning, are not finite.
    """
    started = time.perf_counter()
    chosen = _choose(probes)
    teaching = Teaching(read_steps(steps), learning_rate, batch_size, seed)
    _check(control, compromised, teaching)
    places = {str(path): path for path in (*checkpoints, control, compromised) if path is not None}
    encoders = {
        name: load_encoder(path, arch=arch, device=device, precision=precision) for name, path in places.items()
    }
    names = [encoders[str(path)].name for path in checkpoints]
    targets = _targets(names, out)
    whole = load_benchmark(data)
    benchmark = whole if limit is None else sample(whole, limit, seed=seed)
    lessons = {name: make_lesson(benchmark, LESSONS[name], pairs, seed=seed) for name in chosen if name in LESSONS}

    found = {name: Found() for name in encoders}
    looked = _look(benchmark, list(encoders.values()), chosen, encoding, workers, cache, seed, progress)
    for one, results in zip(found.values(), looked, strict=True):
        one.looked = results
    for name, encoder in encoders.items():
        for which, lesson in lessons.items():
            found[name].taught[which] = relearn(
                encoder, benchmark, lesson, teaching, encoding=encoding, workers=workers, progress=progress
            )

    bounds = [None if path is None else str(path) for path in (control, compromised)]
    clean, leaky = (None if name is None else found[name] for name in bounds)
    reports = []
    for path, target in zip(checkpoints, targets, strict=True):
        encoder = encoders[str(path)]
        origin = provenance(encoder, path, data, whole, benchmark, limit=limit, seed=seed, skipped=[])
        report = AttackReport(
            schema=1,
            name=encoder.name,
            control=_bound(encoders, bounds[0]),
            compromised=_bound(encoders, bounds[1]),
            probes=_report(found[str(path)], clean, leaky, lessons, teaching),
            provenance=origin.model_copy(update={"run": run_facts(started)}),
        )
        if target is not None:
            write_attack(report, target)
        reports.append(report)
    return reports


def _choose(probes: Sequence[str] | None) -> list[Attack]:
    wanted = ATTACKS if probes is None else probes
    for name in wanted:
        if name not in ATTACKS:
            raise UserError(f"--probe {name}: there is no such attack; choose from {', '.join(ATTACKS)}")
    return [name for name in ATTACKS if name in wanted]


def _check(control: object, compromised: object, teaching: Teaching) -> None:
    if compromised is not None and control is None:
        raise UserError("--control is missing: a recovered share needs Clean beside Compromised")
    if not 0 < teaching.learning_rate <= 1:
        raise UserError(f"--learning-rate {teaching.learning_rate:g}: must be above 0 and at most 1, e.g. 1e-4")
    if teaching.batch_size < 2:
        raise UserError(f"--batch-size {teaching.batch_size}: give 2 pairs or more; one alone has no loss")


def _targets(names: Sequence[str], out: str | Path | None) -> list[Path | None]:
    """The file of each report."""
    if not names:
        raise UserError("there is no checkpoint to attack; name one or more")
    if out is None:
        return [None] * len(names)
    if len(names) == 1:
        files = [Path(out)]
    else:
        files = [Path(out) / f"{name.replace('/', '-')}.json" for name in names]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise UserError(f"two checkpoints are called {double!r}, and their reports would be one file; rename one")
    for file in files:
        require_writable(file)
    return list(files)


def _bound(encoders: Mapping[str, Encoder], name: str | None) -> Bound | None:
    return None if name is None else Bound(name=encoders[name].name, weights_sha256=encoders[name].weights_sha256)


def _look(
    benchmark: Benchmark,
    encoders: Sequence[Encoder],
    chosen: Sequence[Attack],
    encoding: BatchSize,
    workers: int | None,
    cache: bool,
    seed: int,
    progress: Progress,
) -> list[dict[str, Mapping[str, Finding]]]:
    """The attacks that change no weight; every picture and text is encoded once a model."""
    rivals = Rivals(benchmark, seed=seed)
    asked: dict[str, looks.Probe] = {}
    if "paraphrase" in chosen:
        asked["paraphrase"] = looks.Paraphrasing(benchmark, rivals, seed=seed)
    if "extraction" in chosen:
        asked["extraction"] = looks.Extraction(benchmark, rivals)
    if "membership" in chosen:
        asked["membership"] = looks.MembershipInference(benchmark, rivals, seed=seed)
    found: list[dict[str, Mapping[str, Finding]]] = [{} for _ in encoders]
    for name, probe in asked.items():
        embedded = embed(
            encoders,
            benchmark,
            probe.pictures(),
            probe.texts(),
            cache=EmbeddingCache(gigabytes=DEFAULT_GIGABYTES) if cache else None,
            batch_size=encoding,
            workers=workers,
            progress=progress,
        )
        for one, encoder, embeddings in zip(found, encoders, embedded, strict=True):
            scale: Any = encoder.model.logit_scale
            one[name] = probe.find(embeddings, float(scale.detach().exp()))
    return found


def _report(
    own: Found, clean: Found | None, leaky: Found | None, lessons: Mapping[Attack, Lesson], teaching: Teaching
) -> Probes:
    """All entries of one model's report."""
    content: dict[str, Any] = {}
    for name, groups in own.looked.items():
        content[name] = {}
        for group, finding in groups.items():
            control = None if clean is None else clean.looked[name][group]
            gap = None if control is None or leaky is None else (control, leaky.looked[name][group])
            facts = finding.facts if isinstance(finding, Means) else {}
            content[name][group] = scores(
                KINDS[name], finding, control=control, gap=gap, seed=teaching.seed, **facts
            )  # fmt: skip
    for which, lesson in lessons.items():
        curves = [_curve(own, clean, leaky, which, group, teaching) for group in (0, 1)]
        content[which] = Relearning(
            source=lesson.source,
            taught=list(lesson.pairs.file_name),
            learning_rate=teaching.learning_rate,
            batch_size=min(teaching.batch_size, len(lesson.pairs)),
            curve=curves[0],
            same_people=curves[1],
        )
    return Probes(**content)


def _curve(
    own: Found, clean: Found | None, leaky: Found | None, which: Attack, group: int, teaching: Teaching
) -> list[Point]:
    """A curve of relearning: Clean is taught the same, and the gap between the bounds is that before any teaching."""
    points = []
    for step, findings in own.taught[which].items():
        if not findings[group].rows:
            continue
        control = None if clean is None else clean.taught[which][step][group]
        gap = None if clean is None or leaky is None else (clean.taught[which][0][group], leaky.taught[which][0][group])
        points.append(scores(Point, findings[group], control=control, gap=gap, seed=teaching.seed, steps=step))
    return points
