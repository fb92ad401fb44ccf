"""Every distinct picture and caption is encoded once; whoever needs an embedding looks it up."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset.store import Benchmark
from salmubench.encoders.cache import EmbeddingCache, Shelf, content_key
from salmubench.encoders.encoder import TEXT_TOWER, BatchSize, Encoder, Take, Tower, Wanted, encode, picture_tower
from salmubench.progress import Progress, silent


@dataclass(frozen=True)
class Embeddings:
    """L2-normalised float32 embeddings by picture number and by text.

    Attributes:
        index: the pictures' running numbers in the store, ascending, (p,).
        picture: their embeddings, (p, d).
        row: text -> row of ``text``.
        text: the texts' embeddings, (t, d).
        facts: of the encoding: inputs found in the cache, inputs a second, share of time spent waiting for data.
    """

    index: NDArray[np.int64]
    picture: NDArray[np.float32]
    row: Mapping[str, int]
    text: NDArray[np.float32]
    facts: Mapping[str, float] = field(default_factory=dict)

    def of_pictures(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Embeddings of these pictures, (n, d); repeats allowed. A picture that was not encoded is a KeyError."""
        place = np.searchsorted(self.index, index)
        if len(index) and not np.array_equal(self.index[np.minimum(place, len(self.index) - 1)], index):
            raise KeyError("a picture was looked up that was not encoded")
        return _take(self.picture, place)

    def of_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of these texts, (n, d); repeats allowed. A text that was not encoded is a KeyError."""
        return _take(self.text, np.array([self.row[text] for text in texts], np.int64))


def _take(features: NDArray[np.float32], place: NDArray[np.int64]) -> NDArray[np.float32]:
    """The rows at ``place``: where they lie one after the other, as those of a whole set mostly do, without a copy."""
    if len(place) and np.all(np.diff(place) == 1):
        return features[place[0] : place[-1] + 1]
    return features[place]


def embed(
    encoders: Sequence[Encoder],
    benchmark: Benchmark,
    pictures: NDArray[np.int64],
    texts: Iterable[str],
    *,
    cache: EmbeddingCache | None = None,
    batch_size: BatchSize = "auto",
    workers: int | None = None,
    progress: Progress = silent,
) -> list[Embeddings]:
    """Encodes the distinct ones among ``pictures`` and ``texts`` with each encoder; each is read and decoded once.

    Pictures are streamed, never held. Two that hold the same bytes are one.

    Args:
        encoders: the models, all held in memory together.
        benchmark: where the pictures lie.
        pictures: running numbers in ``benchmark.pictures``, (n,), in any order, repeats allowed.
        texts: in any order, repeats allowed.
        cache: where embeddings of earlier runs lie, and where these go.
        batch_size: inputs a forward pass, or ``auto``.
        workers: threads that decode.
        progress: shows two bars, pictures and captions.

    Returns:
        One an encoder, in their order.

    Raises:
        UserError: a picture does not decode.
        RunError: an embedding is not finite.
    """
    store = benchmark.pictures
    index = np.unique(pictures)
    row = {text: place for place, text in enumerate(dict.fromkeys(texts))}

    def through(tower: Tower, total: int, inputs: Iterable[Any], content: Callable[[Any], bytes]) -> _Pass:
        made = _Pass(encoders, tower, total, cache=cache, batch_size=batch_size, workers=workers, progress=progress)
        made.run(inputs, content)
        return made

    streamed = zip(index.tolist(), store.stream(index), strict=True)
    shown = through(picture_tower(store.describe), len(index), streamed, lambda picture: picture[1])
    told = through(TEXT_TOWER, len(row), row, lambda text: text.encode(errors="surrogatepass"))
    seconds = shown.seconds + told.seconds
    facts = {
        "data_wait_share": round((shown.waited + told.waited) / seconds, 4),
        "pictures_per_second": round(len(index) / shown.seconds, 1),
        "captions_per_second": round(len(row) / told.seconds, 1),
    }
    return [
        Embeddings(index, picture, row, text, facts | {"cached_pictures": old, "cached_captions": said})
        for picture, text, old, said in zip(shown.features, told.features, shown.hits, told.hits, strict=True)
    ]


class _Pass:
    """All inputs of one tower through all encoders.

    Attributes:
        features: an array an encoder, (total, d).
        hits: inputs that each encoder found in the cache.
        waited: seconds that the encoders waited for inputs.
        seconds: in all.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        tower: Tower,
        total: int,
        *,
        cache: EmbeddingCache | None,
        batch_size: BatchSize,
        workers: int | None,
        progress: Progress,
    ) -> None:
        self.encoders, self.tower, self.total = encoders, tower, total
        self.cache, self.batch_size, self.workers, self.progress = cache, batch_size, workers, progress
        self.features = [np.empty((total, encoder.dimension), np.float32) for encoder in encoders]
        self.hits = [0] * len(encoders)

    def run(self, inputs: Iterable[Any], content: Callable[[Any], bytes]) -> None:
        """Fills ``features``. ``content`` gives the bytes that tell one input from another."""
        keys: list[bytes] = []
        twins: dict[int, int] = {}
        with ExitStack() as stack, self.progress(self.tower.bar, self.total) as advance:
            shelves = [self._shelf(encoder, stack) for encoder in self.encoders]
            self.waited, self.seconds = encode(
                self.encoders,
                self.tower,
                self._wanted(inputs, content, shelves, keys, twins),
                self.total,
                [_keeper(*pair, keys) for pair in zip(self.features, shelves, strict=True)],
                batch_size=self.batch_size,
                workers=self.workers,
                advance=advance,
            )
        for features in self.features:
            features[list(twins)] = features[list(twins.values())]
            features.flags.writeable = False  # metrics get views of it

    def _shelf(self, encoder: Encoder, stack: ExitStack) -> Shelf | None:
        if self.cache is None:
            return None
        return stack.enter_context(
            self.cache.shelf(encoder, self.tower, encoder.batch_size(self.batch_size, self.total))
        )

    def _wanted(
        self,
        inputs: Iterable[Any],
        content: Callable[[Any], bytes],
        shelves: Sequence[Shelf | None],
        keys: list[bytes],
        twins: dict[int, int],
    ) -> Iterator[Wanted]:
        """Looks each input up; notes its key, and in ``twins`` the place of an earlier one with the same content."""
        first: dict[bytes, int] = {}
        for place, value in enumerate(inputs):
            key = content_key(content(value))
            keys.append(key)
            if first.setdefault(key, place) != place:
                twins[place] = first[key]
                yield Wanted(place, None, ())
                continue
            missing = []
            for number, shelf in enumerate(shelves):
                vector = None if shelf is None else shelf.get(key)
                if vector is None:
                    missing.append(number)
                else:
                    self.features[number][place] = vector
                    self.hits[number] += 1
            yield Wanted(place, value if missing else None, missing)


def _keeper(features: NDArray[np.float32], shelf: Shelf | None, keys: Sequence[bytes]) -> Take:
    """Puts new embeddings in their places, and on the shelf."""

    def take(places: list[int], vectors: NDArray[np.float32]) -> None:
        features[places] = vectors
        if shelf is not None:
            shelf.put([keys[place] for place in places], vectors)

    return take
