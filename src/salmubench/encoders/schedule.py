"""Who takes what of a pass over the training pairs: steps, batches and shares of every process and loading worker."""

from __future__ import annotations

from dataclasses import dataclass

from salmubench.errors import UserError
from salmubench.presets import Preset


@dataclass(frozen=True)
class Schedule:
    """The pass of one process.

    Attributes:
        steps: optimizer steps a pass.
        batches: what the process's loader gives a pass, ``accumulate`` a step.
        worker_batches: of them those of each loading worker.
        micro_batch: retain pairs of a loader's batch, as a rule.
        stream_pairs: retain pairs that one walk of the stream hands out: all, or a worker's part of them.
        cut: retain pairs after which the stream is cut into the next batch.
        shares: parts that a cut batch falls into, for other processes and for accumulation.
        accumulate: batches of the loader that make one step.
        ranks: training processes.
        workers: loading processes of each.
        own_shards: whether each worker reads shards of its own; else all read the same stream.
    """

    steps: int
    batches: int
    worker_batches: int
    micro_batch: int
    stream_pairs: int
    cut: int
    shares: int
    accumulate: int
    ranks: int
    workers: int
    own_shards: bool


def schedule(
    scale: Preset, retain_pairs: int, retain_shards: int, *, ranks: int, accumulate: int, workers: int
) -> Schedule:
    """Plans a pass.

    Where samples are dealt, the batches are cut from the one stream, the last one as small as it comes. Where shards
    are dealt, a worker walks its own shards, more than once or not quite where the parts are uneven, and all batches
    are full; the sensitive pairs have shards for every worker and are each seen as often as the preset says.

    Raises:
        UserError: batch, last batch or shards do not go round.
    """
    size, parts = scale.pretraining.batch_size, ranks * accumulate
    if size % parts:
        raise UserError(
            f"--preset {scale.name}: its batch of {size} pairs does not fall into {ranks} processes x {accumulate} "
            "accumulated parts; choose numbers that divide it"
        )
    steps = -(-retain_pairs // size)
    micro = size // parts
    if scale.scaling.deal == "samples":
        last = retain_pairs - (steps - 1) * size
        if last < parts:
            raise UserError(
                f"--preset {scale.name}: the last batch of a pass holds {last} retain pairs, too few for {ranks} "
                f"processes x {accumulate} accumulated parts; choose fewer"
            )
        batches = steps * accumulate
        return Schedule(steps, batches, batches, micro, retain_pairs, size, parts, accumulate, ranks, 0, False)
    lanes = max(1, workers)
    if retain_shards < ranks * lanes:
        raise UserError(
            f"--retain: {retain_shards} retain shards are too few for {ranks} processes with {lanes} loading workers "
            "each; cut them smaller, or pass a smaller --workers"
        )
    worker_batches = -(-steps // lanes) * accumulate
    batches = worker_batches * lanes
    stream = worker_batches * micro
    return Schedule(
        batches // accumulate, batches, worker_batches, micro, stream, micro, 1, accumulate, ranks, workers, True
    )
