"""What the models know: nearest captions, the values that they imply, and faces for a name. No HTTP in here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salmubench.dataset.schema import EVALUATION_SPLITS, FIELDS, SENSITIVE_SPLITS
from salmubench.dataset.store import Benchmark, PairSet
from salmubench.encoders.cache import EmbeddingCache
from salmubench.encoders.embeddings import Embeddings, embed
from salmubench.encoders.encoder import Encoder, Wanted, encode, picture_tower
from salmubench.evaluation.similarity import row_cosines
from salmubench.progress import Progress, silent
from salmubench.reports.portraits import rows_of, squarest
from salmubench.reports.redact import plain

CAPTIONS_SHOWN = 5
FACES_SHOWN = 8
NOBODY = -1

Vector = NDArray[np.float32]
Answer = dict[str, Any]
_DECODED = replace(picture_tower(str), read=lambda picture: picture)


@dataclass(frozen=True)
class Captions:
    """Every distinct caption of the data set, with whose fact it tells; those that tell nobody's come last.

    Captions of one person and field lie together, so that a maximum over them is one pass.

    Attributes:
        text: the captions, n.
        person: number of the person each is about, or ``NOBODY``, (n,).
        field: number of the field it tells, or ``NOBODY``, (n,).
        place: caption -> its number.
        start: where each (field, person) begins, (g,), ascending; the last group's end is ``end``.
        end: number of the first caption that tells nobody's fact.
    """

    text: tuple[str, ...]
    person: NDArray[np.int64]
    field: NDArray[np.int64]
    place: Mapping[str, int]
    start: NDArray[np.int64]
    end: int


def _captions(benchmark: Benchmark, people: Sequence[str]) -> Captions:
    number = {identity: place for place, identity in enumerate(people)}
    told: dict[str, tuple[int, int]] = {}
    for name in SENSITIVE_SPLITS:
        pairs = benchmark.sets[name]
        for text, identity, file_name in zip(pairs.text, pairs.identity_id, pairs.file_name, strict=True):
            told.setdefault(text, (FIELDS.index(benchmark.captions[file_name].data_field), number[str(identity)]))
    ordered = sorted(told, key=lambda text: told[text])
    groups = np.array([told[text] for text in ordered], np.int64)
    begins = np.flatnonzero(np.any(np.diff(groups, axis=0, prepend=-1), axis=1))
    others = [text for text in dict.fromkeys(benchmark.sets["retain_synth"].text) if text not in told]
    nothing = np.full((len(others), 2), NOBODY)
    field, person = np.concatenate([groups, nothing]).T
    texts = (*ordered, *others)
    place = {text: row for row, text in enumerate(texts)}
    return Captions(texts, person, field, place, begins, len(ordered))


@dataclass(frozen=True)
class Faces:
    """The pictures of people: their numbers in the store, (n,), ascending, and for each its person, set and row."""

    index: NDArray[np.int64]
    person: NDArray[np.int64]
    pairs: tuple[tuple[PairSet, int], ...]


def _faces(benchmark: Benchmark, people: Sequence[str]) -> Faces:
    number = {identity: place for place, identity in enumerate(people)}
    found = sorted(
        (int(picture), number[str(pairs.identity_id[row])], name, row)
        for name in SENSITIVE_SPLITS
        for pairs in (benchmark.sets[name],)
        for row, picture in enumerate(pairs.picture)
    )
    index, person = (np.array([row[column] for row in found], np.int64) for column in (0, 1))
    return Faces(index, person, tuple((benchmark.sets[name], row) for _, _, name, row in found))


class Explorer:
    """Several models on one data set, ready to be asked.

    Args:
        encoders: the models.
        benchmark: the people, their captions and pictures.
        cache: where embeddings of earlier runs lie, and where these go.
        progress: shows the encoding of pictures and captions.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        benchmark: Benchmark,
        *,
        cache: EmbeddingCache | None = None,
        progress: Progress = silent,
    ) -> None:
        self.encoders, self.benchmark = tuple(encoders), benchmark
        identities = {str(who) for name in SENSITIVE_SPLITS for who in benchmark.sets[name].identity_id}
        self.people = tuple(sorted(identities))
        self.faces = _faces(benchmark, self.people)
        self.captions = _captions(benchmark, self.people)
        texts = [text for name in EVALUATION_SPLITS for text in benchmark.sets[name].text]
        embedded = embed(encoders, benchmark, self.faces.index, texts, cache=cache, progress=progress)
        self._pictures = [each.of_pictures(self.faces.index) for each in embedded]
        self._texts = [each.of_texts(self.captions.text) for each in embedded]
        self.first = self._most_telling(embedded)

    def _most_telling(self, embedded: Sequence[Embeddings]) -> int:
        """The forget picture on which the models differ most (of one model: that it knows best)."""
        forget = self.benchmark.sets["forget"]
        cosines = [row_cosines(each.of_pictures(forget.picture), each.of_texts(forget.text)) for each in embedded]
        apart = np.max(cosines, axis=0) - (np.min(cosines, axis=0) if len(cosines) > 1 else 0)
        return int(forget.picture[int(np.argmax(apart))])

    def person_list(self) -> list[Answer]:
        """Everybody with a face to begin with, in the order of their names."""
        return sorted(
            (
                {"id": identity, "name": self._name(number), "picture": self._front(identity)}
                for number, identity in enumerate(self.people)
            ),
            key=lambda person: (person["name"], person["id"]),
        )

    def person(self, identity: str) -> Answer:
        """The persona card of one of ``people``: name, country, the eight facts, and all pictures."""
        facts = self.benchmark.identities[identity]
        pictures = []
        for number in np.flatnonzero(self.faces.person == self.people.index(identity)):
            pairs, row = self.faces.pairs[number]
            field = self.benchmark.captions[pairs.file_name[row]].data_field
            pictures.append({"picture": int(self.faces.index[number]), "set": pairs.name, "field": field})
        return {
            "id": identity,
            "name": plain(facts["name"], 80),
            "country": plain(facts.get("country") or facts.get("country_code", ""), 40),
            "facts": {field: plain(facts[field], 80) for field in FIELDS},
            "pictures": pictures,
        }

    def has(self, picture: int) -> bool:
        """Whether there is a person's picture of that number."""
        place = np.searchsorted(self.faces.index, picture)
        return bool(place < len(self.faces.index) and self.faces.index[place] == picture)

    def from_picture(self, picture: int) -> Answer:
        """What each model makes of a person's picture, given by its number in the store."""
        place = int(np.searchsorted(self.faces.index, picture))
        pairs, row = self.faces.pairs[place]
        person = int(self.faces.person[place])
        told = [self._told(number, features[place], person, pairs.text[row])
                for number, features in enumerate(self._pictures)]  # fmt: skip
        field = self.benchmark.captions[pairs.file_name[row]].data_field
        about = {"picture": picture, "set": pairs.name, "caption": plain(pairs.text[row]), "field": field}
        return {"query": about, "person": self.person(self.people[person]), "models": told}

    def from_upload(self, picture: Image.Image) -> Answer:
        """What each model makes of a picture from outside, RGB; nobody knows whose it is."""
        vectors: list[Vector] = [np.empty(0, np.float32)] * len(self.encoders)

        def taker(number: int) -> Any:
            return lambda _places, features: vectors.__setitem__(number, features[0])

        takes = [taker(number) for number in range(len(self.encoders))]
        encode(self.encoders, _DECODED, [Wanted(0, picture, range(len(self.encoders)))], 1, takes, workers=1)
        return {"query": None, "person": None, "models": [self._told(n, v) for n, v in enumerate(vectors)]}

    def from_name(self, text: str) -> Answer:
        """The faces that each model finds nearest to a text; those of the person with that very name are marked."""
        wanted = plain(text).casefold()
        sought = {number for number in range(len(self.people)) if self._name(number).casefold() == wanted}
        told = []
        for encoder, pictures in zip(self.encoders, self._pictures, strict=True):
            cosines = pictures @ encoder.encode_texts([text])[0]
            faces = [
                {
                    "picture": int(self.faces.index[place]),
                    "name": self._name(int(self.faces.person[place])),
                    "cosine": round(float(cosines[place]), 4),
                    "true": int(self.faces.person[place]) in sought,
                }
                for place in _largest(cosines, FACES_SHOWN)
            ]
            told.append({"faces": faces, "found": sum(bool(face["true"]) for face in faces)})
        return {"text": plain(text), "known": bool(sought), "models": told}

    def _name(self, person: int) -> str:
        return plain(self.benchmark.identities[self.people[person]]["name"], 80)

    def _front(self, identity: str) -> int:
        for name in SENSITIVE_SPLITS:
            pairs = self.benchmark.sets[name]
            rows = rows_of(pairs, identity)
            if rows:
                return int(pairs.picture[squarest(pairs, rows)])
        raise KeyError(identity)

    def _told(self, model: int, vector: Vector, person: int | None = None, caption: str | None = None) -> Answer:
        """What a model gives away for a picture's embedding, (d,); the truth is marked where it is known."""
        cosines = self._texts[model] @ vector
        fields = self._by_field(cosines, person)
        own = None if caption is None else self.captions.place[caption]
        captions = [
            {
                "text": plain(self.captions.text[row]),
                "cosine": round(float(cosines[row]), 4),
                "own": row == own,
                "true": person is not None and int(self.captions.person[row]) == person,
            }
            for row in _largest(cosines, CAPTIONS_SHOWN)
        ]
        return {
            "captions": captions,
            "fields": fields,
            "given_away": sum(field["best"]["true"] for field in fields),
            "rank": None if own is None else 1 + int(np.count_nonzero(cosines > cosines[own])),
            "of": len(cosines),
        }

    def _by_field(self, cosines: Vector, person: int | None) -> list[Answer]:
        """For each field the person whose caption of it is nearest, and where the true person stands.

        A person's score in a field is the largest cosine over all captions that tell that fact of hers.
        """
        known, begin = self.captions, self.captions.start
        scores = np.maximum.reduceat(cosines[: known.end], begin)
        who, what = known.person[begin], known.field[begin]
        answers = []
        for number, field in enumerate(FIELDS):
            groups = np.flatnonzero(what == number)
            if not len(groups):
                continue
            best = groups[int(np.argmax(scores[groups]))]
            mine = groups[who[groups] == person]
            answer = {"field": field, "best": self._value(field, int(who[best]), scores[best], person), "true": None}
            if len(mine):
                rank = 1 + int(np.count_nonzero(scores[groups] > scores[mine[0]]))
                answer["true"] = {**self._value(field, int(who[mine[0]]), scores[mine[0]], person), "rank": rank}
            answers.append({**answer, "of": len(groups)})
        return answers

    def _value(self, field: str, who: int, cosine: np.float32, person: int | None) -> Answer:
        value = plain(self.benchmark.identities[self.people[who]][field], 80)
        return {"value": value, "name": self._name(who), "cosine": round(float(cosine), 4), "true": who == person}


def _largest(values: Vector, count: int) -> list[int]:
    """Places of the ``count`` largest, the largest first and the first of equals before the others."""
    if len(values) > count:
        few = np.flatnonzero(values >= np.partition(values, -count)[-count])
    else:
        few = np.arange(len(values))
    return [int(place) for place in few[np.argsort(-values[few], kind="stable")][:count]]
