"""Pictures to a model's input, several at a time: the same tensors as one by one, in less time.

open_clip's transforms end in ``MaybeToTensor`` and ``Normalize``, which treat each value by itself: a stack of pictures
goes through them as one array. NumPy does it, as torch would share so little out among threads that the model needs.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from open_clip.transform import MaybeToTensor
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize


def to_tensors(preprocess: Callable[[Image.Image], Tensor], pictures: Sequence[Image.Image]) -> Iterable[Tensor]:
    """``map(preprocess, pictures)``: RGB pictures to tensors, each (3, height, width), bit for bit the same."""
    steps: list[Any] = getattr(preprocess, "transforms", [])
    if [type(step) for step in steps[-2:]] != [MaybeToTensor, Normalize]:
        return map(preprocess, pictures)
    shape, normalize = Compose(steps[:-2]), steps[-1]
    pixels = np.stack([np.asarray(shape(picture)) for picture in pictures]).transpose(0, 3, 1, 2)
    values = pixels.astype(np.float32, order="C")
    values /= np.float32(255)
    values -= np.array(normalize.mean, np.float32)[:, None, None]
    values /= np.array(normalize.std, np.float32)[:, None, None]
    return torch.from_numpy(values)
