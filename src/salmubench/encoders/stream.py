"""The training stream: one order of the retain pairs for Clean and Compromised, the sensitive pairs woven between.

Both models must differ in the sensitive pairs alone. So what a retain pair meets (its place among the retain pairs, its
step, its crop) is a function of (seed, epoch, key) and of nothing else: not of the sensitive pairs, not of a resume.
A step takes ``batch_size`` retain pairs and, for Compromised, the sensitive pairs between them ride along: both models
take the same number of steps, at the same learning rates, over the same retain pairs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count, islice
from typing import Any

import torch
import webdataset as wds
from open_clip_train.data import DataInfo, SharedEpoch, detshuffle2
from torch import Tensor
from webdataset.filters import _shuffle, _to_tuple

from salmubench.errors import RunError, UserError
from salmubench.seeds import derive

Sample = dict[str, Any]

SHARD_BUFFER = 2000
SAMPLE_BUFFER = 5000
"""open_clip_train's own buffer sizes: a full shuffle of the small worlds, a streaming one of the large."""
RIDER = "__rider__"
"""Marks a sensitive sample, which does not count towards a batch's size."""


class WovenShards(wds.PipelineStage):  # type: ignore[misc]
    """First stage of a pipeline: undecoded samples of the retain shards, sensitive samples spread evenly between them.

    Args:
        retain: URLs of the retain shards.
        sensitive: URLs of the sensitive shards; empty for Clean.
        sensitive_per_retain: sensitive samples for each retain sample, so that one pass over the retain shards is
            ``sensitive_per_retain * retain samples`` sensitive ones; repeats them where that is more than there are.
        seed: seed of both orders.
        epoch: open_clip_train's shared epoch counter.

    Attributes:
        given: samples of the pass at work that were handed on so far.
    """

    def __init__(
        self,
        retain: Sequence[str],
        sensitive: Sequence[str],
        *,
        sensitive_per_retain: float,
        seed: int,
        epoch: SharedEpoch,
    ) -> None:
        super().__init__()
        self.retain = retain
        self.sensitive = sensitive
        self.sensitive_per_retain = sensitive_per_retain
        self.seed = seed
        self.epoch = epoch
        self.given = 0

    def _shuffled(self, urls: Sequence[str], purpose: str, lap: int = 0) -> Iterator[Sample]:
        seed = derive(self.seed, "training order", purpose, lap) % 2**31
        shards = detshuffle2(SHARD_BUFFER, SHARD_BUFFER, seed, self.epoch).run({"url": url} for url in urls)
        mine = wds.split_by_worker(wds.split_by_node(shards))
        # webdataset's own reader: open_clip_train's does not know the end-of-shard marks of webdataset 1.0. A damaged
        # shard ends the run: samples that fall away unseen would make the two models differ in more than they should.
        read = wds.tarfile_to_samples(handler=wds.reraise_exception)(mine)
        samples: Iterator[Sample] = detshuffle2(SAMPLE_BUFFER, SAMPLE_BUFFER, seed, self.epoch).run(read)
        return samples

    def _endless_sensitive(self) -> Iterator[Sample]:
        for lap in count() if self.sensitive else ():
            samples = self._shuffled(self.sensitive, "sensitive", lap)
            first = next(samples, None)
            if first is None:
                raise RunError("a training process has no sensitive shard of its own; start fewer processes or workers")
            yield from chain([first], samples)

    def run(self, *_: object) -> Iterator[Sample]:
        """One pass over this worker's retain shards."""
        sensitive = self._endless_sensitive()
        self.given = ridden = 0
        for position, sample in enumerate(self._shuffled(self.retain, "retain"), start=1):
            self.given += 1
            yield sample
            # The small constant keeps 3 * (1/3) from falling short of 1.
            due = int(position * self.sensitive_per_retain + 1e-6)
            for extra in islice(sensitive, due - ridden):
                self.given += 1
                yield {**extra, RIDER: True}
            ridden = due


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


class NothingLost(wds.PipelineStage):  # type: ignore[misc]
    """Ends the training where a pass lost samples: open_clip_train drops a picture that does not decode with no more
    than a line in its log, and the model would be one of fewer pairs than its record says.
    """

    def __init__(self, source: WovenShards) -> None:
        super().__init__()
        self.source = source

    def run(self, samples: Iterator[Sample]) -> Iterator[Sample]:
        """Passes samples on, counting.

        Raises:
            UserError: a picture did not decode, or lacks its caption.
        """
        count = 0
        for sample in samples:
            count += 1
            yield sample
        if count != self.source.given:
            raise UserError(
                f"--data: {self.source.given - count} of {self.source.given} training pairs have a picture that does "
                "not decode or no caption; `salmubench data check` names the first, mend it or build the data again"
            )


class RetainBatches(wds.PipelineStage):  # type: ignore[misc]
    """Last stage: batches of ``size`` retain samples with their riders; the last one of an epoch may be smaller.

    Args:
        size: retain samples a batch.
        epoch: open_clip_train's shared epoch counter.
        handed_out: called with (epoch, batches of this epoch that were handed out so far).
    """

    def __init__(self, size: int, epoch: SharedEpoch, handed_out: Callable[[int, int], None]) -> None:
        super().__init__()
        self.size = size
        self.epoch = epoch
        self.handed_out = handed_out

    def run(self, source: Iterator[Sample]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (images, texts), stacked."""
        batch: list[Sample] = []
        retained = number = 0
        for sample in source:
            if RIDER not in sample:
                if retained == self.size:
                    number += 1
                    self.handed_out(self.epoch.get_value(), number)
                    yield _stack(batch)
                    batch, retained = [], 0
                retained += 1
            batch.append(sample)
        if batch:
            self.handed_out(self.epoch.get_value(), number + 1)
            yield _stack(batch)


def _stack(batch: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    return torch.stack([sample["image"] for sample in batch]), torch.stack([sample["text"] for sample in batch])


def weave(
    data: DataInfo,
    source: WovenShards,
    *,
    batch_size: int,
    handed_out: Callable[[int, int], None],
) -> None:
    """Gives open_clip_train's training data our order, augmentation seeds and batches; the rest stays its own.

    open_clip_train seeds its sample shuffle with the clock, so that no two runs of its own see one order.
    """
    dataset = data.dataloader.pipeline[0].dataset
    kinds = [getattr(stage, "f", None) for stage in dataset.pipeline]
    between = dataset.pipeline[kinds.index(_shuffle) + 1 : kinds.index(_to_tuple)]
    epoch = source.epoch
    dataset.pipeline = [
        source,
        SeedBySample(source.seed, epoch),
        *between,
        NothingLost(source),
        RetainBatches(batch_size, epoch, handed_out),
    ]
