"""Every distinct picture and caption is encoded once; whoever needs an embedding looks it up."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset.store import Benchmark
from salmubench.encoders.encoder import Encoder
from salmubench.progress import Progress, silent


@dataclass(frozen=True)
class Embeddings:
    """L2-normalised float32 embeddings by picture number and by text.

    Attributes:
        index: the pictures' running numbers in the store, ascending, (p,).
        picture: their embeddings, (p, d).
        row: text -> row of ``text``.
        text: the texts' embeddings, (t, d).
    """

    index: NDArray[np.int64]
    picture: NDArray[np.float32]
    row: Mapping[str, int]
    text: NDArray[np.float32]

    def of_pictures(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Embeddings of these pictures, (n, d); repeats allowed. A picture that was not encoded is a KeyError."""
        place = np.searchsorted(self.index, index)
        if len(index) and not np.array_equal(self.index[np.minimum(place, len(self.index) - 1)], index):
            raise KeyError("a picture was looked up that was not encoded")
        return self.picture[place]

    def of_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of these texts, (n, d); repeats allowed. A text that was not encoded is a KeyError."""
        return self.text[[self.row[text] for text in texts]]


def embed(
    encoder: Encoder,
    benchmark: Benchmark,
    pictures: NDArray[np.int64],
    texts: Iterable[str],
    *,
    batch_size: int = 256,
    progress: Progress = silent,
) -> Embeddings:
    """Encodes the distinct ones among ``pictures`` and ``texts``. Encoded pictures are streamed, never held.

    Args:
        encoder: the model.
        benchmark: where the pictures lie.
        pictures: running numbers in ``benchmark.pictures``, (n,), in any order, repeats allowed.
        texts: in any order, repeats allowed.
        batch_size: inputs a forward pass.
        progress: shows two bars, pictures and captions.

    Raises:
        UserError: a picture does not decode.
        RunError: an embedding is not finite.
    """
    index = np.unique(pictures)
    store = benchmark.pictures
    content = ((store.describe(int(number)), data) for number, data in zip(index, store.stream(index), strict=True))
    row = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return Embeddings(
        index=index,
        picture=encoder.encode_pictures(content, len(index), batch_size=batch_size, progress=progress),
        row=row,
        text=encoder.encode_texts(list(row), batch_size=batch_size, progress=progress),
    )
