"""``--skip-broken``: pictures that cannot be read or decoded are found and left out."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset.pictures import decode_picture
from salmubench.dataset.store import Benchmark, PictureStore
from salmubench.encoders.encoder import CHUNK, ahead, batched, decoders
from salmubench.errors import UserError
from salmubench.progress import Progress, silent


def find_broken(
    store: PictureStore, index: NDArray[np.int64], *, workers: int | None = None, progress: Progress = silent
) -> list[int]:
    """Decodes every picture at ``index``, ascending, and returns the numbers of those that are broken, ascending.

    Broken is what would otherwise end an evaluation: a picture that does not decode, a null, a file that is not there.
    """

    def check(chunk: list[tuple[int, bytes | None]]) -> tuple[int, list[int]]:
        return len(chunk), [number for number, content in chunk if content is None or not _decodes(content)]

    broken: list[int] = []
    with progress("looking for broken pictures", len(index)) as advance:
        for count, found in ahead(batched(_contents(store, index), CHUNK), check, decoders(workers), CHUNK):
            broken += found
            advance(count)
    return broken


def _contents(store: PictureStore, index: NDArray[np.int64]) -> Iterator[tuple[int, bytes | None]]:
    """Each picture's bytes, None where they cannot be read: the stream ends there and is opened anew behind it."""
    while len(index):
        read = 0
        try:
            for content in store.stream(index):
                yield int(index[read]), content
                read += 1
        except UserError:
            yield int(index[read]), None
            read += 1
        index = index[read:]


def _decodes(content: bytes) -> bool:
    try:
        decode_picture(content, "")
    except UserError:
        return False
    return True


def without(benchmark: Benchmark, pictures: list[int]) -> Benchmark:
    """The benchmark without the rows of these pictures, in every set."""
    sets = {
        name: pairs.subset(name, (~np.isin(pairs.picture, pictures)).tolist()) for name, pairs in benchmark.sets.items()
    }
    general = benchmark.general_knowledge
    if general is not None:
        kept = ~np.isin(general.picture, pictures)
        general = replace(general, picture=general.picture[kept], label=general.label[kept])
    return replace(benchmark, sets=sets, general_knowledge=general)
