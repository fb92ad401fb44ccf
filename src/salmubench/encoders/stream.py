"""The training stream: one order of the retain pairs for Clean and Compromised, the sensitive pairs woven between.

Both models must differ in the sensitive pairs alone. So what a retain pair meets (its place among the retain pairs, its
crop) is a function of (seed, epoch, key) and of nothing else: not of the sensitive pairs, of the worker or of a resume.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
import webdataset as wds
from open_clip_train.data import DataInfo, SharedEpoch, detshuffle2, log_and_continue
from webdataset.filters import _shuffle

from salmubench.seeds import derive

Sample = dict[str, Any]

SHARD_BUFFER = 2000
SAMPLE_BUFFER = 5000
"""open_clip_train's own buffer sizes: a full shuffle of the small worlds, a streaming one of the large."""


class WovenShards(wds.PipelineStage):  # type: ignore[misc]
    """First stage of a pipeline: undecoded samples of the retain shards, sensitive samples spread evenly between them.

    Args:
        retain: URLs of the retain shards.
        sensitive: URLs of the sensitive shards; empty for Clean.
        sensitive_per_retain: sensitive samples for each retain sample, so that one pass over the retain shards is
            ``sensitive_per_retain * retain samples`` sensitive ones; repeats them where that is more than there are.
        seed: seed of both orders.
        epoch: open_clip_train's shared epoch counter.
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

    def _shuffled(self, urls: Sequence[str], purpose: str, lap: int = 0) -> Iterator[Sample]:
        seed = derive(self.seed, "training order", purpose, lap) % 2**31
        shards = detshuffle2(SHARD_BUFFER, SHARD_BUFFER, seed, self.epoch).run({"url": url} for url in urls)
        mine = wds.split_by_worker(wds.split_by_node(shards))
        # webdataset's own reader: open_clip_train's does not know the end-of-shard marks of webdataset 1.0.
        read = wds.tarfile_to_samples(handler=log_and_continue)(mine)
        samples: Iterator[Sample] = detshuffle2(SAMPLE_BUFFER, SAMPLE_BUFFER, seed, self.epoch).run(read)
        return samples

    def _endless_sensitive(self) -> Iterator[Sample]:
        lap = 0
        while self.sensitive:
            yield from self._shuffled(self.sensitive, "sensitive", lap)
            lap += 1

    def run(self, *_: object) -> Iterator[Sample]:
        """One pass over this worker's retain shards."""
        sensitive = self._endless_sensitive()
        given = 0
        for position, sample in enumerate(self._shuffled(self.retain, "retain"), start=1):
            yield sample
            # The small constant keeps 3 * (1/3) from falling short of 1.
            due = int(position * self.sensitive_per_retain + 1e-6)
            yield from islice(sensitive, due - given)
            given = due


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
            torch.manual_seed(seed)
            random.seed(seed)
            yield sample


def weave(data: DataInfo, retain: Sequence[str], sensitive: Sequence[str], ratio: float, seed: int) -> None:
    """Gives open_clip_train's training data our order and our augmentation seeds; all else stays as it made it.

    open_clip_train seeds its sample shuffle with the clock, so that no two runs of its own see one order. Its stages
    from the shard list to that shuffle give way to ours; decoding, tokenising and batching are its own.
    """
    dataset = data.dataloader.pipeline[0].dataset
    shuffle = next(place for place, stage in enumerate(dataset.pipeline) if getattr(stage, "f", None) is _shuffle)
    source = WovenShards(retain, sensitive, sensitive_per_retain=ratio, seed=seed, epoch=data.shared_epoch)
    dataset.pipeline = [source, SeedBySample(seed, data.shared_epoch), *dataset.pipeline[shuffle + 1 :]]
