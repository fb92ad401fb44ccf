"""Stage 2 by diffusion, on a tiny pipeline that is saved to disk and loaded from it as a user's would be."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from salmubench.errors import RunError, UserError
from salmubench.personas.anchors import make_anchors
from salmubench.personas.captions import generic_caption
from salmubench.personas.portraits import draw_portrait
from salmubench.personas.prompts import person
from salmubench.personas.scenes import Frame, draw_frame
from salmubench.personas.source import open_source, portrait_sources
from salmubench.personas.sources.folder import PhotographedFace
from salmubench.personas.sources.ip_adapter import IPAdapterPortraits, Scene, generation_size
from salmubench.seeds import generator

pytest.importorskip("diffusers")
from diffusion_small import IDENTITY, save_models

STEPS = {"portraits.steps": 2, "portraits.batch_size": 4}


def photographed(number: int, age: str = "30-39") -> PhotographedFace:
    drawn = make_anchors(number + 1, seed=7, purpose="set")[number]
    crop = Image.open(io.BytesIO(draw_portrait(drawn, seed=1, picture=1, long_side=64))).resize((224, 224))
    embedding = generator(0, "face", number).standard_normal(IDENTITY).astype(np.float32)
    embedding /= np.linalg.norm(embedding)
    return PhotographedFace(f"{number:08d}", drawn.gender, f"{number}.png", embedding, crop, {"age": age})


PEOPLE = [photographed(0), photographed(1)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    saved = save_models(tmp_path_factory.mktemp("models"))
    return {f"portraits.{key}": value for key, value in saved.items()}


def opened(models: dict[str, str], **changes: object) -> IPAdapterPortraits:
    source = open_source(portrait_sources, "ip-adapter", {**models, **STEPS, **changes}, prefix="portraits.")
    assert isinstance(source, IPAdapterPortraits)
    return source


@pytest.fixture(scope="module")
def source(models: dict[str, str]) -> IPAdapterPortraits:
    return opened(models)


def pixels(image: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(image)), dtype=float)


def square(source: IPAdapterPortraits, person: PhotographedFace, picture: int) -> Scene:
    scene = source.plan(person, seed=5, picture=picture, long_side=48)
    return replace(scene, frame=Frame(48, 48))


def test_pictures_have_the_frames_that_their_names_tell(source: IPAdapterPortraits) -> None:
    scenes = [source.plan(person, seed=3, picture=picture, long_side=48) for person in PEOPLE for picture in (1, 2, 3)]
    batches = list(source.batches(scenes))
    assert sorted(scene.file_name for batch in batches for scene in batch) == sorted(s.file_name for s in scenes)
    for batch in batches:
        assert len(batch) <= source.at_once
        assert len({generation_size(scene.frame, 64) for scene in batch}) == 1
        for scene, image in zip(batch, source.draw(batch, seed=3), strict=True):
            picture = Image.open(io.BytesIO(image))
            assert (picture.format, picture.mode, picture.size) == (
                "JPEG",
                "RGB",
                (scene.frame.width, scene.frame.height),
            )
            assert scene.file_name.endswith(f"_ar-{picture.width / picture.height:.2f}.jpg")
            assert pixels(image).std() > 1


def test_the_same_batch_gives_the_same_bytes_and_company_changes_little(source: IPAdapterPortraits) -> None:
    """On one device a batch's bytes are a function of the batch; alone, a picture is the same to the eye."""
    scenes = [square(source, PEOPLE[number % 2], number + 1) for number in range(3)]
    together = source.draw(scenes, seed=5)
    assert source.draw(scenes, seed=5) == together
    for scene, image in zip(scenes, together, strict=True):
        assert np.abs(pixels(source.draw([scene], seed=5)[0]) - pixels(image)).mean() < 1
    turned = source.draw(scenes[::-1], seed=5)[::-1]
    assert max(np.abs(pixels(a) - pixels(b)).mean() for a, b in zip(turned, together, strict=True)) < 1
    assert source.draw(scenes, seed=6)[0] != together[0]


