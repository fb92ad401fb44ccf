"""Stage 1 from a folder of photographs, and the face models behind it."""

import importlib.util
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import face_small  # noqa: F401  (registers the face model "drawn")
from salmubench.atomic import read_json, write_json
from salmubench.errors import UserError
from salmubench.personas.anchors import make_anchors
from salmubench.personas.faces import age_band, load_face_model
from salmubench.personas.portraits import draw_portrait
from salmubench.personas.source import anchor_sources, open_source
from salmubench.personas.sources.folder import FolderAnchors, PhotographedFace


def opened(folder: Path, **settings: object) -> FolderAnchors:
    settings = {"anchors.folder": str(folder), "anchors.faces": "drawn", "anchors.apart": 0.02, **settings}
    source = open_source(anchor_sources, "folder", settings, prefix="anchors.")
    assert isinstance(source, FolderAnchors)
    return source


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people, one of them twice, and four pictures that are no anchors."""
    root = tmp_path_factory.mktemp("faces")
    (root / "deep").mkdir()
    images = [draw_portrait(one, seed=1, picture=1, long_side=96) for one in make_anchors(6, seed=5, purpose="set")]
    for number, image in enumerate(images):
        (root / ("deep" if number > 3 else "") / f"{number}.jpg").write_bytes(image)
    again = Image.open(io.BytesIO(images[2]))
    again.save(root / "9 again.png")
    (root / "broken.jpg").write_bytes(images[0][:200])
    (root / "empty.webp").write_bytes(b"")
    Image.new("RGB", (64, 64), "white").save(root / "wall.png")
    crowd = again.copy()
    crowd.putpixel((0, 0), (255, 0, 255))
    crowd.save(root / "crowd.png")
    (root / "notes.txt").write_text("no picture")
    return root


def test_each_person_of_the_folder_stands_once_and_the_rest_is_named_with_its_reason(folder: Path) -> None:
    source = opened(folder)
    people = source.sample(6, seed=1, purpose="set")
    names = {"0.jpg", "1.jpg", "2.jpg", "3.jpg", "deep/4.jpg", "deep/5.jpg"}
    assert {one.file_name for one in people} == names
    assert source.skipped == {
        "do not decode": ["broken.jpg", "empty.webp"],
        "show a person again": ["9 again.png"],
        "show no face": ["wall.png"],
        "show several faces": ["crowd.png"],
    }
    facts = source.facts()
    assert facts["photographs"].keys() == names
    assert all(len(sha256) == 64 for sha256 in facts["photographs"].values())
    for number, one in enumerate(people):
        assert one.identity_id == f"{number:08d}"
        assert one.demographics == {"gender": "female", "age": "20-29"}
        assert np.linalg.norm(one.embedding) == pytest.approx(1, abs=1e-5)


def test_any_name_a_file_system_takes_goes_into_the_manifest(folder: Path, tmp_path: Path) -> None:
    names = (b"\xff\xfe.jpg", "\u202e \U0001f600 \u00dc.jpg".encode(), b"line\nbreak.jpg", b"x" * 240 + b".JPG")
    for name, image in zip(names, sorted(folder.glob("?.jpg")), strict=True):
        (tmp_path / os.fsdecode(name)).write_bytes(image.read_bytes())
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    source = opened(tmp_path)
    assert len(source.sample(4, seed=1, purpose="set")) == 4
    assert source.skipped == {"do not decode": ["folder.jpg", "gone.jpg"]}
    out = tmp_path / "facts.json"
    write_json(out, source.facts())
    assert r"\xff\xfe.jpg" in read_json(out)["photographs"]
    with pytest.raises(UserError, match=r"(?s)facts\.json: cannot hold a name that is not UTF-8 .*udcff.*; rename"):
        write_json(out, {"folder": os.fsdecode(names[0])})


def test_groups_share_nobody_and_the_seed_tells_the_order(folder: Path) -> None:
    source = opened(folder)
    people = source.sample(3, seed=1, purpose="set")
    others = source.sample(2, seed=1, purpose="outsiders", avoid=people, first_id=10_000_000)
    last = source.sample(1, seed=1, purpose="passers-by", avoid=people, beside=others, first_id=20_000_000)
    assert len({one.file_name for one in (*people, *others, *last)}) == 6
    assert [one.identity_id for one in others] == ["10000000", "10000001"]
    again = opened(folder).sample(3, seed=1, purpose="set")
    assert [one.file_name for one in again] == [one.file_name for one in people]
    orders = {tuple(one.file_name for one in opened(folder).sample(6, seed=s, purpose="set")) for s in range(4)}
    assert len(orders) == 4


def test_too_few_people_are_counted_with_those_that_were_passed_over(folder: Path) -> None:
    with pytest.raises(UserError, match=r"6 people are left for the 7 of set \(not taken: 2 do not decode, 1 show a"):
        opened(folder).sample(7, seed=1, purpose="set")


def test_a_folder_that_is_none_says_how_to_write_it(tmp_path: Path) -> None:
    for missing in (tmp_path / "absent", ""):
        with pytest.raises(UserError, match=r"--anchors folder:.*: no such folder; write --anchors folder:PATH"):
            open_source(anchor_sources, "folder", {"anchors.folder": str(missing)}, prefix="anchors.")


def test_someone_must_tell_the_gender(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(folder)
    people = source.sample(1, seed=1, purpose="set")
    assert isinstance(people[0], PhotographedFace)
    for found in source._found or ():
        found.known.clear()
    with pytest.raises(UserError, match=r"nobody tells the person's gender.*anchors\.classifiers=gender=MODEL"):
        source.sample(1, seed=1, purpose="set")


def test_insightface_says_what_to_install_and_which_files_to_fetch(tmp_path: Path) -> None:
    missing = any(importlib.util.find_spec(package) is None for package in ("insightface", "onnxruntime"))
    words = r"pip install 'salmubench\[diffusion\]'" if missing else r"det_10g\.onnx.*fetch buffalo_l\.zip"
    with pytest.raises(UserError, match=words):
        load_face_model(f"insightface:{tmp_path}")


def test_a_wrong_face_model_lists_those_there_are() -> None:
    with pytest.raises(UserError, match="there is no face model 'insightfase': did you mean 'insightface'"):
        load_face_model("insightfase")


@pytest.mark.parametrize(("years", "band"), [(0, "0-9"), (9, "0-9"), (34, "30-39"), (70, "70+"), (101, "70+")])
def test_ages_fall_in_decades(years: int, band: str) -> None:
    assert age_band(years) == band
