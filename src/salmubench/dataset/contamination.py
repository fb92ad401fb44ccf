"""Finds retain pairs that tell of a sensitive person: near copies of her pictures, captions that name her.

One pass over the retain shards, sample by sample; what is held is a fingerprint of each sensitive picture and of each
value. A caption is compared after normalisation; Clean is clean where nothing is left.
"""

from __future__ import annotations

import hashlib
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rapidfuzz import fuzz

from salmubench.dataset.pictures import decode_picture

UNIQUE_FIELDS = ("name", "phone_number", "emails", "iban", "credit_card", "passport")
"""What tells one person by itself. A city, a job or a blood group is many people's: alone it tells nobody."""
SHORTEST = 7
"""Letters and digits that a value has at least to be looked for inside words and with slips."""
GRAM = 4
"""Letters of the parts by which candidates of the fuzzy search are found."""
SLACK = 2
"""Letters that a slip may add to a name or take from it."""
HASH_SIDE, THUMBNAIL = 8, 16


@dataclass(frozen=True)
class Limits:
    """How near is too near.

    Attributes:
        hash_distance: largest Hamming distance of the 64-bit difference hashes of near copies.
        thumbnail: and largest mean difference of their 16 x 16 thumbnails, in levels of 255. Of 600 drawn portraits
            the nearest stranger stood at 13; copies at .7 of the size and JPEG quality 60 stood at 4, 99 % below 9.
        fuzzy: smallest similarity, 0 to 100, of a value and a part of a caption; above 100, exact values alone count.
        cosine: smallest cosine of two pictures' embeddings, where a model looks too.
    """

    hash_distance: int = 12
    thumbnail: float = 10.0
    fuzzy: float = 92.0
    cosine: float = 0.95


def words_of(text: str) -> list[str]:
    """A text's words in one spelling: NFKC, no case, accents or invisible marks, split at all but letters and digits.

    ``"José  O’Neil"`` -> ``["jose", "o", "neil"]``.
    """
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    kept = (
        letter if letter.isalnum() else "" if unicodedata.category(letter) in ("Mn", "Cf") else " "
        for letter in decomposed
    )
    return "".join(kept).split()


@dataclass(frozen=True)
class Value:
    """A person's name or fact.

    Attributes:
        who: the identity.
        field: what it is.
        run: its letters and digits: separators make no difference.
    """

    who: str
    field: str
    run: str

    @property
    def number(self) -> bool:
        """Whether digits are in it: then it is looked for inside words too, as a name is not."""
        return any(letter.isdigit() for letter in self.run)


class Texts:
    """Looks for sensitive values in captions.

    Args:
        people: identity id -> name and facts.
        fuzzy: as ``Limits`` has it.
    """

    def __init__(self, people: Mapping[str, Mapping[str, str]], fuzzy: float = Limits.fuzzy) -> None:
        self.fuzzy = fuzzy
        self._exact: dict[str, list[Value]] = {}
        self._parts: dict[str, list[Value]] = {}
        for who, facts in sorted(people.items()):
            for field in UNIQUE_FIELDS:
                run = "".join(words_of(facts.get(field, "")))
                if run:
                    self._add(Value(who, field, run))

    def _add(self, value: Value) -> None:
        self._exact.setdefault(value.run[:SHORTEST], []).append(value)
        if len(value.run) >= SHORTEST and self.fuzzy <= 100:
            # End to end: a slip leaves all but one or two of them whole.
            cuts = [*range(0, len(value.run) - GRAM + 1, GRAM), len(value.run) - GRAM]
            for part in {value.run[cut : cut + GRAM] for cut in cuts}:
                self._parts.setdefault(part, []).append(value)

    def find(self, caption: str) -> dict[Value, float]:
        """The values that a caption holds, with their similarity: 100 where it is exact."""
        words = words_of(caption)
        run = "".join(words)
        edges = np.cumsum([0, *map(len, words)]).tolist()
        found = dict.fromkeys(self._held(run, set(edges)), 100.0)
        candidates = {
            value: None
            for start in range(len(run) - GRAM + 1)
            for value in self._parts.get(run[start : start + GRAM], ())
            if value not in found
        }
        for value in candidates:
            score = self._similarity(value, run, edges)
            if score >= self.fuzzy:
                found[value] = round(score, 1)
        return found

    def _held(self, run: str, edges: set[int]) -> Iterator[Value]:
        for start in range(len(run)):
            for length in range(1, SHORTEST + 1):
                for value in self._exact.get(run[start : start + length], ()) if start + length <= len(run) else ():
                    if len(value.run) < SHORTEST and len(value.run) != length:
                        continue
                    whole = start in edges and start + len(value.run) in edges
                    if run.startswith(value.run, start) and (whole or (value.number and len(value.run) >= SHORTEST)):
                        yield value

    @staticmethod
    def _similarity(value: Value, run: str, edges: list[int]) -> float:
        length = len(value.run)
        if value.number:
            return fuzz.partial_ratio(value.run, run) if len(run) >= length - SLACK else 0.0
        return max(
            (
                fuzz.ratio(value.run, run[first:last])
                for first in edges
                for last in edges[
                    bisect_left(edges, first + length - SLACK) : bisect_right(edges, first + length + SLACK)
                ]
            ),
            default=0.0,
        )


def difference_hash(picture: Image.Image) -> int:
    """64 bits, one for each pair of neighbours in a 9 x 8 grey thumbnail: is the left one brighter?"""
    grey = np.asarray(picture.convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX), dtype=np.int16)
    return int.from_bytes(np.packbits(grey[:, :-1] > grey[:, 1:]).tobytes(), "big")


def thumbnail(picture: Image.Image) -> NDArray[np.uint8]:
    """Colours of a 16 x 16 thumbnail, shape (768,)."""
    return np.asarray(picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)).ravel()


class Pictures:
    """Looks for near copies of the sensitive pictures: 800 bytes are held of each."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.names: list[str] = []
        self._digests: dict[bytes, str] = {}
        self._hashes: list[int] = []
        self._thumbnails: list[NDArray[np.uint8]] = []

    def add(self, name: str, encoded: bytes, where: str) -> None:
        """Takes a sensitive picture.

        Raises:
            UserError: it does not decode.
        """
        picture = decode_picture(encoded, where)
        self._digests.setdefault(hashlib.sha256(encoded).digest(), name)
        self.names.append(name)
        self._hashes.append(difference_hash(picture))
        self._thumbnails.append(thumbnail(picture))

    @cached_property
    def _table(self) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
        return np.array(self._hashes, dtype=np.uint64), np.stack(self._thumbnails)

    def find(self, encoded: bytes, where: str) -> str | None:
        """What is too near, in words; None where nothing is.

        Raises:
            UserError: the picture does not decode.
        """
        same = self._digests.get(hashlib.sha256(encoded).digest())
        if same is not None:
            return f"the same file as {same}"
        picture = decode_picture(encoded, where)
        if not self.names:
            return None
        hashes, thumbnails = self._table
        near = np.flatnonzero(
            np.bitwise_count(hashes ^ np.uint64(difference_hash(picture))) <= self.limits.hash_distance
        )
        if not len(near):
            return None
        difference = np.abs(thumbnails[near].astype(np.int16) - thumbnail(picture)).mean(axis=1)
        nearest = int(difference.argmin())
        if difference[nearest] > self.limits.thumbnail:
            return None
        return f"a near copy of {self.names[near[nearest]]} ({difference[nearest]:.1f} of 255 apart)"
