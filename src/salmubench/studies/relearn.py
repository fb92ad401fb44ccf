"""Relearning: a few pairs are taught again, and what comes back of the others is measured after some of the steps."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import AdamW

from salmubench.dataset.pictures import decode_picture
from salmubench.dataset.store import Benchmark, PairSet
from salmubench.encoders.embeddings import embed
from salmubench.encoders.encoder import BatchSize, Encoder
from salmubench.encoders.images import to_tensors
from salmubench.errors import RunError, UserError
from salmubench.evaluation.metric import MetricResult, Skip, configure, metrics
from salmubench.evaluation.protocol import measure, pictures_wanted, texts_wanted
from salmubench.evaluation.recovery import Means, Source
from salmubench.evaluation.rows import rows
from salmubench.progress import Progress, silent
from salmubench.seeds import generator
from salmubench.unlearning.method import Features, clip_loss
from salmubench.unlearning.optimizer import parameter_groups
from salmubench.unlearning.run import clamp_logit_scale

MEASURED = {"mrr": "RetFail", "assocstr": "AssocStr"}
WEIGHT_DECAY = 1e-3
"""As the unlearning loop's."""


@dataclass(frozen=True)
class Lesson:
    """What is taught, and which forget rows are then measured.

    Attributes:
        source: the set that the pairs are of.
        pairs: those taught.
        others: which rows of ``rows(benchmark, "forget")`` are of people of whom nothing is taught, (n,), bool.
        same: which are other pairs of the people taught, (n,), bool.
    """

    source: Source
    pairs: PairSet
    others: NDArray[np.bool_]
    same: NDArray[np.bool_]


