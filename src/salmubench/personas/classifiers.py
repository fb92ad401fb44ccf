"""Classifiers that tell a person's gender, age or race from a picture, as FairFace does, through transformers."""

import importlib.util
from collections.abc import Iterable, Iterator
from itertools import islice

from PIL import Image

from salmubench.errors import UserError

_GENDERS = {"female": "female", "woman": "female", "f": "female", "male": "male", "man": "male", "m": "male"}


class Classifier:
    """One model that gives each picture one label.

    Args:
        kind: what it tells, e.g. ``gender``.
        address: a folder as transformers saves it, or ``owner/name`` on the hub.
        device: where it runs; a GPU if there is one by default.

    Raises:
        UserError: transformers is not installed, or the model is not there.
    """

    def __init__(self, kind: str, address: str, device: str | None = None) -> None:
        if importlib.util.find_spec("transformers") is None:
            raise UserError("transformers is not installed; run `pip install 'salmubench[diffusion]'`")
        import torch
        from transformers import AutoImageProcessor, AutoModelForImageClassification
        from transformers.utils import logging

        logging.disable_progress_bar()  # ours are enough
        self.kind = kind
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        try:
            self._processor = AutoImageProcessor.from_pretrained(address)
            self._model = AutoModelForImageClassification.from_pretrained(address).to(self._device).eval()
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0].rstrip(". ")
            raise UserError(
                f"{kind}={address}: no image classifier that transformers can load ({reason}); fetch the repository's "
                "config.json, preprocessor_config.json and model.safetensors or give a folder that has them"
            ) from error

    def labels(self, pictures: Iterable[Image.Image], *, batch_size: int = 32) -> Iterator[str]:
        """The likeliest label of each picture, in lower case; genders are ``female`` and ``male`` in any model."""
        import torch

        remaining = iter(pictures)
        while batch := list(islice(remaining, batch_size)):
            inputs = self._processor(images=batch, return_tensors="pt").to(self._device)
            with torch.inference_mode():
                winners = self._model(**inputs).logits.argmax(dim=-1).tolist()
            for winner in winners:
                label = str(self._model.config.id2label[winner]).strip().lower()
                yield _GENDERS.get(label, label) if self.kind == "gender" else label


def load_classifiers(text: str, device: str | None = None) -> list[Classifier]:
    """Those of ``"gender=owner/one,age=folder"``; none of an empty text.

    Raises:
        UserError: an entry is not of that form, or a model is not there.
    """
    models = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        kind, equals, address = entry.partition("=")
        if not (kind and equals and address):
            raise UserError(
                f"classifiers={text}: write KIND=MODEL, several with commas between, e.g. gender=owner/name"
            )
        models.append(Classifier(kind, address, device))
    return models
