"""A dual encoder: load an open_clip checkpoint from a folder, a weights file or the hub; encode pictures and captions.

A checkpoint folder holds ``open_clip_config.json`` (``{"model_cfg": ..., "preprocess_cfg": ...}``) and the weights. We
write safetensors only; ``.bin`` and ``.pt`` are read with ``weights_only=True``, so that no file can run code.
"""

import difflib
import json
import logging
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from huggingface_hub import hf_hub_download
from numpy.typing import NDArray
from open_clip.pretrained import download_pretrained_from_hf
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from salmubench.atomic import read_json, replacing, sha256_file, write_json
from salmubench.dataset.pictures import decode_picture
from salmubench.errors import RunError, UserError
from salmubench.jobs import cores
from salmubench.progress import Progress, silent

CONFIG_FILE = "open_clip_config.json"
RECORD_FILE = "record.json"
"""Lies beside a checkpoint that an unlearning run wrote."""
WEIGHTS_FILE = "open_clip_model.safetensors"
WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pt")
HUB_PREFIX = "hf-hub:"
FOLDER_PREFIX = "local-dir:"
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""fp32 computes everything in float32 (no TF32); the others run under autocast. Embeddings are float32 always."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """A loaded checkpoint.

    Attributes:
        name: the checkpoint's folder, file stem or hub repository.
        architecture: open_clip's name of the architecture, or a short description where it has none.
        weights_sha256: of the weights file's bytes.
        config: ``{"model_cfg", "preprocess_cfg"}``, what ``save_checkpoint`` takes.
        precision: a key of ``PRECISIONS``.
        device: where the model lies.
        model: the open_clip model, in eval mode.
        tokenizer: texts to token ids, shape (b, context_length).
        preprocess: an RGB picture to a tensor, shape (3, size, size).
    """

    name: str
    architecture: str
    weights_sha256: str
    config: dict[str, Any]
    precision: str
    device: torch.device
    model: nn.Module
    tokenizer: Callable[[Sequence[str]], Tensor]
    preprocess: Callable[[Image.Image], Tensor]

    @property
    def dimension(self) -> int:
        """Length d of an embedding."""
        return int(self.config["model_cfg"]["embed_dim"])

    def encode_pictures(
        self,
        pictures: Iterable[tuple[str, bytes]],
        total: int,
        *,
        batch_size: int = 256,
        progress: Progress = silent,
    ) -> NDArray[np.float32]:
        """Embeds encoded pictures. They are decoded by a few threads, one batch ahead of the model.

        Args:
            pictures: (where the picture lies, its bytes) for each; read as a stream, never held as a whole.
            total: how many there are.
            batch_size: pictures a forward pass; changes speed and memory, not results.
            progress: shows the pictures done.

        Returns:
            L2-normalised embeddings, shape (total, d).

        Raises:
            UserError: a picture does not decode; the message says which.
            RunError: an embedding is not finite.
        """
        batches = self._decoded(pictures, batch_size)
        return self._encode("encode_image", batches, total, "encoding pictures", progress)

    def encode_texts(
        self, texts: Sequence[str], *, batch_size: int = 256, progress: Progress = silent
    ) -> NDArray[np.float32]:
        """Embeds captions.

        Returns:
            L2-normalised embeddings in the order of ``texts``, shape (len(texts), d).

        Raises:
            RunError: an embedding is not finite.
        """
        batches = (self.tokenizer(batch) for batch in _batched(texts, batch_size))
        return self._encode("encode_text", batches, len(texts), "encoding captions", progress)

    def _decoded(self, pictures: Iterable[tuple[str, bytes]], batch_size: int) -> Iterator[Tensor]:
        ahead: deque[list[Future[Tensor]]] = deque()
        with ThreadPoolExecutor(min(16, cores())) as pool:
            try:
                for batch in _batched(pictures, batch_size):
                    ahead.append([pool.submit(self._prepare, *picture) for picture in batch])
                    if len(ahead) > 1:
                        yield torch.stack([future.result() for future in ahead.popleft()])
                while ahead:
                    yield torch.stack([future.result() for future in ahead.popleft()])
            finally:
                pool.shutdown(cancel_futures=True)

    def _prepare(self, where: str, content: bytes) -> Tensor:
        return self.preprocess(decode_picture(content, where))

    def _encode(
        self, tower: str, batches: Iterable[Tensor], total: int, description: str, progress: Progress
    ) -> NDArray[np.float32]:
        features = np.empty((total, self.dimension), np.float32)
        encode = getattr(self.model, tower)
        done = 0
        with torch.inference_mode(), self._arithmetic(), progress(description, total) as advance:
            for batch in batches:
                embedded = functional.normalize(encode(batch.to(self.device)).float(), dim=-1)
                features[done : done + len(embedded)] = embedded.cpu().numpy()
                done += len(embedded)
                advance(len(embedded))
        if done != total:
            raise ValueError(f"{done} inputs came where {total} were announced")
        if not np.isfinite(features).all():
            raise RunError(
                f"{self.name}: the model gives embeddings that are not finite; its weights are broken, train it again"
            )
        return features

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        dtype = PRECISIONS[self.precision]
        autocast: AbstractContextManager[Any] = (
            torch.autocast(self.device.type, dtype=dtype) if dtype is not None else nullcontext()
        )
        # Left alone, cuDNN picks its algorithm, and TF32, by the batch's shape: scores would move with the batch size.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=dtype is not None), autocast:
            yield


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


@dataclass(frozen=True)
class _Source:
    name: str
    weights: Path
    model: str  # what open_clip calls the configuration: a built-in name or "local-dir:PATH"
    tokenizer: str


def load_encoder(
    checkpoint: str | Path, *, arch: str | None = None, device: str | None = None, precision: str = "fp32"
) -> Encoder:
    """Loads a checkpoint for encoding.

    Args:
        checkpoint: an open_clip folder, a weights file (.safetensors, .bin, .pt) or ``hf-hub:OWNER/NAME[@REVISION]``.
        arch: open_clip's name of the architecture, e.g. ``ViT-B-16``; needed where no configuration lies beside the
            weights, and then in its place.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; a GPU if there is one by default.
        precision: ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        UserError: no such checkpoint, architecture, device or precision; a file that could run code; weights that do
            not fit the architecture.
    """
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: there is no such precision; choose from {', '.join(PRECISIONS)}")
    if arch is not None and open_clip.get_model_config(arch) is None:
        near = difflib.get_close_matches(arch, open_clip.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see open_clip.list_models()"
        raise UserError(f"--arch {arch}: open_clip knows no such architecture; {hint}")
    target = _device(device)
    source = _locate(str(checkpoint), arch)
    model, preprocess = _build(source, target)
    config = {"model_cfg": open_clip.get_model_config(source.model), "preprocess_cfg": model.visual.preprocess_cfg}
    return Encoder(
        name=source.name,
        architecture=_architecture(source.model, config["model_cfg"]),
        weights_sha256=sha256_file(source.weights),
        config=config,
        precision=precision,
        device=target,
        model=model,
        tokenizer=open_clip.get_tokenizer(source.tokenizer),
        preprocess=preprocess,
    )


def checkpoint_config(folder: str | Path) -> dict[str, Any]:
    """The configuration of a checkpoint folder: ``{"model_cfg": ..., "preprocess_cfg": ...}``.

    Raises:
        UserError: the file is missing or holds no model configuration.
    """
    path = Path(str(folder).removeprefix(FOLDER_PREFIX)) / CONFIG_FILE
    config = read_json(path)
    model = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= model.keys():
        raise UserError(
            f"{path}: no model_cfg with embed_dim, vision_cfg and text_cfg in it; save the checkpoint again"
        )
    return {"model_cfg": model, "preprocess_cfg": config.get("preprocess_cfg") or {}}


def save_checkpoint(model: nn.Module, config: dict[str, Any], folder: str | Path) -> None:
    """Writes an open_clip folder that ``load_encoder`` and ``local-dir:PATH`` take; other files in it stay.

    Args:
        model: the open_clip model.
        config: ``{"model_cfg": ..., "preprocess_cfg": ...}``, e.g. ``Encoder.config`` or ``checkpoint_config(...)``.
        folder: made if it is not there. The weights come first: a folder with a configuration is complete.

    Raises:
        RunError: the disk is full or fails.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    target = Path(folder) / WEIGHTS_FILE
    with replacing(target) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt"})
        except SafetensorError as error:
            raise RunError(f"{target}: could not be written ({error}); free some space and run again") from error
    write_json(Path(folder) / CONFIG_FILE, config)


