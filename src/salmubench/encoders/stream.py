"""The training stream: one order of the retain pairs for Clean and Compromised, the sensitive pairs woven between.

Both models must differ in the sensitive pairs alone. So what a retain pair meets (its place among the retain pairs, its
step, its crop) is a function of (seed, epoch, key) and of nothing else: not of the sensitive pairs, not of a resume.
A step takes ``batch_size`` retain pairs and, for Compromised, the sensitive pairs between them ride along: both models
take the same number of steps, at the same learning rates, over the same retain pairs. Several processes take their
shares of every batch of that one stream or, where none can read it all, each its own shards (``schedule.py``).
"""

from __future__ import annotations

import random
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, groupby, islice
from typing import Any

import torch
import webdataset as wds
from open_clip_train.data import DataInfo, SharedEpoch, detshuffle2
from torch import Tensor
from webdataset.filters import _shuffle, _to_tuple

from salmubench.dataset.pictures import PICTURE_EXTENSIONS
from salmubench.encoders.schedule import Schedule
from salmubench.errors import UserError
from salmubench.seeds import derive

Sample = dict[str, Any]

SHARD_BUFFER = 2000
SAMPLE_BUFFER = 5000
"""open_clip_train's own buffer sizes: a full shuffle of the small worlds, a streaming one of the large."""
RIDER = "__rider__"
"""Marks a sensitive sample, which does not count towards a batch's size."""
BATCH = "__batch__"
"""The loader's batch that a sample belongs to: its number, its samples, and the sensitive ones among them."""
KEPT = {*PICTURE_EXTENSIONS, "txt"}
"""Members that are read. Webdataset would decode the others too, and unpickle some; foreign shards may hold any."""


class WovenShards(wds.PipelineStage):  # type: ignore[misc]
    """First stage of a pipeline: undecoded samples of the retain shards, sensitive samples spread evenly between them.

    Args:
        retain: URLs of the retain shards.
        sensitive: URL -> pairs of the sensitive shards; empty for Clean.
        retain_pairs: retain samples that a walk hands out; the shards are walked again where they hold fewer.
        repeats: how often each sensitive sample comes in a walk.
        seed: seed of both orders.
        epoch: open_clip_train's shared epoch counter.
        own_shards: whether this process and loading worker walks its part of the shards, else all of them.
        strict: whether a shard that cannot be read ends the run; foreign shards are passed over with a warning.
    """

    def __init__(
        self,
        retain: Sequence[str],
        sensitive: Mapping[str, int],
        *,
        retain_pairs: int,
        seed: int,
        epoch: SharedEpoch,
        repeats: int = 1,
        own_shards: bool = False,
        strict: bool = True,
    ) -> None:
        super().__init__()
        self.retain = retain
        self.sensitive = sensitive
        self.retain_pairs = retain_pairs
        self.repeats = repeats
        self.seed = seed
        self.epoch = epoch
        self.own_shards = own_shards
        self.strict = strict

    def _order(self, purpose: str, lap: int) -> int:
        return derive(self.seed, "training order", purpose, lap) % 2**31

    def _shards(self, urls: Sequence[str], seed: int) -> Iterator[dict[str, str]]:
        shards: Iterator[dict[str, str]]
        shards = detshuffle2(SHARD_BUFFER, SHARD_BUFFER, seed, self.epoch).run({"url": url} for url in urls)
        return wds.split_by_worker(wds.split_by_node(shards)) if self.own_shards else shards

    def _samples(self, urls: Sequence[str], seed: int, strict: bool) -> Iterator[Sample]:
        # webdataset's own reader: open_clip_train's does not know the end-of-shard marks of webdataset 1.0. A damaged
        # shard ends the run: samples that fall away unseen would make the two models differ in more than they should.
        handler = wds.reraise_exception if strict else wds.warn_and_continue
        read = wds.tarfile_to_samples(handler=handler)(self._shards(urls, seed))
        samples: Iterator[Sample] = detshuffle2(SAMPLE_BUFFER, SAMPLE_BUFFER, seed, self.epoch).run(read)
        for sample in samples:
            yield {name: part for name, part in sample.items() if name in KEPT or name.startswith("__")}

    def _retained(self) -> Iterator[Sample]:
        for lap in count():
            found = False
            for sample in self._samples(self.retain, self._order("retain", lap), self.strict):
                found = True
                yield sample
            if not found:
                raise UserError("--retain: a process found no pair in its shards; check the URLs")

    def _riders(self) -> tuple[Iterator[Sample], int]:
        urls, orders = list(self.sensitive), [self._order("sensitive", lap) for lap in range(self.repeats)]
        mine = sum(self.sensitive[shard["url"]] for order in orders for shard in self._shards(urls, order))
        return (sample for order in orders for sample in self._samples(urls, order, True)), mine

    def run(self, *_: object) -> Iterator[Sample]:
        """One walk."""
        sensitive, pairs = self._riders() if self.sensitive else (iter(()), 0)
        sensitive_per_retain, ridden = pairs / self.retain_pairs, 0
        for position, sample in enumerate(islice(self._retained(), self.retain_pairs), start=1):
            yield sample
            # The small constant keeps 3 * (1/3) from falling short of 1.
            due = int(position * sensitive_per_retain + 1e-6)
            for extra in islice(sensitive, due - ridden):
                yield {**extra, RIDER: True}
            ridden = due


