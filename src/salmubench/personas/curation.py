"""Stage 3: which pictures of a person stay. Models look at every picture once; the tests then judge what they saw.

The order is the paper's: zero-shot labels, demographics, identity, then the weakest of those that are left by CLIP
score, then people with too few pictures. A test whose model is not named is left out, as the report says.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Limits

from salmubench.dataset.pictures import decode_picture
from salmubench.personas.classifiers import load_classifiers
from salmubench.personas.faces import load_face_model
from salmubench.personas.source import Anchor
from salmubench.progress import Progress, silent

PRESENCE = {
    "one person": ("a photo of one person", "a portrait of a person"),
    "several people": ("a photo of several people", "a group photo"),
    "no person": ("a photo of a place without people", "a photo of an object"),
}
"""Zero-shot labels, each with its wordings; a picture must look like the first."""
MOST_SURPLUS = 1000.0
"""More than that is a slip of the pen."""
GENDERS = {
    "female": ("a photo of a woman", "a portrait of a woman"),
    "male": ("a photo of a man", "a portrait of a man"),
}


@dataclass(frozen=True)
class CurationOptions:
    """Options of the curation.

    Attributes:
        model: an open_clip checkpoint for the zero-shot labels and the CLIP score; empty: neither is tested.
        labels: test the zero-shot labels; off, the model gives the score alone.
        classifiers: who tells the demographics, e.g. ``gender=owner/name,age=folder``; empty: the traits that the
            source knows of its own pictures, if it does.
        faces: the face model of the identity test, ``NAME`` or ``NAME:FOLDER``; empty: it is not tested.
        identity_distance: the largest cosine distance of a face from the anchor's, or from the person's medoid.
        keep: share that the CLIP-score cut keeps of the pictures that have passed the other tests.
        min_score: cut at this cosine in the place of ``keep``.
        min_pictures: of whom fewer are left, nothing is kept. A build sets it: what its preset may need of a person.
        surplus: pictures made for one that is needed.
        people_surplus: people made for one who is needed.
    """

    model: str = ""
    labels: bool = True
    classifiers: str = ""
    faces: str = ""
    identity_distance: Annotated[float, Limits(gt=0, le=2)] = 0.6
    keep: Annotated[float, Limits(gt=0, le=1)] = 0.77
    min_score: float | None = None
    min_pictures: int = 50
    surplus: Annotated[float, Limits(ge=1, le=MOST_SURPLUS)] = 1.6
    people_surplus: Annotated[float, Limits(ge=1, le=MOST_SURPLUS)] = 1.3


@dataclass(frozen=True, eq=False)
class Candidate:
    """A picture that may stay.

    Attributes:
        text: what it should show.
        path: where it lies.
        known: demographics that the source knows of the picture itself, e.g. ``{"skin": "tan"}``.
    """

    anchor: Anchor
    file_name: str
    text: str
    path: Path
    known: dict[str, str] = field(default_factory=dict)

    @property
    def identity_id(self) -> str:
        return self.anchor.identity_id


@dataclass(eq=False)
class Evidence:
    """What the models saw, one entry a candidate; what no model looked at is None or missing.

    Attributes:
        presence: the winner of ``PRESENCE``.
        gender: the winner of ``GENDERS``.
        score: cosine of picture and text, shape (n,).
        labels: demographic -> labels.
        faces: how many there are.
        identity: unit vector of the one face, zeros where there is not one, shape (n, d).
    """

    presence: list[str] | None = None
    gender: list[str] | None = None
    score: NDArray[np.float32] | None = None
    labels: dict[str, list[str]] = field(default_factory=dict)
    faces: list[int] | None = None
    identity: NDArray[np.float32] | None = None


Reasons = dict[int, str]
"""Place of a candidate that falls -> why."""


def label_reasons(candidates: Sequence[Candidate], standing: Sequence[int], seen: Evidence) -> Reasons | None:
    """Pictures that do not look like one person of the anchor's gender."""
    if seen.presence is None or seen.gender is None:
        return None
    reasons: Reasons = {}
    for place in standing:
        if seen.presence[place] != next(iter(PRESENCE)):
            reasons[place] = seen.presence[place]
        elif seen.gender[place] != candidates[place].anchor.gender:
            reasons[place] = f"looks {seen.gender[place]}"
    return reasons


