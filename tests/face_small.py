"""A face model for drawn portraits: finds the face in the middle of the frame and tells people apart by its colours.

The portraits keep the head within the central square (a test of theirs proves it), so that skin and hair lie there.
"""

import contextlib

import numpy as np
from PIL import Image

from salmubench.personas.faces import CROP, Face, face_models


class DrawnFaces:
    """One face where the middle is not one flat colour, two where the picture says so by a magenta corner."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def faces(self, picture: Image.Image) -> list[Face]:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left + side * 0.2, top + side * 0.15, left + side * 0.8, top + side * 0.75)
        crop = picture.crop(tuple(round(edge) for edge in box)).resize((CROP, CROP))
        pixels = np.asarray(crop.resize((16, 16)), dtype=np.float32)
        if pixels.std() < 2:
            return []
        histogram, _ = np.histogramdd(pixels.reshape(-1, 3), bins=6, range=[(0, 256)] * 3)
        vector = np.sqrt(histogram.ravel()).astype(np.float32)
        face = Face(box, vector / np.linalg.norm(vector), crop, {"gender": "female", "age": "20-29"})
        two = picture.getpixel((0, 0)) == (255, 0, 255)
        return [face, face] if two else [face]


with contextlib.suppress(ValueError):  # another test file was there before
    face_models.add("drawn", DrawnFaces)
