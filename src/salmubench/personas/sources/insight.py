"""The paper's face model: insightface's ``buffalo_l``, run by onnxruntime."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from salmubench.errors import UserError
from salmubench.personas.faces import CROP, Face, age_band, face_model


@face_model("insightface")
class InsightFace:
    """The detector, the embedder and the estimate of age and gender of insightface's ``buffalo_l``.

    Its weights are for research that is not commercial; read insightface's terms.

    Args:
        folder: where the weights lie; ``~/.insightface/models/buffalo_l`` by default.
    """

    WEIGHTS = ("det_10g.onnx", "w600k_r50.onnx", "genderage.onnx")

    def __init__(self, folder: str) -> None:
        path = Path(folder).expanduser() if folder else Path.home() / ".insightface" / "models" / "buffalo_l"
        if any(importlib.util.find_spec(package) is None for package in ("insightface", "onnxruntime")):
            raise UserError(
                "insightface: not installed, and nothing else here finds faces; run `pip install "
                "'salmubench[diffusion]'` or name another face model"
            )
        # Left alone, insightface would download what is missing.
        missing = [name for name in self.WEIGHTS if not (path / name).is_file()]
        if missing:
            raise UserError(
                f"{path}: insightface's weights {', '.join(missing)} are missing; fetch buffalo_l.zip of the release "
                "model-zoo of github.com/deepinsight/insightface and unpack it there"
            )
        from insightface.app import FaceAnalysis

        self._app = FaceAnalysis(name=str(path), allowed_modules=["detection", "recognition", "genderage"])
        self._app.prepare(ctx_id=0, det_size=(640, 640))

    def faces(self, picture: Image.Image) -> list[Face]:
        from insightface.utils.face_align import norm_crop

        pixels = np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1])  # insightface wants BGR
        found = []
        for face in self._app.get(pixels):
            crop = Image.fromarray(np.ascontiguousarray(norm_crop(pixels, face.kps, image_size=CROP)[:, :, ::-1]))
            left, top, right, bottom = map(float, face.bbox)
            known = {"gender": "male" if face.sex == "M" else "female", "age": age_band(int(face.age))}
            found.append(Face((left, top, right, bottom), np.asarray(face.normed_embedding, np.float32), crop, known))
        return found
