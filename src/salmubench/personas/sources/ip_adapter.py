"""Stage 2 by diffusion: Stable Diffusion (1.5 or XL) that IP-Adapter-FaceID Plus gives the anchor's face."""

import importlib.util
import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from salmubench.errors import RunError, UserError
from salmubench.personas.prompts import draw_traits, scene_prompt
from salmubench.personas.scenes import JPEG_QUALITY, Frame, draw_frame
from salmubench.personas.source import Anchor, portrait_source
from salmubench.personas.sources.folder import PhotographedFace
from salmubench.seeds import derive, generator

if TYPE_CHECKING:  # torch takes seconds to import, and a build that draws needs none
    from torch import Tensor

_TRIES = 5
"""Pictures drawn for one that the safety checker turns down."""

_TRIAL = 4
"""Pictures that a trial plans for one that it makes: those of the commonest size fill a batch."""
_FACES_KEPT = 512
"""People whose features stay on the device, 1.3 MB each."""


@dataclass(frozen=True)
class IPAdapterOptions:
    """Options of ``ip-adapter``. A model is a folder or ``owner/name`` on the hub.

    Attributes:
        base: the diffusion model; for XL e.g. ``SG161222/RealVisXL_V4.0`` with ``adapter_file`` ``..._sdxl.bin``.
        adapter: where the adapter's weights lie.
        adapter_file: the weights; ``plusv2`` in the name tells that the identity bypasses the structure.
        image_encoder: the CLIP picture encoder that the adapter was trained with.
        scale: how much the face counts against the prompt.
        structure: how much the face's shape counts beside its identity (``plusv2``).
        steps: of the sampler (DDIM).
        guidance: classifier-free guidance, above 1.
        negative: what a picture must not be.
        batch_size: pictures at once; the last bits of a picture's bytes depend on it.
        safety: use the safety checker where the base model has one.
        device: a GPU if there is one by default; bf16 on a GPU, fp32 elsewhere.
    """

    base: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    adapter: str = "h94/IP-Adapter-FaceID"
    adapter_file: str = "ip-adapter-faceid-plusv2_sd15.bin"
    image_encoder: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    scale: float = 0.8
    structure: float = 1.0
    steps: int = 30
    guidance: float = 6.0
    negative: str = "monochrome, lowres, bad anatomy, worst quality, low quality, several people"
    batch_size: int = 8
    safety: bool = True
    device: str = ""


@dataclass(frozen=True)
class Scene:
    """A picture that is to be made."""

    anchor: PhotographedFace
    frame: Frame
    file_name: str
    traits: dict[str, str] = field(repr=False)

    @property
    def prompt(self) -> str:
        """What the model is asked for."""
        return scene_prompt(self.traits)


def generation_size(frame: Frame, native: int) -> tuple[int, int]:
    """Width and height in multiples of 8, of the frame's shape and about as many pixels as ``native`` squared."""
    width, height = (round(native * ratio**0.5 / 8) * 8 for ratio in (frame.ratio, 1 / frame.ratio))
    return width, height