def _device(device: str | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {device}: this machine cannot use it ({reason}); choose cpu or cuda") from error


def _locate(checkpoint: str, arch: str | None) -> _Source:
    if checkpoint.startswith(HUB_PREFIX):
        return _locate_on_hub(checkpoint.removeprefix(HUB_PREFIX), arch)
    path = Path(checkpoint.removeprefix(FOLDER_PREFIX))
    if path.is_dir():
        model = arch or f"{FOLDER_PREFIX}{path}"
        if arch is None:
            checkpoint_config(path)  # says what is wrong with it in one sentence
        return _Source(path.resolve().name, _weights_in(path), model, model)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; give an open_clip folder, a weights file or hf-hub:OWNER/NAME")
    if path.suffix not in WEIGHTS_SUFFIXES:
        raise UserError(
            f"{path}: not one of {', '.join(WEIGHTS_SUFFIXES)}, and other files may run code; save it as .safetensors"
        )
    if arch is None:
        raise UserError(f"{path}: a weights file does not say its architecture; add --arch, e.g. --arch ViT-B-16")
    return _Source(path.stem, path, arch, arch)


def _weights_in(folder: Path) -> Path:
    preferred = [folder / WEIGHTS_FILE, folder / "open_clip_pytorch_model.bin"]
    others = [path for suffix in WEIGHTS_SUFFIXES for path in sorted(folder.glob(f"*{suffix}"))]
    for path in (*preferred, *others):
        if path.is_file():
            return path
    raise UserError(f"{folder}: holds no weights ({', '.join(WEIGHTS_SUFFIXES)}); put {WEIGHTS_FILE} there")


def _locate_on_hub(identifier: str, arch: str | None) -> _Source:
    repository, _, revision = identifier.partition("@")
    try:
        weights = Path(download_pretrained_from_hf(repository, revision=revision or None))
        if arch is not None:
            return _Source(repository, weights, arch, arch)
        config = Path(hf_hub_download(repository, CONFIG_FILE, revision=revision or None))
    except Exception as error:  # the hub client raises two dozen kinds: offline, gated, no such file, bad name
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{HUB_PREFIX}{identifier}: could not be fetched from the hub ({reason}); check the name and the network"
        ) from error
    return _Source(repository, weights, f"{FOLDER_PREFIX}{config.parent}", f"{HUB_PREFIX}{repository}")


