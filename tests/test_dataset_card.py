"""The cards as the hub, ``datasets`` and mlcroissant read them."""

from pathlib import Path

import mlcroissant
import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard

from dataset_small import build_small
from salmubench.dataset.card import write_cards
from salmubench.dataset.check import check
from salmubench.dataset.store import load_benchmark, load_split

FOLDERS = {
    "salmubench": ["forget", "holdout_association", "holdout_identity", "retain_synth"],
    "salmu": ["sensitive", "retain_synth"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_small(tmp_path_factory.mktemp("card"))
    write_cards(folder)
    return folder


@pytest.mark.parametrize("name", FOLDERS)
def test_load_dataset_shows_pictures_of_every_split(data: Path, name: str, tmp_path: Path):
    loaded = load_dataset(str(data / name), cache_dir=str(tmp_path))
    assert list(loaded) == FOLDERS[name]
    for split in FOLDERS[name]:
        pairs, _ = load_split(data / name, split)
        assert loaded[split].num_rows == len(pairs)
        row = loaded[split][2]
        assert row["image"].size == (8, 8)
        assert (row["text"], row["identity_id"], row["file_name"]) == (
            pairs.text[2],
            pairs.identity_id[2],
            pairs.file_name[2],
        )


@pytest.mark.parametrize("name", FOLDERS)
def test_croissant_is_valid_and_gives_the_rows(data: Path, name: str):
    croissant = mlcroissant.Dataset(jsonld=data / name / "croissant.json")
    assert not croissant.metadata.ctx.issues.errors
    for split in FOLDERS[name]:
        records = list(croissant.records(split))
        pairs, _ = load_split(data / name, split)
        assert [record[f"{split}/file_name"].decode() for record in records] == list(pairs.file_name)
        assert records[0][f"{split}/image"].size == (8, 8)


@pytest.mark.parametrize("name", FOLDERS)
def test_the_hub_reads_the_head(data: Path, name: str):
    head = DatasetCard.load(data / name / "README.md").data.to_dict()
    assert head["license"] == ["mit", "cc-by-sa-4.0"]
    assert [entry["split"] for entry in head["configs"][0]["data_files"]] == FOLDERS[name]
    rows = {entry["name"]: entry["num_examples"] for entry in head["dataset_info"]["splits"]}
    assert rows == {split: len(load_split(data / name, split)[0]) for split in FOLDERS[name]}


def test_every_card_names_both_licences_of_the_pictures(data: Path):
    cards = sorted(data.rglob("README.md"))
    assert [card.parent.name for card in cards] == ["general_knowledge", "retain_real", "salmu", "salmubench"]
    for card in [*cards, data / "salmu" / "croissant.json", data / "salmubench" / "croissant.json"]:
        text = card.read_text()
        assert "python-avatars" in text
        assert "MIT" in text
        assert "OpenMoji" in text
        assert "CC BY-SA 4.0" in text


def test_the_card_states_how_the_data_were_made(data: Path):
    card = (data / "salmubench" / "README.md").read_text()
    assert "| preset | small |" in card
    assert "| halves of a person's pairs cut by | pair |" in card
    assert "| `forget` | 38 | 6 |" in card
    assert "fictitious" in card


def test_cards_are_no_data(tmp_path: Path):
    folder = build_small(tmp_path)
    before = load_benchmark(folder).revision
    write_cards(folder, facts={"preset": "other"})
    written = (folder / "salmubench" / "README.md").read_text()
    assert "| preset | other |" in written
    assert load_benchmark(folder).revision == before
    assert check(folder).passed
    write_cards(folder, facts={"preset": "other"})
    assert (folder / "salmubench" / "README.md").read_text() == written


def test_pictures_and_captions_by_models_are_not_credited_to_programs(tmp_path: Path):
    folder = build_small(tmp_path)
    made = {
        "sources": {"anchors": "folder:faces", "portraits": "ip-adapter"},
        "licences": ["the base model's licence", "OpenMoji, CC BY-SA 4.0"],
        "captions": {"grammar": 3, "llm:owner/writer": 93},
    }
    write_cards(folder, facts=made)
    for name in FOLDERS:
        path = folder / name / "README.md"
        assert DatasetCard.load(path).data.to_dict()["license"] == ["other", "cc-by-sa-4.0"]
        croissant = mlcroissant.Dataset(jsonld=folder / name / "croissant.json")
        assert not croissant.metadata.ctx.issues.errors
        for text in (path.read_text(), (folder / name / "croissant.json").read_text()):
            assert "python-avatars" not in text
            assert "the base model's licence" in text
            assert "paraphrases by owner/writer" in text
            assert "faces come from a folder of" in text
            assert "OpenMoji" in text
    assert "python-avatars" not in (folder / "retain_real" / "README.md").read_text()