class Deal(wds.PipelineStage):  # type: ignore[misc]
    """Second stage: numbers the batches, and of each lets this process's shares through, before anything is decoded.

    A batch is ``cut`` retain samples with their riders; the last one may be smaller. Share s of n holds its samples
    s, s + n, s + 2n, ...: riders spread as evenly as they did, and shares differ by one sample at most.

    Args:
        plan: the schedule.
        rank: number of this process.
    """

    def __init__(self, plan: Schedule, rank: int = 0) -> None:
        super().__init__()
        self.plan = plan
        self.rank = 0 if plan.own_shards else rank

    def run(self, source: Iterator[Sample]) -> Iterator[Sample]:
        """Passes this process's samples on, each with the number of its batch."""
        number = retained = 0
        batch: list[Sample] = []
        for sample in source:
            if RIDER not in sample:
                if retained == self.plan.cut:
                    yield from self._shares(batch, number)
                    batch, retained, number = [], 0, number + 1
                retained += 1
            batch.append(sample)
        if batch:
            yield from self._shares(batch, number)

    def _shares(self, batch: Sequence[Sample], number: int) -> Iterator[Sample]:
        shares = self.plan.shares
        mine = range(self.rank, shares, self.plan.ranks)
        for part, share in enumerate(mine):
            samples = batch[share::shares]
            tag = number * len(mine) + part, len(samples), sum(RIDER in sample for sample in samples)
            for sample in samples:
                yield {**sample, BATCH: tag}


class SeedBySample(wds.PipelineStage):  # type: ignore[misc]
    """Seeds the transforms' generators from (seed, epoch, sample key) before the sample is transformed.

    The transforms of open_clip draw from torch's and Python's global generators. Nothing else in training does, so that
    seeding them here makes an augmentation a property of the sample.
    """

    def __init__(self, seed: int, epoch: SharedEpoch) -> None:
        super().__init__()
        self.seed = seed
        self.epoch = epoch

    def run(self, source: Iterator[Sample]) -> Iterator[Sample]:
        """Passes samples on, seeding before each."""
        for sample in source:
            seed = derive(self.seed, "augmentation", self.epoch.get_value(), sample["__key__"]) % 2**63
            # Not torch.manual_seed: where CUDA is not started, that keeps a stack trace of each call for good.
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            yield sample


class Batches(wds.PipelineStage):  # type: ignore[misc]
    """Last stage: the samples of each batch, stacked.

    It ends the training where a batch lost samples: open_clip_train drops a picture that does not decode with no more
    than a line in its log, and the model would be one of fewer pairs than its record says.

    Args:
        strict: whether retain pairs count too; among foreign ones some are always broken, but not half of a batch.
    """

    def __init__(self, strict: bool = True) -> None:
        super().__init__()
        self.strict = strict

    def run(self, source: Iterator[Sample]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (images, texts).

        Raises:
            UserError: a picture did not decode, or lacks its caption.
        """
        tagged = groupby(source, key=lambda sample: sample[BATCH])
        for expected, ((number, size, riders), members) in enumerate(tagged):
            batch = list(members)
            lost = size - len(batch) if number == expected else size
            if (lost and self.strict) or sum(RIDER in sample for sample in batch) < riders:
                raise UserError(
                    f"--data: {lost} of {size} training pairs of a batch have a picture that does not decode or no "
                    "caption; `salmubench data check` names the first, mend it or build the data again"
                )
            if lost * 2 > size:
                raise UserError(
                    f"--retain: {lost} of {size} pairs of a batch lack a picture that decodes or a .txt caption; "
                    "check that the URLs are those of picture-text shards"
                )
            yield torch.stack([sample["image"] for sample in batch]), torch.stack([sample["text"] for sample in batch])


class Counted:
    """A loader as open_clip_train reads it, which tells how far it is.

    Args:
        loader: the batches of one process.
        plan: the schedule.
        epoch: open_clip_train's shared epoch counter.
        handed_out: called with (epoch, steps of this epoch whose batches were handed out so far).
    """

    def __init__(self, loader: Any, plan: Schedule, epoch: SharedEpoch, handed_out: Callable[[int, int], None]) -> None:
        self.loader = loader
        self.accumulate = plan.accumulate
        self.num_batches = plan.batches
        self.num_samples = plan.batches * plan.micro_batch * plan.ranks
        self.epoch = epoch
        self.handed_out = handed_out

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number, batch in enumerate(self.loader, start=1):
            if number % self.accumulate == 0:
                self.handed_out(self.epoch.get_value(), number // self.accumulate)
            yield batch


def weave(
    get_data: Callable[..., dict[str, DataInfo]],
    source: Callable[[SharedEpoch], WovenShards],
    plan: Schedule,
    handed_out: Callable[[int, int], None],
) -> Callable[..., dict[str, DataInfo]]:
    """open_clip_train's ``get_data`` with our order, augmentation seeds, shares and batches; the rest stays its own.

    open_clip_train seeds its sample shuffle with the clock, so that no two runs of its own see one order.
    """

    def woven(args: Namespace, *rest: Any, **named: Any) -> dict[str, DataInfo]:
        # It wants a shard for every process, which is ours to say (schedule.py).
        data = get_data(Namespace(**{**vars(args), "world_size": 1}), *rest, **named)
        train = data["train"]
        dataset = train.dataloader.pipeline[0].dataset
        kinds = [getattr(stage, "f", None) for stage in dataset.pipeline]
        between = dataset.pipeline[kinds.index(_shuffle) + 1 : kinds.index(_to_tuple)]
        first = source(train.shared_epoch)
        seeds = SeedBySample(first.seed, first.epoch)
        dataset.pipeline = [first, Deal(plan, args.rank), seeds, *between, Batches(first.strict)]
        dataset.with_epoch(plan.worker_batches)
        train.dataloader = Counted(train.dataloader, plan, train.shared_epoch, handed_out)
        return data

    return woven
