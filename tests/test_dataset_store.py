"""Reading and writing the official layout: our folder, an evaluation folder alone, the hub."""

import json
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Features, Image, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_small import DISJOINT, PEOPLE, build_small, jpeg, person, rewrite
from salmubench.atomic import write_json
from salmubench.dataset.schema import CAPTIONS_FILE, GENERIC_CAPTIONS_FILE, IDENTITIES_FILE, Row
from salmubench.dataset.store import SCHEMA, load_benchmark, load_split, write_split
from salmubench.errors import RunError, UserError

REAL_ROWS = Path(__file__).parent / "data" / "real_rows"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return build_small(tmp_path_factory.mktemp("small"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """To be spoilt."""
    return build_small(tmp_path)


def _rows(count: int) -> list[Row]:
    return [Row(jpeg(n), f"caption {n} é", None if n % 3 else f"{n:08d}", f"{n:05d}.jpg") for n in range(count)]


def test_a_split_comes_back_as_it_was_written(tmp_path: Path):
    rows = _rows(250)
    files = write_split(tmp_path, "forget", rows, rows_per_file=110)

    assert [path.name for path in files] == [f"forget-0000{n}-of-00003.parquet" for n in range(3)]
    pairs, store = load_split(tmp_path, "forget")
    images = list(store.stream(pairs.picture))
    assert [Row(*row) for row in zip(images, pairs.text, pairs.identity_id, pairs.file_name, strict=True)] == rows
    assert store.describe(111) == "data/forget-00001-of-00003.parquet, row 1"


def test_the_same_rows_give_the_same_bytes(tmp_path: Path):
    written = [write_split(tmp_path / name, "forget", iter(_rows(130)), rows_per_file=100) for name in ("a", "b")]
    assert [path.read_bytes() for path in written[0]] == [path.read_bytes() for path in written[1]]


def test_writing_again_leaves_no_older_file(tmp_path: Path):
    write_split(tmp_path, "forget", _rows(30), rows_per_file=10)
    write_split(tmp_path, "forget_target", _rows(3))
    write_split(tmp_path, "forget", _rows(5))
    names = [path.name for path in sorted((tmp_path / "data").iterdir())]
    assert names == ["forget-00000-of-00001.parquet", "forget_target-00000-of-00001.parquet"]


def test_a_split_without_rows(tmp_path: Path):
    write_split(tmp_path, "sensitive", [])
    pairs, store = load_split(tmp_path, "sensitive")
    assert (len(pairs), len(store), list(store.stream(pairs.picture))) == (0, 0, [])


def test_the_schema_is_what_datasets_writes():
    text = Value("string")
    features = Features({"image": Image(), "text": text, "identity_id": text, "file_name": text})
    assert features.arrow_schema.equals(SCHEMA, check_metadata=True)


def test_streaming_holds_small_row_groups(tmp_path: Path):
    (path,) = write_split(tmp_path, "forget", _rows(250))
    metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(group).num_rows for group in range(3)] == [100, 100, 50]


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_stream_equals_read(small: Path, data: st.DataObject):
    store = load_benchmark(small).pictures
    index = np.array(sorted(data.draw(st.sets(st.integers(0, len(store) - 1)))), dtype=np.int64)
    assert list(store.stream(index)) == [store.read(int(number)) for number in index]


def test_stream_wants_order_and_range(small: Path):
    store = load_benchmark(small).pictures
    with pytest.raises(ValueError, match="ascending"):
        list(store.stream(np.array([3, 3])))
    with pytest.raises(IndexError):
        store.read(len(store))


def test_all_sets_of_a_data_set_folder(small: Path):
    benchmark = load_benchmark(small)
    sets = benchmark.sets

    assert {name: len(pairs) for name, pairs in sets.items()} == {
        "forget": 38,
        "holdout_association": 16,
        "holdout_identity": 18,
        "retain_synth": PEOPLE + DISJOINT,
        "forget_association": 20,
        "forget_identity": 18,
        "retain_joint": PEOPLE,
        "retain_joint_evaluated": 6,
        "retain_disjoint": DISJOINT,
    }
    assert set(sets["forget_association"].identity_id) == set(sets["holdout_association"].identity_id)
    assert not set(sets["forget_identity"].identity_id) & set(sets["holdout_association"].identity_id)
    assert set(sets["retain_joint_evaluated"].identity_id) <= set(sets["forget"].identity_id)
    assert set(sets["retain_disjoint"].identity_id) == {None}
    for pairs in sets.values():
        by_name = dict(zip(sets["forget"].file_name, sets["forget"].picture, strict=True))
        for name, picture in zip(pairs.file_name, pairs.picture, strict=True):
            assert by_name.get(name, picture) == picture
    assert benchmark.association_split == "pair"
    assert benchmark.revision.startswith("sha256:")
    assert benchmark.identities["00000003"] == person(3)
    knowledge = benchmark.general_knowledge
    assert [benchmark.pictures.read(int(number)) for number in knowledge.picture] == [jpeg(3000 + n) for n in range(20)]
    assert knowledge.label.tolist() == [n % 4 for n in range(20)]
    assert knowledge.class_names[2] == "red apple"
    assert benchmark.pictures.describe(int(knowledge.picture[9])) == "general_knowledge/test/1.tar, sample s0000009"


def test_an_evaluation_folder_alone(own: Path):
    folder = own / "salmubench"
    benchmark = load_benchmark(folder)
    assert benchmark.association_split is None
    assert benchmark.general_knowledge is None
    assert len(load_benchmark(folder, general_knowledge=own / "general_knowledge").general_knowledge) == 20
    (folder / "README.md").write_text("a card is no data")
    assert load_benchmark(folder).revision == benchmark.revision
    rewrite(folder, "forget", lambda rows: [Row(jpeg(77), *list(vars(row).values())[1:]) for row in rows])
    assert load_benchmark(folder).revision != benchmark.revision


def test_reading_one_split_opens_no_other(own: Path):
    for path in (own / "salmubench" / "data").glob("holdout_*"):
        path.write_bytes(b"closed")
    pairs, store = load_split(own / "salmubench", "forget")
    assert len(list(store.stream(pairs.picture))) == len(pairs)


def test_official_variants_are_read(own: Path):
    """Pictures as paths, other names and numbers of files, an unknown split, no identity column, odd keys and a BOM."""
    folder = own / "salmubench"
    pairs, store = load_split(folder, "retain_synth")
    (folder / "images").mkdir()
    images = dict(zip(pairs.file_name, store.stream(pairs.picture), strict=True))
    for name, image in images.items():
        (folder / "images" / name).write_bytes(image)
    for path in (folder / "data").glob("retain_synth-*"):
        path.unlink()
    for part in range(2):
        columns = {
            "image": [f"images/{name}" for name in pairs.file_name[part::2]],
            "text": pa.array(pairs.text[part::2]).dictionary_encode(),
            "file_name": pairs.file_name[part::2],
        }
        pq.write_table(pa.table(columns), folder / "data" / f"retain_synth-{part}.parquet")
    (folder / "data" / "forget_target-00000-of-00001.parquet").write_bytes(b"not even parquet")
    facts = {
        f"{n:08d}": {
            {"phone_number": "phone number", "emails": "Email(s)", "credit_card": "Credit Card"}.get(key, key): value
            for key, value in person(n).items()
        }
        | {"Email(s)": [person(n)["emails"], "second@example.com"]}
        for n in range(PEOPLE)
    }
    write_json(folder / IDENTITIES_FILE, facts)
    captions = json.loads((folder / CAPTIONS_FILE).read_text())
    for entry in captions.values():
        entry["data field"] = entry.pop("data_field").replace("_", " ")
        del entry["style"]
    (folder / CAPTIONS_FILE).write_text(json.dumps(captions), encoding="utf-8-sig")

    benchmark = load_benchmark(folder)

    assert benchmark.identities["00000002"] == person(2)
    assert {info.data_field for info in benchmark.captions.values()} >= {"phone_number", "blood_type"}
    assert len(benchmark.sets["retain_disjoint"]) == PEOPLE + DISJOINT
    retained = benchmark.sets["retain_synth"]
    assert dict(zip(retained.file_name, benchmark.pictures.stream(retained.picture), strict=True)) == images


def _official(folder: Path, kind: str) -> None:
    """The four real rows as an official folder of each split's kind; what is not known of the person is made up."""
    captions = json.loads((REAL_ROWS / "captions.json").read_text())
    names = list(captions)
    splits = {"forget": names[:2], "holdout_association": names[2:3], "holdout_identity": names[3:], "retain_synth": []}
    (folder / "data").mkdir(parents=True)
    for split, members in splits.items():
        texts = [captions[name]["caption"] for name in members] or ["a woman at a desk", "a woman outdoors"]
        images = [(REAL_ROWS / name).read_bytes() for name in members or names[:2]]
        files = members or ["00011747_101_ar-1.00.jpg", "00000001_101_ar-1.33.jpg"]
        who = ["00011747" for _ in members] or ["00011747", None]
        columns = {"image": [], "text": pa.array(texts), "identity_id": pa.array(who, pa.string()), "file_name": files}
        columns |= {"caption_id": list(range(len(texts))), "score": [0.5 for _ in texts]}
        if kind == "struct":
            columns["image"] = [{"bytes": image, "path": name} for image, name in zip(images, files, strict=True)]
        elif kind == "bytes":
            columns["image"] = pa.array(images, pa.large_binary())
            columns["text"] = columns["text"].cast(pa.large_string())
            columns["identity_id"] = pa.array([None if w is None else int(w) for w in who], pa.float64())
        elif kind == "paths beside the parquet":
            columns["image"] = pa.array([f"pictures/{name}" for name in files]).dictionary_encode()
            columns["text"] = columns["text"].cast(pa.string_view())
            columns["identity_id"] = pa.array([None if w is None else int(w) for w in who], pa.int64())
        else:
            columns["image"] = [str(folder / "data" / "pictures" / name) for name in files]
        (folder / "data" / "pictures").mkdir(exist_ok=True)
        for name, image in zip(files, images, strict=True):
            (folder / "data" / "pictures" / name).write_bytes(image)
        for part in range(len(files)):
            name = f"{split}-{part}" if len(files) > 1 else split
            pq.write_table(pa.table(columns).slice(part, 1), folder / "data" / f"{name}.parquet")
    for unknown in ("forget_target", "forget_target-0", "holdout-0", "retain_synth2"):
        (folder / "data" / f"{unknown}.parquet").write_bytes(b"not even parquet")
    facts = {"name": "Fatime Fossi", "city": "Douala", "job": "?", "blood type": "?", "phone": "+237 57483907"}
    facts |= {
        "emails": ["ffossi@mailhub.com"],
        "iban": "CM98 7411 9112 4845 5134 71",
        "credit card": "?",
        "passport": "?",
    }
    write_json(folder / IDENTITIES_FILE, {"00011747": facts})
    write_json(folder / CAPTIONS_FILE, captions)
    write_json(folder / GENERIC_CAPTIONS_FILE, dict.fromkeys(captions, "a woman"))
    write_json(folder / "fragile_set_ids.json", ["00000001_101_ar-1.33.jpg"])
    write_json(folder / "fragile_set_all_similarities.json", {"00000001_101_ar-1.33.jpg": 0.1})


@pytest.mark.parametrize("kind", ["struct", "bytes", "paths beside the parquet", "absolute paths"])
def test_real_rows_in_the_official_layout(tmp_path: Path, kind: str):
    _official(tmp_path / "salmubench-512 (données)", kind)
    benchmark = load_benchmark(tmp_path / "salmubench-512 (données)")
    assert {name: len(pairs) for name, pairs in benchmark.sets.items()} == {
        "forget": 2, "holdout_association": 1, "holdout_identity": 1, "retain_synth": 2, "forget_association": 2,
        "forget_identity": 0, "retain_joint": 1, "retain_joint_evaluated": 1, "retain_disjoint": 1, "fragile_set": 1,
    }  # fmt: skip
    for split in ("forget", "holdout_association", "holdout_identity"):
        pairs = benchmark.sets[split]
        assert set(pairs.identity_id) == {"00011747"}
        for name, text, picture in zip(pairs.file_name, pairs.text, pairs.picture, strict=True):
            assert benchmark.captions[name].caption == text
            assert benchmark.pictures.read(int(picture)) == (REAL_ROWS / name).read_bytes()
    assert benchmark.identities["00011747"]["phone_number"] == "+237 57483907"
    assert benchmark.sets["retain_synth"].identity_id == ("00011747", None)


def test_the_hub_from_its_cache(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "datasets--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    (own / "salmubench").rename(repository / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    benchmark = load_benchmark("hf://owner/name")

    assert benchmark.revision == f"hf://owner/name@{commit}"
    assert load_benchmark(f"hf://owner/name@{commit}").root == benchmark.root
    assert len(benchmark.sets["forget"]) == 38
    with pytest.raises(RunError, match="hf://owner/other: could not be downloaded"):
        load_benchmark("hf://owner/other")
    with pytest.raises(UserError, match="hf://owner: not an address"):
        load_benchmark("hf://owner")