def demographic_reasons(candidates: Sequence[Candidate], standing: Sequence[int], seen: Evidence) -> Reasons | None:
    """Pictures whose gender, age or race is not the one that most pictures of the person have (of two, the first)."""
    if not seen.labels:
        return None
    reasons: Reasons = {}
    for kind, labels in seen.labels.items():
        for places in _by_person(candidates, standing):
            counts = Counter(labels[place] for place in places)
            mode = min(counts, key=lambda label: (-counts[label], label))
            reasons |= {place: f"{kind} {labels[place]}" for place in places if labels[place] != mode}
    return reasons


def identity_reasons(
    candidates: Sequence[Candidate], standing: Sequence[int], seen: Evidence, distance: float
) -> Reasons | None:
    """Pictures without exactly one face, or whose face is far from the anchor's (the medoid's, if it has none)."""
    if seen.faces is None or seen.identity is None:
        return None
    reasons = {
        place: "several faces" if seen.faces[place] else "no face" for place in standing if seen.faces[place] != 1
    }
    for places in _by_person(candidates, [place for place in standing if place not in reasons]):
        faces = seen.identity[places]
        reference = getattr(candidates[places[0]].anchor, "embedding", None)
        if reference is None:
            reference = faces[(faces @ faces.T).sum(axis=1).argmax()]
        for place, gap in zip(places, 1 - faces @ reference, strict=True):
            if gap > distance:
                reasons[place] = "another face"
    return reasons


def score_reasons(standing: Sequence[int], seen: Evidence, keep: float, min_score: float | None) -> Reasons | None:
    """The pictures that fit their text worst: below ``min_score``, or all but the best share ``keep``."""
    if seen.score is None:
        return None
    order = sorted(standing, key=lambda place: (-float(seen.score[place]), place))  # type: ignore[index]
    stay = round(keep * len(order)) if min_score is None else sum(seen.score[place] >= min_score for place in order)
    return {place: "weak score" for place in order[int(stay) :]}


