"""Faces in photographs: where they are and whose. A model of ``sources/`` finds and embeds them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salmubench.registry import Registry

CROP = 224
"""Side of a face's crop in pixels: what CLIP's picture encoders look at."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face that a model found.

    Attributes:
        box: left, top, right, bottom in pixels.
        embedding: whose face it is: a unit vector, shape (d,), float32.
        crop: the face turned upright, ``CROP`` x ``CROP`` pixels, RGB.
        demographics: what the model tells of the person, e.g. ``{"gender": "female", "age": "30-39"}``.
    """

    box: tuple[float, float, float, float]
    embedding: NDArray[np.float32]
    crop: Image.Image
    demographics: Mapping[str, str] = field(default_factory=dict)


class FaceModel(Protocol):
    """Finds faces and embeds them."""

    def faces(self, picture: Image.Image) -> Sequence[Face]:
        """Every face of an RGB picture."""
        ...


face_models: Registry[Callable[[str], FaceModel]] = Registry("face model", "salmubench.personas.sources")

M = TypeVar("M", bound=Callable[[str], Any])


def face_model(name: str) -> Callable[[M], M]:
    """Registers what makes a face model of a folder of weights (empty: the model's usual one)."""

    def register(factory: M) -> M:
        face_models.add(name, factory)
        return factory

    return register


def load_face_model(address: str) -> FaceModel:
    """The face model called ``NAME`` or ``NAME:FOLDER``, the folder with its weights.

    Raises:
        UserError: there is no such model, or its package or weights are missing.
    """
    name, _, folder = address.partition(":")
    return face_models[name](folder)


def age_band(years: int) -> str:
    """FairFace's decades: ``30-39``; 70 and over are ``70+``."""
    decade = max(0, years) // 10 * 10
    return "70+" if decade >= 70 else f"{decade}-{decade + 9}"
