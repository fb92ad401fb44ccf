"""The attacks that change no weight: other wordings, extraction of values, membership inference."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset.schema import FIELDS, Field
from salmubench.dataset.store import Benchmark, PairSet
from salmubench.encoders.embeddings import Embeddings
from salmubench.errors import UserError
from salmubench.evaluation.leaks import MembershipFinding, among_rivals, extraction, pair_losses
from salmubench.evaluation.metric import Skip
from salmubench.evaluation.recovery import Finding, Means
from salmubench.evaluation.rows import labels, rows
from salmubench.evaluation.similarity import row_cosines
from salmubench.seeds import generator
from salmubench.studies.wordings import WORDINGS, Asked, Rivals, Row, Wordings, prompts, rows_of, swap

REFERENCES = 256
"""Pairs of retain_disjoint among which a pair's loss is taken."""


def require_rows(benchmark: Benchmark, name: str) -> PairSet:
    """The set ``name`` in the order of its file names.

    Raises:
        UserError: it has no rows.
    """
    pairs = rows(benchmark, name)
    if isinstance(pairs, Skip):
        raise UserError(f"--data {benchmark.root}: {pairs.reason}; build or download it again")
    return pairs


class Probe(Protocol):
    """An attack by looking: what is to be encoded, and what follows from it."""

    def pictures(self) -> NDArray[np.int64]: ...

    def texts(self) -> Iterable[str]: ...

    def find(self, embeddings: Embeddings, logit_scale: float) -> Mapping[str, Finding]:
        """By group: a wording, a field, a score."""
        ...


class Paraphrasing:
    """The same facts in the wordings of ``WORDINGS``, among rivals in the same words."""

    def __init__(self, benchmark: Benchmark, rivals: Rivals, *, seed: int) -> None:
        self.pairs = require_rows(benchmark, "forget")
        wordings, told = Wordings(benchmark, seed=seed), rows_of(benchmark, self.pairs)
        self.asked: dict[str, Asked] = {wording: wordings.ask(wording, told, rivals) for wording in WORDINGS}

    def pictures(self) -> NDArray[np.int64]:
        """See ``Probe``."""
        return self.pairs.picture

    def texts(self) -> Iterable[str]:
        """See ``Probe``."""
        return sorted(set().union(*(asked.texts() for asked in self.asked.values())))

    def find(self, embeddings: Embeddings, logit_scale: float) -> Mapping[str, Finding]:
        """See ``Probe``; by wording."""
        picture, identity = embeddings.of_pictures(self.pairs.picture), labels(self.pairs)["identity_id"]

        def cosines(slots: Sequence[Sequence[str | None]]) -> NDArray[np.float64]:
            found = np.full((len(picture), len(slots)), np.nan)
            for column, texts in enumerate(slots):
                known = np.array([text is not None for text in texts])
                words = embeddings.of_texts([text for text in texts if text is not None])
                found[known, column] = row_cosines(picture[known], words)
            return found

        return {
            wording: among_rivals(
                row_cosines(picture, embeddings.of_texts(asked.true)),
                cosines(asked.other),
                cosines(asked.invented),
                identity,
            )
            for wording, asked in self.asked.items()
        }


class Extraction:
    """A picture ranks the candidate values of the field that its caption tells, without the name."""

    def __init__(self, benchmark: Benchmark, rivals: Rivals) -> None:
        self.pairs = require_rows(benchmark, "forget")
        self.told: list[Row] = rows_of(benchmark, self.pairs)
        present = {row.field for row in self.told}
        self.candidates: dict[Field, list[str]] = {
            data_field: rivals.candidates(data_field) for data_field in FIELDS if data_field in present
        }

    def pictures(self) -> NDArray[np.int64]:
        """See ``Probe``."""
        return self.pairs.picture

    def texts(self) -> Iterable[str]:
        """See ``Probe``."""
        return [text for data_field in self.candidates for texts in self._prompts(data_field) for text in texts]

    def _prompts(self, data_field: Field) -> list[list[str]]:
        return [
            [prompt.replace("{value}", value) for value in self.candidates[data_field]]
            for prompt in prompts(data_field)
        ]

    def find(self, embeddings: Embeddings, logit_scale: float) -> Mapping[str, Finding]:
        """See ``Probe``; by field, and ``all``."""
        identity, found = labels(self.pairs)["identity_id"], {}
        for data_field, values in self.candidates.items():
            place = {value: number for number, value in enumerate(values)}
            kept = np.array([row.field == data_field for row in self.told])
            label = np.array([place[row.value] for row in self.told if row.field == data_field])
            averaged = sum(embeddings.of_texts(texts) for texts in self._prompts(data_field))
            averaged = np.asarray(averaged, np.float64)
            averaged /= np.maximum(np.linalg.norm(averaged, axis=1, keepdims=True), 1e-12)
            picture = embeddings.of_pictures(self.pairs.picture[kept])
            found[str(data_field)] = extraction(picture, averaged, label, identity[kept])
        return {"all": _pooled(list(found.values())), **found}


def _pooled(parts: Sequence[Means]) -> Means:
    """All rows together; chance is that of each row's own field."""
    size = [part.rows for part in parts]
    names = list(parts[0].outcomes)
    return Means(
        {name: np.concatenate([part.outcomes[name] for part in parts]) for name in names},
        np.concatenate([part.identity_id for part in parts]),
        {name: float(np.average([part.chance[name] for part in parts], weights=size)) for name in names},
        {"candidates": None},
    )


class MembershipInference:
    """Forget pairs against the same pictures and captions with a value that was never trained with the person."""

    def __init__(self, benchmark: Benchmark, rivals: Rivals, *, seed: int) -> None:
        pairs = require_rows(benchmark, "forget")
        instead = []
        for row in rows_of(benchmark, pairs):
            value = rivals.untrained(row)
            instead.append(None if value is None else swap(row.caption, row.value, value))
        self.pairs = pairs.subset("forget", (text is not None for text in instead))
        self.untrained = [text for text in instead if text is not None]
        if not self.untrained:
            raise UserError(
                f"--data {benchmark.root}: no caption of forget holds its person's value, so that none can be swapped "
                "for an untrained one; leave out --probe membership"
            )
        disjoint = require_rows(benchmark, "retain_disjoint")
        drawn = generator(seed, "attack", "references").permutation(len(disjoint))[:REFERENCES]
        self.references = disjoint.take("references", sorted(drawn.tolist()))

    def pictures(self) -> NDArray[np.int64]:
        """See ``Probe``."""
        return np.concatenate([self.pairs.picture, self.references.picture])

    def texts(self) -> Iterable[str]:
        """See ``Probe``."""
        return [*self.pairs.text, *self.untrained, *self.references.text]

    def find(self, embeddings: Embeddings, logit_scale: float) -> Mapping[str, Finding]:
        """See ``Probe``; by score, ``cosine`` and ``loss``."""
        picture, identity = embeddings.of_pictures(self.pairs.picture), labels(self.pairs)["identity_id"]
        around = embeddings.of_pictures(self.references.picture), embeddings.of_texts(self.references.text)
        member, other = (embeddings.of_texts(texts) for texts in (self.pairs.text, self.untrained))
        cosine = row_cosines(picture, member), row_cosines(picture, other)
        loss = (
            pair_losses(picture, member, logit_scale, *around),
            pair_losses(picture, other, logit_scale, *around),
        )
        return {
            "cosine": MembershipFinding(cosine[0], cosine[1], identity),
            "loss": MembershipFinding(-loss[0], -loss[1], identity),
        }