def _by_person(candidates: Sequence[Candidate], standing: Sequence[int]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for place in standing:
        groups.setdefault(candidates[place].identity_id, []).append(place)
    return list(groups.values())


@dataclass(frozen=True)
class Verdicts:
    """What a curation came to.

    Attributes:
        kept: identity -> file names, in the order of the candidates; people without a kept picture are missing.
        dropped: file name -> (test, reason).
        tests: name, pictures looked at and pictures that fell, in order; ``dropped`` is None where it was skipped.
        people: people before and after.
        options: what it was done with.
    """

    kept: dict[str, list[str]]
    dropped: dict[str, tuple[str, str]]
    tests: list[dict[str, Any]]
    people: tuple[int, int]
    options: dict[str, Any]

    def report(self) -> dict[str, Any]:
        """How many fell at which test and why, as JSON."""
        kept = sum(map(len, self.kept.values()))
        reasons = Counter(f"{test}: {reason}" for test, reason in self.dropped.values())
        return {
            "pictures": {"before": kept + len(self.dropped), "after": kept},
            "people": dict(zip(("before", "after"), self.people, strict=True)),
            "tests": self.tests,
            "reasons": dict(sorted(reasons.items())),
            "options": self.options,
        }


def curate(candidates: Sequence[Candidate], options: CurationOptions, *, progress: Progress = silent) -> Verdicts:
    """Looks at the candidates and judges them.

    Raises:
        UserError: an option does not fit, or a model is not there.
    """
    return judge(candidates, look(candidates, options, progress=progress), options)


def judge(candidates: Sequence[Candidate], seen: Evidence, options: CurationOptions) -> Verdicts:
    """Puts every candidate through the tests in order; a later test sees those that are left."""
    tests: dict[str, Callable[[list[int]], Reasons | None]] = {
        "labels": lambda standing: label_reasons(candidates, standing, seen),
        "demographics": lambda standing: demographic_reasons(candidates, standing, seen),
        "identity": lambda standing: identity_reasons(candidates, standing, seen, options.identity_distance),
        "score": lambda standing: score_reasons(standing, seen, options.keep, options.min_score),
        "pictures a person": lambda standing: {
            place: f"fewer than {options.min_pictures} pictures left"
            for places in _by_person(candidates, standing)
            if len(places) < options.min_pictures
            for place in places
        },
    }
    standing = list(range(len(candidates)))
    dropped: dict[str, tuple[str, str]] = {}
    tally: list[dict[str, Any]] = []
    for name, test in tests.items():
        reasons = test(standing)
        tally.append({"test": name, "looked_at": len(standing), "dropped": None if reasons is None else len(reasons)})
        dropped |= {candidates[place].file_name: (name, reason) for place, reason in (reasons or {}).items()}
        standing = [place for place in standing if place not in (reasons or {})]
    groups = _by_person(candidates, standing)
    kept = {candidates[places[0]].identity_id: [candidates[place].file_name for place in places] for places in groups}
    people = len({candidate.identity_id for candidate in candidates}), len(kept)
    return Verdicts(kept, dropped, tally, people, asdict(options))


def require_models(options: CurationOptions) -> None:
    """Loads the models once, and lets go of them: what is wrong with them is said before pictures are made.

    Raises:
        UserError: a model is not there.
    """
    if options.model:
        from salmubench.encoders.checkpoint import load_encoder

        load_encoder(options.model)
    if options.faces:
        load_face_model(options.faces)
    load_classifiers(options.classifiers)


def look(candidates: Sequence[Candidate], options: CurationOptions, *, progress: Progress = silent) -> Evidence:
    """Has each model that the options name look at every candidate once; pictures are read as a stream.

    Raises:
        UserError: a model or a picture is not there.
    """
    seen = Evidence()
    if options.model:
        _look_with_clip(candidates, options, seen, progress)
    if options.faces or options.classifiers:
        _look_at_faces(candidates, options, seen, progress)
    if not options.classifiers and candidates and all(candidate.known for candidate in candidates):
        seen.labels = {kind: [one.known[kind] for one in candidates] for kind in candidates[0].known}
    return seen


def _look_with_clip(
    candidates: Sequence[Candidate], options: CurationOptions, seen: Evidence, progress: Progress
) -> None:
    from salmubench.encoders.checkpoint import load_encoder

    encoder = load_encoder(options.model)
    stream = ((one.file_name, one.path.read_bytes()) for one in candidates)
    pictures = encoder.encode_pictures(stream, len(candidates), progress=progress)
    texts = encoder.encode_texts([one.text for one in candidates], progress=progress)
    seen.score = np.einsum("nd,nd->n", pictures, texts)
    if options.labels:
        seen.presence, seen.gender = (
            zero_shot(pictures, {label: encoder.encode_texts(words) for label, words in labels.items()})
            for labels in (PRESENCE, GENDERS)
        )


def zero_shot(pictures: NDArray[np.float32], labels: dict[str, NDArray[np.float32]]) -> list[str]:
    """The label nearest to each picture; a label is the normalised mean of its wordings' embeddings.

    Args:
        pictures: unit vectors, shape (n, d).
        labels: label -> embeddings of its wordings, shape (k, d).
    """
    means = np.stack([words.mean(axis=0) for words in labels.values()])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    names = list(labels)
    return [names[place] for place in (pictures @ means.T).argmax(axis=1)]


def _look_at_faces(
    candidates: Sequence[Candidate], options: CurationOptions, seen: Evidence, progress: Progress
) -> None:
    """Faces and demographics in one pass; a classifier sees the face alone where a face model finds just one."""
    model = load_face_model(options.faces) if options.faces else None
    classifiers = load_classifiers(options.classifiers)
    counts: list[int] = []
    identities: list[NDArray[np.float32] | None] = []
    seen.labels = {classifier.kind: [] for classifier in classifiers}
    with progress("looking at faces", len(candidates)) as advance:
        for one in candidates:
            picture = decode_picture(one.path.read_bytes(), one.file_name)
            faces = model.faces(picture) if model else []
            counts.append(len(faces))
            identities.append(faces[0].embedding if len(faces) == 1 else None)
            for classifier in classifiers:
                shown = faces[0].crop if len(faces) == 1 else picture
                seen.labels[classifier.kind] += classifier.labels([shown])
            advance(1)
    if model:
        seen.faces, seen.identity = counts, _stack(identities)


def _stack(vectors: Iterable[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    """The vectors as rows, zeros for those that are missing."""
    rows = list(vectors)
    width = next((len(row) for row in rows if row is not None), 1)
    return np.stack([np.zeros(width, np.float32) if row is None else row for row in rows])