def make_lesson(benchmark: Benchmark, source: Source, count: int, *, seed: int) -> Lesson:
    """Draws ``count`` pairs of ``source``; of forget, from half of its people, so that others are left untouched.

    Raises:
        UserError: there are not as many pairs.
    """
    pairs, forget = rows(benchmark, source), rows(benchmark, "forget")
    if isinstance(pairs, Skip) or isinstance(forget, Skip):
        raise UserError(f"--data {benchmark.root}: has no rows of {source}; build or download it again")
    rng = generator(seed, "attack", "lesson", source)
    people = sorted({str(identity) for identity in pairs.identity_id})
    if source == "forget":
        people = [people[place] for place in rng.permutation(len(people))[: len(people) // 2]]
    open_rows = [row for row, identity in enumerate(pairs.identity_id) if identity in people]
    if not 2 <= count <= len(open_rows):
        raise UserError(
            f"--pairs {count}: there are {len(open_rows)} pairs of {source} to teach; ask for 2 to {len(open_rows)}"
        )
    taught = pairs.take(
        f"taught of {source}", sorted(open_rows[place] for place in rng.permutation(len(open_rows))[:count])
    )
    known = np.array([identity in taught.identity_id for identity in forget.identity_id])
    learnt = np.array([name in set(taught.file_name) for name in forget.file_name])
    return Lesson(source, taught, ~known, known & ~learnt)


@dataclass(frozen=True)
class Teaching:
    """How a lesson is taught: CLIP's loss, AdamW at a constant rate, the model in eval mode as when unlearning.

    Attributes:
        steps: after which the leakage is measured, ascending, 0 first.
        learning_rate: AdamW's.
        batch_size: pairs a step; with as many or fewer pairs, each step sees all of them.
        seed: of the order.
    """

    steps: tuple[int, ...]
    learning_rate: float
    batch_size: int
    seed: int


def relearn(
    encoder: Encoder,
    benchmark: Benchmark,
    lesson: Lesson,
    teaching: Teaching,
    *,
    encoding: BatchSize = "auto",
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[int, tuple[Means, Means]]:
    """Teaches a copy of the encoder and measures it; the encoder itself stays as it is.

    Returns:
        By step, RetFail's and AssocStr's outcomes over the rows of ``lesson.others`` and of ``lesson.same``.

    Raises:
        RunError: the loss or an embedding is no longer finite.
    """
    pupil = replace(encoder, model=deepcopy(encoder.model).requires_grad_(True))
    look = _measurement(benchmark, lesson, encoding, workers)
    found = {}
    with progress(f"relearning from {lesson.source}", teaching.steps[-1]) as advance:
        for step in _steps(pupil, benchmark, lesson.pairs, teaching):
            if step in teaching.steps:
                found[step] = look(pupil)
            advance(1 if step else 0)
    return found


def _steps(pupil: Encoder, benchmark: Benchmark, pairs: PairSet, teaching: Teaching) -> Iterator[int]:
    """Yields 0 and then the number of each step that has been taken."""
    pictures, tokens = _inputs(pupil, benchmark, pairs)
    groups = parameter_groups(pupil.model, WEIGHT_DECAY)
    optimizer = AdamW(groups, lr=teaching.learning_rate, fused=pupil.device.type in ("cpu", "cuda"))
    yield 0
    for step, batch in enumerate(_batches(len(pairs), teaching), start=1):
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            image, text, scale, *_ = pupil.model(pictures[batch], tokens[batch])
            loss = clip_loss(Features(image.float(), text.float(), scale.float()))
            loss.backward()  # type: ignore[no-untyped-call]
        if not bool(loss.isfinite()):
            raise RunError(
                f"{pupil.name}: the loss of relearning became {loss.item()} at step {step}; lower --learning-rate "
                f"(now {teaching.learning_rate:g})"
            )
        optimizer.step()
        optimizer.zero_grad()
        clamp_logit_scale(pupil.model)
        yield step


def _batches(count: int, teaching: Teaching) -> Iterator[torch.Tensor]:
    """Rows of each step; a pass over the pairs ends before the next begins, in an order of its own."""
    size = min(teaching.batch_size, count)
    whole = count // size
    for step in range(teaching.steps[-1]):
        order = generator(teaching.seed, "attack", "order", step // whole).permutation(count)
        place = step % whole * size
        yield torch.from_numpy(np.sort(order[place : place + size]))


def _inputs(pupil: Encoder, benchmark: Benchmark, pairs: PairSet) -> tuple[torch.Tensor, torch.Tensor]:
    """The taught pairs as the model takes them, pictures (k, 3, h, w) and tokens (k, context), on its device."""
    store = benchmark.pictures
    order = np.argsort(pairs.picture)
    images: list[Any] = [None] * len(pairs)
    for place, content in zip(order, store.stream(pairs.picture[order]), strict=True):
        images[place] = decode_picture(content, store.describe(int(pairs.picture[place])))
    tensors = torch.stack(list(to_tensors(pupil.preprocess, images)))
    return tensors.to(pupil.device), pupil.tokenizer(list(pairs.text)).to(pupil.device)


def _measurement(
    benchmark: Benchmark, lesson: Lesson, encoding: BatchSize, workers: int | None
) -> Callable[[Encoder], tuple[Means, Means]]:
    """RetFail and AssocStr as ``evaluate`` defines them, row by row, of the two groups of rows."""
    options = configure({})
    asked = {key: metrics[key].inputs(benchmark, options[key]) for key in MEASURED.values()}
    for inputs in asked.values():
        if isinstance(inputs, Skip):
            raise UserError(f"--data {benchmark.root}: {inputs.reason}; build or download it again")
    pictures, texts = pictures_wanted(asked), list(texts_wanted(asked))

    def look(pupil: Encoder) -> tuple[Means, Means]:
        (embeddings,) = embed([pupil], benchmark, pictures, texts, batch_size=encoding, workers=workers)
        found = measure(asked, embeddings)
        outcomes, people = {}, np.empty(0, np.str_)
        for name, key in MEASURED.items():
            result = found[key]
            assert isinstance(result, MetricResult)
            assert result.identity_id is not None
            outcomes[name], people = result.outcomes, result.identity_id
        others, same = (
            Means({name: column[kept] for name, column in outcomes.items()}, people[kept])
            for kept in (lesson.others, lesson.same)
        )
        return others, same

    return look


def read_steps(text: str | Sequence[int]) -> tuple[int, ...]:
    """``"1,2,5"`` as (0, 1, 2, 5): 0, the model as it came, is always measured.

    Raises:
        UserError: these are no numbers of steps.
    """
    try:
        steps = {int(part) for part in (text.split(",") if isinstance(text, str) else text)}
    except ValueError:
        steps = {-1}
    if not steps or min(steps) < 0 or max(steps) < 1:
        raise UserError(f"--steps {text}: give numbers of steps with commas between, e.g. 1,2,5,10,20")
    return tuple(sorted({0} | steps))