@portrait_source("ip-adapter", IPAdapterOptions)
class IPAdapterPortraits:
    """Photographs by Stable Diffusion with IP-Adapter-FaceID Plus, of the faces of ``--anchors folder``."""

    licence = "made by a diffusion model: the base model's and the adapter's licences"

    def __init__(self, options: IPAdapterOptions) -> None:
        if not options.guidance > 1 or options.batch_size < 1 or options.steps < 1:
            raise UserError("--set portraits.guidance must be above 1, batch_size and steps at least 1; mend it")
        self.options = options
        self.at_once = options.batch_size
        self._faces: dict[str, tuple[Tensor, Tensor]] = {}

    def plan(self, anchor: Anchor, *, seed: int, picture: int, long_side: int) -> Scene:
        """Frame and prompt of picture number ``picture``.

        Raises:
            UserError: the anchor is no photograph.
        """
        if not isinstance(anchor, PhotographedFace):
            raise UserError("--portraits ip-adapter: needs photographs of faces; add --anchors folder:PATH")
        rng = generator(seed, "scene", anchor.identity_id, picture)
        frame = draw_frame(rng, long_side)
        name = f"{anchor.identity_id}_{picture:03d}_ar-{frame.ratio:.2f}.jpg"
        return Scene(anchor, frame, name, draw_traits(rng, anchor.demographics))

    def batches(self, pictures: Sequence[Scene]) -> Iterator[list[Scene]]:
        """Pictures of one size together: the model makes them as one tensor."""
        by_size: dict[tuple[int, int], list[Scene]] = {}
        for scene in pictures:
            by_size.setdefault(generation_size(scene.frame, self._native), []).append(scene)
        for scenes in by_size.values():
            for start in range(0, len(scenes), self.at_once):
                yield scenes[start : start + self.at_once]

    def draw(self, pictures: Sequence[Scene], *, seed: int) -> list[bytes]:
        """A batch of one size. Same device, same batch: same bytes; in another batch a few pixels may differ by little.

        Raises:
            RunError: the safety checker turned a picture down again and again.
        """
        images, refused = self._generate(pictures, seed, 0)
        for place in (place for place, no in enumerate(refused) if no):
            for attempt in range(1, _TRIES):
                again, no = self._generate([pictures[place]], seed, attempt)
                if not no[0]:
                    images[place] = again[0]
                    break
            else:
                raise RunError(
                    f"{pictures[place].file_name}: the safety checker turned it down {_TRIES} times; run with another "
                    "--seed or with --set portraits.safety=false"
                )
        return [_encode(image, scene.frame) for image, scene in zip(images, pictures, strict=True)]

    def trial(self, people: Sequence[PhotographedFace], *, seed: int, long_side: int) -> tuple[float, float]:
        """Seconds and bytes of a picture: of a batch on a GPU, warm; of one alone on a CPU, where company is no gain.

        Raises:
            UserError: weights are not on this machine.
        """
        import torch

        numbers = range(1, self.at_once * _TRIAL + 1)
        scenes = [self.plan(people[0], seed=seed, picture=number, long_side=long_side) for number in numbers]
        batch = max(self.batches(scenes), key=len)
        gpu = self._pipe.device.type != "cpu"
        batch = batch if gpu else batch[:1]
        for _ in range(2 if gpu else 1):
            started = time.perf_counter()
            images = self.draw(batch, seed=seed)
            seconds = time.perf_counter() - started
        if gpu:
            torch.cuda.empty_cache()
        return seconds / len(batch), sum(map(len, images)) / len(batch)

    def _generate(self, scenes: Sequence[Scene], seed: int, attempt: int) -> tuple[list[Image.Image], list[bool]]:
        import torch

        pipe, many = self._pipe, len(scenes)
        width, height = generation_size(scenes[0].frame, self._native)
        known = [self._face(scene.anchor) for scene in scenes]
        identity = torch.stack([torch.from_numpy(scene.anchor.embedding) for scene in scenes])[:, None, None]
        projection = pipe.unet.encoder_hid_proj.image_projection_layers[0]
        projection.clip_embeds = torch.stack([face[1] for face in known] + [face[0] for face in known])[:, None]
        projection.shortcut, projection.shortcut_scale = "plusv2" in self.options.adapter_file, self.options.structure
        seeds = [derive(seed, "ip-adapter", scene.file_name, attempt) % 2**63 for scene in scenes]
        made = pipe(
            prompt=[scene.prompt for scene in scenes],
            negative_prompt=[self.options.negative] * many,
            ip_adapter_image_embeds=[
                torch.cat([torch.zeros_like(identity), identity]).to(pipe.device, projection.clip_embeds.dtype)
            ],
            width=width,
            height=height,
            num_inference_steps=self.options.steps,
            guidance_scale=self.options.guidance,
            generator=[torch.Generator("cpu").manual_seed(number) for number in seeds],
        )
        return list(made.images), list(getattr(made, "nsfw_content_detected", None) or [False] * many)

    def _face(self, anchor: PhotographedFace) -> "tuple[Tensor, Tensor]":
        """The crop's features and those of nothing, each of shape (tokens, width): computed once a person."""
        if anchor.identity_id not in self._faces:
            if len(self._faces) >= _FACES_KEPT:
                self._faces.clear()
            import torch

            with torch.inference_mode():
                shown, nothing = self._pipe.encode_image(anchor.crop, self._pipe.device, 1, output_hidden_states=True)
            self._faces[anchor.identity_id] = (shown[0], nothing[0])
        return self._faces[anchor.identity_id]

    @cached_property
    def _native(self) -> int:
        """Side of the square that the base model was trained on, in pixels."""
        return int(self._pipe.unet.config.sample_size * self._pipe.vae_scale_factor)

    @cached_property
    def _pipe(self) -> Any:
        options = self.options
        if any(importlib.util.find_spec(package) is None for package in ("diffusers", "transformers", "peft")):
            raise UserError("--portraits ip-adapter: diffusers is missing; run `pip install 'salmubench[diffusion]'`")
        import torch
        from diffusers import AutoPipelineForText2Image, DDIMScheduler
        from diffusers.utils import logging as diffusers_logging
        from transformers import CLIPVisionModelWithProjection
        from transformers.utils import logging as transformers_logging

        for logging in (diffusers_logging, transformers_logging):  # a bar and a remark for each part that is loaded
            logging.disable_progress_bar()
            logging.set_verbosity_error()

        try:
            device = torch.empty(0, device=options.device or ("cuda" if torch.cuda.is_available() else "cpu")).device
        except (RuntimeError, AssertionError) as error:
            raise UserError(
                f"--set portraits.device={options.device}: not on this machine; drop it, or name cpu"
            ) from error
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        with _fetched("image_encoder", options.image_encoder, "config.json and model.safetensors"):
            encoder = CLIPVisionModelWithProjection.from_pretrained(options.image_encoder, dtype=dtype)
        with _fetched("base", options.base, "model_index.json and the folders that it names"):
            # A component that is named in the call is taken from there, the safety checker by None left out.
            without = {} if options.safety else {"safety_checker": None, "requires_safety_checker": False}
            pipe: Any = AutoPipelineForText2Image.from_pretrained(
                options.base, image_encoder=encoder, dtype=dtype, **without
            )
        with _fetched("adapter", options.adapter, options.adapter_file):
            pipe.load_ip_adapter(
                options.adapter, subfolder=None, weight_name=options.adapter_file, image_encoder_folder=None
            )
        # Left alone, the pipeline would give each picture of a batch the faces of all.
        pipe.prepare_ip_adapter_image_embeds = lambda image, embeds, *_: embeds
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        pipe.set_ip_adapter_scale(options.scale)
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(device)


@contextmanager
def _fetched(option: str, address: str, files: str) -> Iterator[None]:
    """Says which files of which repository are missing where a model does not load."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise UserError(
            f"--set portraits.{option}={address}: does not load ({reason}); fetch {files} of that repository or name a "
            "folder that holds them"
        ) from error


def _encode(image: Image.Image, frame: Frame) -> bytes:
    stream = io.BytesIO()
    ImageOps.fit(image, (frame.width, frame.height), Image.Resampling.LANCZOS).save(
        stream, "JPEG", quality=JPEG_QUALITY
    )
    return stream.getvalue()