def test_the_face_the_structure_and_the_prompt_all_reach_the_picture(models: dict[str, str]) -> None:
    """Each changes the picture when it alone changes; with the adapter's scale at 0 the face does not."""
    source = opened(models)
    scene = square(source, PEOPLE[0], 1)
    other_face = replace(scene, anchor=replace(PEOPLE[0], identity_id="00000009", embedding=PEOPLE[1].embedding))
    other_crop = replace(scene, anchor=replace(PEOPLE[0], identity_id="00000008", crop=PEOPLE[1].crop))
    other_words = replace(scene, traits={**scene.traits, "expression": "asleep on a moonlit glacier"})
    drawn = [pixels(source.draw([one], seed=5)[0]) for one in (scene, other_face, other_crop, other_words)]
    assert all(np.abs(image - drawn[0]).mean() > 0.2 for image in drawn[1:])
    blind = opened(models, **{"portraits.scale": 0})
    assert blind.draw([scene], seed=5) == blind.draw([other_face], seed=5)
    flat = opened(models, **{"portraits.structure": 0})
    assert flat.draw([scene], seed=5) == flat.draw([other_crop], seed=5)


def test_a_picture_that_the_safety_checker_turns_down_is_drawn_again(models: dict[str, str]) -> None:
    source = opened(models)
    scene = square(source, PEOPLE[0], 1)
    seen: list[int] = []

    def strict(images: list[Image.Image], device: object, dtype: object) -> tuple[object, list[bool]]:
        seen.append(len(seen))
        return images, [len(seen) < refusals + 1]

    source._pipe.run_safety_checker = strict
    refusals = 0
    first = source.draw([scene], seed=5)
    seen.clear()
    refusals = 2
    assert source.draw([scene], seed=5) != first
    assert len(seen) == 3
    refusals = 99
    with pytest.raises(RunError, match=r"00000000_001_ar-.*turned it down 5 times"):
        source.draw([scene], seed=5)


@pytest.mark.parametrize(
    ("option", "files"),
    [("base", "model_index.json"), ("adapter", "plusv2_tiny.bin"), ("image_encoder", "model.safetensors")],
)
def test_missing_weights_are_named_with_their_repository(
    option: str, files: str, models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = opened(models, **{f"portraits.{option}": str(tmp_path / "absent")})
    with pytest.raises(
        UserError, match=rf"--set portraits.{option}=.*absent: .*fetch .*{files}.* of that repository"
    ) as error:
        source.draw([square(opened(models), PEOPLE[0], 1)], seed=1)
    assert "\n" not in str(error.value)


def test_what_it_cannot_do_is_said(models: dict[str, str]) -> None:
    drawn = make_anchors(1, seed=1, purpose="set")[0]
    with pytest.raises(UserError, match="needs photographs of faces; add --anchors folder:PATH"):
        opened(models).plan(drawn, seed=1, picture=1, long_side=48)
    with pytest.raises(UserError, match="guidance must be above 1"):
        opened(models, **{"portraits.guidance": 1})
    with pytest.raises(UserError, match=r"--set portraits.stepps=3: .*did you mean 'steps'"):
        opened(models, **{"portraits.stepps": 3})


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), native=st.sampled_from([512, 1024]))
def test_what_is_generated_has_the_frames_shape_in_eights_and_the_models_pixels(seed: int, native: int) -> None:
    frame = draw_frame(generator(seed, "frame"), 512)
    width, height = generation_size(frame, native)
    assert width % 8 == height % 8 == 0
    assert width / height == pytest.approx(frame.ratio, rel=0.04)
    assert width * height == pytest.approx(native**2, rel=0.03)


@pytest.mark.parametrize(
    ("age", "words"),
    [
        ("0-9", "girl"),
        ("20-29", "young woman"),
        ("30-39", "woman"),
        ("40-49", "middle-aged woman"),
        ("70+", "elderly woman"),
        ("more than 70", "woman"),
        ("", "woman"),
    ],
)
def test_a_prompt_tells_gender_and_age(age: str, words: str) -> None:
    assert person({"gender": "female", "age": age}) == words
    assert person({"gender": "male"}) == "man"


def test_prompts_and_captions_differ_and_have_right_articles(source: IPAdapterPortraits) -> None:
    scenes = [source.plan(PEOPLE[0], seed=1, picture=number, long_side=48) for number in range(1, 101)]
    prompts = [scene.prompt for scene in scenes]
    captions = [generic_caption(scene.traits, seed=1, key=scene.file_name) for scene in scenes]
    for words in (prompts, captions):
        assert len(set(words)) > 80
        assert all("woman" in one for one in words)
        assert not any(re.search(r"\ba [aeio]", one) for one in words)
