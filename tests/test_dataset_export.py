"""Exports hold every row; a push says what would go where, and its failures are one sentence."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

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


def test_a_push_without_yes_only_tells(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lines = list(push(world, "someone/world"))
    assert "salmubench -> someone/world: 9 files" in lines[0]
    assert "salmu -> someone/world-train: 4 files" in lines[1]
    with pytest.raises(UserError, match="not a repository's name; write OWNER/NAME"):
        list(push(world, "world"))
    with pytest.raises(UserError, match=r"no manifest\.json"):
        list(push(world / "salmubench", "someone/world"))


def test_a_push_that_fails_is_one_sentence(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RunError, match="someone/world: could not be uploaded"):
        list(push(world, "someone/world", yes=True))