def _build(source: _Source, device: torch.device) -> tuple[Any, Callable[[Image.Image], Tensor]]:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # open_clip would warn of random weights, which we replace at once
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(source.model, load_weights=False)
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols
            open_clip.load_checkpoint(model, str(source.weights), weights_only=True)
    except Exception as error:  # safetensors, pickle, zip and state-dict errors have no common class
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{source.weights}: not plain weights of this architecture ({type(error).__name__}: {reason}); "
            "check --arch or save them again as .safetensors"
        ) from error
    finally:
        root.setLevel(level)
    # Channels-last convolutions take two thirds of the time on a CPU (measured with the mini ResNet).
    return model.to(device, memory_format=torch.channels_last).eval(), preprocess


def _architecture(model: str, model_cfg: dict[str, Any]) -> str:
    if not model.startswith(FOLDER_PREFIX):
        return model
    for path in sorted((Path(open_clip.__file__).parent / "model_configs").glob("*.json")):
        # Only names that open_clip ships: one that this process added means nothing to a reader of the report.
        if json.loads(path.read_text(encoding="utf-8")) == model_cfg:
            return path.stem
    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    if not {"layers", "width", "image_size"} <= vision.keys() or not {"layers", "width"} <= text.keys():
        return "custom"
    layers = vision["layers"]
    tower = f"ResNet-{'.'.join(map(str, layers))}" if isinstance(layers, list) else f"ViT-{layers}"
    return f"{tower} width {vision['width']} at {vision['image_size']} px, text {text['layers']} x {text['width']}"
