"""Stage 1 from photographs: every picture of a folder that shows exactly one face, each person once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salmubench.atomic import sha256_file
from salmubench.dataset.pictures import PICTURE_EXTENSIONS, decode_picture
from salmubench.errors import UserError
from salmubench.personas.classifiers import load_classifiers
from salmubench.personas.faces import Face, load_face_model
from salmubench.personas.source import Anchor, Gender, anchor_source
from salmubench.progress import Progress, silent
from salmubench.seeds import generator

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
    apart: float = 0.5
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
            self._found = self._look(progress)
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

    def _look(self, progress: Progress) -> list[_Found]:
        root = Path(self.options.folder)
        paths = sorted(path for path in root.rglob("*") if path.suffix[1:].lower() in PICTURE_EXTENSIONS)
        model, classifiers = load_face_model(self.options.faces), load_classifiers(self.options.classifiers)
        found: list[_Found] = []
        with progress("finding faces", len(paths)) as advance:
            for path in paths:
                name = path.relative_to(root).as_posix()
                advance(1)
                try:
                    picture = decode_picture(path.read_bytes(), name)
                except (UserError, OSError):
                    self._skip("do not decode", name)
                    continue
                faces = model.faces(picture)
                if len(faces) != 1:
                    self._skip("show several faces" if faces else "show no face", name)
                elif self._nearest(found, faces[0]) < self.options.apart:
                    self._skip("show a person again", name)
                else:
                    told = {teller.kind: next(teller.labels([picture])) for teller in classifiers}
                    found.append(_Found(name, sha256_file(path), faces[0], {**faces[0].demographics, **told}))
        return found

    def _skip(self, reason: str, name: str) -> None:
        self.skipped.setdefault(reason, []).append(name)

    @staticmethod
    def _nearest(found: Sequence[_Found], face: Face) -> float:
        """Cosine distance from the nearest person so far."""
        return min((1 - float(other.face.embedding @ face.embedding) for other in found), default=2.0)
