"""What is refused of a data set, each in one sentence that names file and row."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_small import build_small, jpeg, rewrite
from salmubench.atomic import write_json
from salmubench.dataset.schema import CAPTIONS_FILE, GENERIC_CAPTIONS_FILE, IDENTITIES_FILE, Row
from salmubench.dataset.store import load_benchmark, load_split, write_split
from salmubench.errors import UserError


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """To be spoilt."""
    return build_small(tmp_path)


def _spoil_column(folder: Path, split: str, change) -> None:
    (path,) = (folder / "data").glob(f"{split}-*.parquet")
    pq.write_table(change(pq.read_table(path)), path)


def _null_caption(table: pa.Table) -> pa.Table:
    texts = table.column("text").to_pylist()
    texts[3] = None
    return table.set_column(1, "text", pa.array(texts, pa.string()))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


PART = "-00000-of-00001.parquet"
SPOILT = {
    "no split": (lambda f: (f / f"data/forget{PART}").unlink(), "split 'forget' is missing"),
    "a missing part": (
        lambda f: (f / f"data/forget{PART}").rename(f / "data/forget-00000-of-00002.parquet"),
        "holds 1 files .* 00002",
    ),
    "no column": (
        lambda f: _spoil_column(f, "forget", lambda table: table.drop_columns("text")),
        "forget-.*column 'text' is missing",
    ),
    "an odd column": (
        lambda f: _spoil_column(f, "forget", lambda t: t.set_column(2, "identity_id", pa.array([True] * len(t)))),
        "forget-.*'identity_id' holds bool",
    ),
    "half a number": (
        lambda f: _spoil_column(f, "forget", lambda t: t.set_column(2, "identity_id", pa.array([1.5] * len(t)))),
        "forget-.*row 0: the identity_id 1.5 is no identity",
    ),
    "numbers of nobody": (
        lambda f: _spoil_column(f, "forget", lambda t: t.set_column(2, "identity_id", pa.array([77] * len(t)))),
        f"{IDENTITIES_FILE}: lacks the identity '00000077'",
    ),
    "numbers for pictures": (
        lambda f: _spoil_column(f, "forget", lambda t: t.set_column(0, "image", pa.array(range(len(t))))),
        "forget-.*'image' holds int64, not pictures",
    ),
    "a null file name": (
        lambda f: _spoil_column(f, "forget", lambda t: t.set_column(3, "file_name", pa.nulls(len(t), pa.string()))),
        "forget-.*row 0: 'file_name' is null",
    ),
    "a file name twice": (
        lambda f: rewrite(f, "forget", lambda rows: [*rows, rows[4]]),
        "forget-.*row 38: .* stands in the split 'forget' already",
    ),
    "a pointer for parquet": (
        lambda f: (f / f"data/forget{PART}").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
        "forget-.*: a git-lfs pointer",
    ),
    "a pointer for JSON": (
        lambda f: (f / CAPTIONS_FILE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
        f"{CAPTIONS_FILE}: a git-lfs pointer",
    ),
    "an empty file": (lambda f: (f / f"data/forget{PART}").write_bytes(b""), "forget-.*not a whole parquet"),
    "a null caption": (lambda f: _spoil_column(f, "forget", _null_caption), "forget-.*row 3: 'text' is null"),
    "no rows": (lambda f: rewrite(f, "holdout_identity", lambda rows: []), "'holdout_identity' has no rows"),
    "cut parquet": (lambda f: _truncate(f / f"data/forget{PART}"), "forget-.*not a whole parquet"),
    "no JSON": (lambda f: (f / IDENTITIES_FILE).write_text("{"), f"{IDENTITIES_FILE}: not valid JSON"),
    "a JSON list": (lambda f: (f / CAPTIONS_FILE).write_text("[]"), f"{CAPTIONS_FILE}: must be a JSON object"),
    "no side file": (lambda f: (f / GENERIC_CAPTIONS_FILE).unlink(), f"{GENERIC_CAPTIONS_FILE}: no such file"),
    "no fact": (
        lambda f: _edit_json(f / IDENTITIES_FILE, lambda content: content["00000001"].pop("iban")),
        f"{IDENTITIES_FILE}: the entry '00000001' lacks 'iban'",
    ),
    "no person": (
        lambda f: _edit_json(f / IDENTITIES_FILE, lambda content: content.pop("00000001")),
        f"{IDENTITIES_FILE}: lacks the identity '00000001'",
    ),
    "no entry": (
        lambda f: _edit_json(f / CAPTIONS_FILE, lambda content: content.pop("00000001_001_ar-1.00.jpg")),
        f"{CAPTIONS_FILE}: lacks 00000001_001",
    ),
    "no such field": (
        lambda f: _edit_json(f / CAPTIONS_FILE, lambda c: c["00000001_001_ar-1.00.jpg"].update(data_field="shoe size")),
        "names no field but 'shoe size'",
    ),
    "no such fragile picture": (
        lambda f: write_json(f / "fragile_set_ids.json", ["x.jpg"]),
        "x.jpg is no picture of retain_disjoint",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_bad_data_are_refused_in_one_sentence(own: Path, case: str):
    spoil, words = SPOILT[case]
    spoil(own / "salmubench")
    with pytest.raises(UserError, match=words) as caught:
        load_benchmark(own / "salmubench")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_the_manifests(own: Path):
    path = own / "salmubench" / IDENTITIES_FILE
    path.write_text(path.read_text() + " ")
    with pytest.raises(UserError, match=f"{IDENTITIES_FILE}: has another size"):
        load_benchmark(own)


def test_damage_inside_a_parquet_is_named_when_it_is_read(tmp_path: Path):
    rows = [Row(jpeg(number), f"caption {number}", None, f"{number:05d}.jpg") for number in range(150)]
    (path,) = write_split(tmp_path, "forget", rows)
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    path.write_bytes(content)
    pairs, store = load_split(tmp_path, "forget")
    with pytest.raises(UserError, match=r"forget-00000-of-00001.parquet, rows 0 to 99: cannot be read"):
        list(store.stream(pairs.picture))


def test_a_row_without_its_picture_is_named(tmp_path: Path):
    columns = {"image": ["gone.jpg", None], "text": ["a", "b"], "identity_id": [None, None], "file_name": ["a", "b"]}
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "data" / "forget-0.parquet")
    _, store = load_split(tmp_path, "forget")
    for row, words in enumerate(("row 0: its picture gone.jpg is not in", "row 1: there is no picture")):
        with pytest.raises(UserError, match=words):
            store.read(row)


def test_no_data_set_at_all(tmp_path: Path):
    with pytest.raises(UserError, match="no data set here"):
        load_benchmark(tmp_path)
    (tmp_path / "file.parquet").write_text("x")
    with pytest.raises(UserError, match=r"file\.parquet: is a file; --data takes the folder"):
        load_benchmark(tmp_path / "file.parquet")
