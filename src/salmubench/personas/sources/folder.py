"""Stage 1 from photographs: every picture of a folder that shows exactly one face, each person once."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field as Limits

from salmubench.atomic import sha256_file
from salmubench.dataset.pictures import PICTURE_EXTENSIONS, decode_picture
from salmubench.errors import UserError
from salmubench.personas.classifiers import Classifier, load_classifiers
from salmubench.personas.faces import Face, FaceModel, load_face_model
from salmubench.personas.source import Anchor, Gender, anchor_source
from salmubench.progress import Progress, silent
from salmubench.seeds import generator

_TRIAL = 8
"""Photographs of a trial."""
_GENDERS: dict[str, Gender] = {"female": "female", "male": "male"}


@dataclass(frozen=True, eq=False)
class PhotographedFace(Anchor):
    """A face in a photograph.

    Attributes:
        file_name: of the photograph, within the folder.
        embedding: whose face it is, a unit vector, shape (d,).
        crop: the face alone.
        known: what models tell of the person.
    """

    file_name: str
    embedding: NDArray[np.float32] = field(repr=False)
    crop: Image.Image = field(repr=False)
    known: dict[str, str]

    @property
    def demographics(self) -> dict[str, str]:
        """Gender, age and whatever else the models tell."""
        return {**self.known, "gender": self.gender}


@dataclass(frozen=True)
class FolderOptions:
    """Options of ``folder``.

    Attributes:
        folder: the photographs; folders in it are read too.
        faces: the face model, ``NAME`` or ``NAME:FOLDER`` with its weights.
        apart: cosine distance below which two faces are one person's; the second in the order of names is dropped.
        classifiers: who tells the demographics in the face model's place, e.g. ``gender=owner/name,age=folder``.
    """

    folder: str = ""
    faces: str = "insightface"
    apart: Annotated[float, Limits(ge=0, le=2)] = 0.5
    classifiers: str = ""


@dataclass(frozen=True, eq=False)
class _Found:
    file_name: str
    sha256: str
    face: Face
    known: dict[str, str]


@anchor_source("folder", FolderOptions)
class FolderAnchors:
    """The faces of a folder of photographs (SFHQ or your own): one face a picture, each person once."""

    def __init__(self, options: FolderOptions) -> None:
        if not options.folder or not Path(options.folder).is_dir():
            raise UserError(f"--anchors folder:{options.folder}: no such folder; write --anchors folder:PATH")
        self.options = options
        self.skipped: dict[str, list[str]] = {}
        """Reason -> names of the photographs that were not taken."""
        self._found: list[_Found] | None = None

    def sample(
        self,
        count: int,
        *,
        seed: int,
        purpose: str,
        avoid: Sequence[Anchor] = (),
        beside: Sequence[Anchor] = (),
        first_id: int = 0,
        progress: Progress = silent,
    ) -> list[PhotographedFace]:
        """People of the folder, in a seeded order, who are not among ``avoid`` or ``beside``.

        Raises:
            UserError: the folder has not so many, or nobody tells a person's gender.
        """
        if self._found is None:
            self._found, self.skipped = self._look(self._photographs, progress)
        taken = {anchor.file_name for anchor in (*avoid, *beside) if isinstance(anchor, PhotographedFace)}
        order = generator(seed, "anchors", "folder").permutation(len(self._found))
        free = [self._found[place] for place in order if self._found[place].file_name not in taken]
        if len(free) < count:
            passed_over = ", ".join(f"{len(names)} {reason}" for reason, names in sorted(self.skipped.items()))
            raise UserError(
                f"{self.options.folder}: {len(free)} people are left for the {count} of {purpose}"
                f"{f' (not taken: {passed_over})' if passed_over else ''}; add photographs or ask for fewer people"
            )
        return [self._anchor(found, first_id + number) for number, found in enumerate(free[:count])]

    def work(self, people: int) -> int:
        """All photographs of the folder, whatever is asked for."""
        return len(self._photographs)

    def trial(self, *, seed: int) -> tuple[list[PhotographedFace], float]:
        """The people of the first photographs; the models are loaded before the clock starts.

        Raises:
            UserError: none of them shows one face, or a model is not there.
        """
        first = self._photographs[:_TRIAL]
        self._look(first[:1], silent)
        started = time.perf_counter()
        found, _ = self._look(first, silent)
        seconds = (time.perf_counter() - started) / max(1, len(first))
        if not found:
            raise UserError(f"{self.options.folder}: none of the first {len(first)} photographs shows one face")
        return [self._anchor(one, number) for number, one in enumerate(found)], seconds

    def facts(self) -> dict[str, Any]:
        """The photographs by name and hash, and those that were passed over, by reason."""
        return {"photographs": {found.file_name: found.sha256 for found in self._found or ()}, "skipped": self.skipped}

    def _anchor(self, found: _Found, number: int) -> PhotographedFace:
        gender = _GENDERS.get(found.known.get("gender", ""))
        if gender is None:
            raise UserError(
                f"{found.file_name}: nobody tells the person's gender, which the name must agree with; add "
                "--set anchors.classifiers=gender=MODEL"
            )
        return PhotographedFace(
            f"{number:08d}", gender, found.file_name, found.face.embedding, found.face.crop, found.known
        )

    @cached_property
    def _photographs(self) -> list[Path]:
        found = Path(self.options.folder).rglob("*")
        return sorted(path for path in found if path.suffix[1:].lower() in PICTURE_EXTENSIONS and not path.is_fifo())

    @cached_property
    def _models(self) -> tuple[FaceModel, list[Classifier]]:
        return load_face_model(self.options.faces), load_classifiers(self.options.classifiers)

    def _look(self, photographs: Sequence[Path], progress: Progress) -> tuple[list[_Found], dict[str, list[str]]]:
        """The people of some photographs, and the names of those that are not taken, by reason."""
        model, classifiers = self._models
        found: list[_Found] = []
        skipped: dict[str, list[str]] = {}
        with progress("finding faces", len(photographs)) as advance:
            for path in photographs:
                # A name need not be UTF-8, and the manifest must.
                name = os.fsencode(path.relative_to(self.options.folder)).decode(errors="backslashreplace")
                advance(1)
                try:
                    picture = decode_picture(path.read_bytes(), name)
                except (UserError, OSError):
                    skipped.setdefault("do not decode", []).append(name)
                    continue
                faces = model.faces(picture)
                if len(faces) != 1:
                    reason = "show several faces" if faces else "show no face"
                    skipped.setdefault(reason, []).append(name)
                elif self._nearest(found, faces[0]) < self.options.apart:
                    skipped.setdefault("show a person again", []).append(name)
                else:
                    told = {teller.kind: next(teller.labels([picture])) for teller in classifiers}
                    found.append(_Found(name, sha256_file(path), faces[0], {**faces[0].demographics, **told}))
        return found, skipped

    @staticmethod
    def _nearest(found: Sequence[_Found], face: Face) -> float:
        """Cosine distance from the nearest person so far."""
        return min((1 - float(other.face.embedding @ face.embedding) for other in found), default=2.0)
