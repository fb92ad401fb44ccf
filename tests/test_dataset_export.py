"""Exports hold every row; a push says what would go where, and its failures are one sentence."""

import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from hub_server import Hub, files_of, serving
from salmubench.dataset.export import export, push
from salmubench.dataset.retain import read_shards
from salmubench.dataset.schema import EVALUATION_SPLITS
from salmubench.dataset.store import load_split
from salmubench.errors import RunError, UserError


@pytest.mark.parametrize("split", EVALUATION_SPLITS)
def test_both_forms_hold_every_row(world: Path, tmp_path_factory: pytest.TempPathFactory, split: str) -> None:
    out = tmp_path_factory.mktemp("export")
    export(world, out / "tars")
    export(world, out / "pictures", form="folder")
    pairs, store = load_split(world / "salmubench", split)
    images = list(store.stream(pairs.picture))
    assert [(pair.image, pair.text) for pair in read_shards(out / "tars" / split)] == list(
        zip(images, pairs.text, strict=True)
    )
    lines = [json.loads(line) for line in (out / "pictures" / split / "metadata.jsonl").read_text().splitlines()]
    assert [(line["file_name"], line["text"], line["identity_id"]) for line in lines] == list(
        zip(pairs.file_name, pairs.text, pairs.identity_id, strict=True)
    )
    assert [(out / "pictures" / split / line["file_name"]).read_bytes() for line in lines] == images
    assert Image.open(io.BytesIO(images[0])).format == "JPEG"


def test_an_unknown_form_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--format csv: choose webdataset or folder"):
        export(world, tmp_path, form="csv")


def test_another_export_is_not_taken_for_this_one(world: Path, tmp_path: Path) -> None:
    out = export(world, tmp_path / "out")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for arguments in ((world, "folder"), (world / "salmubench", "webdataset")):
        with pytest.raises(UserError, match=r"other data or in another format; choose another --out or delete it"):
            export(arguments[0], out, form=arguments[1])
    (out / "export.json").unlink()
    with pytest.raises(UserError, match="choose another --out or delete it"):
        export(world, out)
    (out / "export.json").write_bytes(before.pop(out / "export.json"))
    lost, half = out / "forget" / "00000.tar", out / "forget.tmp-1-ab"
    half.mkdir()
    (half / "00000.tar").write_bytes(b"half")
    kept = {path: path.stat().st_mtime_ns for path in before if path.parent.name != "forget"}
    shutil.rmtree(lost.parent)
    export(world, out)
    assert {path: path.read_bytes() for path in before} == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not half.exists()


def test_a_push_without_yes_only_tells(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lines = list(push(world, "someone/world"))
    assert "salmubench -> someone/world: 9 files" in lines[0]
    assert "salmu -> someone/world-train: 4 files" in lines[1]
    with pytest.raises(UserError, match="not a repository's name; write OWNER/NAME"):
        list(push(world, "world"))
    for name in ("some--one/world", "someone/" + "w" * 95, "someone/world-", "som eone/world", "someone/world.git"):
        with pytest.raises(UserError, match="not a repository's name; write OWNER/NAME"):
            list(push(world, name))
    with pytest.raises(UserError, match=r"no manifest\.json"):
        list(push(world / "salmubench", "someone/world"))


def test_a_push_with_yes_uploads_both_folders_file_by_file(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Hub({}, token="secret")) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "secret")
        for _ in range(2):
            lines = list(push(world, "someone/world", yes=True, private=True))
    assert [line.split(": ")[1].split(",")[0] for line in lines] == ["9 files", "4 files"]
    for name, folder in (("someone/world", "salmubench"), ("someone/world-train", "salmu")):
        assert hub.pushed[f"datasets/{name}"] == files_of(world / folder)
    assert hub.private == set(hub.pushed)


def test_a_folder_that_is_not_whole_is_not_pushed(world: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(world, tmp_path / "data"))
    next((broken / "salmu" / "data").glob("sensitive-*")).unlink()
    with pytest.raises(UserError, match=r"sensitive-00000-of-00001\.parquet: is missing, though it stands in"):
        next(push(broken, "someone/world"))


def test_a_push_that_fails_is_one_sentence(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RunError, match="someone/world: could not be uploaded"):
        list(push(world, "someone/world", yes=True))
