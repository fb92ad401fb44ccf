"""Webdataset shards, read by us, by webdataset itself and counted by open_clip_train."""

import io
from pathlib import Path

import numpy as np
import pytest
import webdataset
from open_clip_train.data import get_dataset_size
from PIL import Image

from dataset_small import jpeg
from salmubench.dataset.pictures import PictureStore
from salmubench.dataset.retain import (
    CaptionedPicture,
    read_classification,
    read_shards,
    shard_sizes,
    write_classification,
    write_shards,
)
from salmubench.errors import UserError

PAIRS = [CaptionedPicture(f"{n:04d}", jpeg(n), f"Łódź, number {n}", "png" if n % 2 else "jpg") for n in range(25)]


def _classification(folder: Path, **options) -> Path:
    names = ["cat", "red apple", "tree"]
    samples = [(jpeg(n), n % 3) for n in range(10)]
    write_classification(folder, samples, class_names=names, templates=["a {c}", "the {c}"], **options)
    return folder


def test_shards_come_back(tmp_path: Path):
    shards = write_shards(tmp_path, iter(PAIRS), pairs_per_shard=10)
    assert [path.name for path in shards] == ["00000.tar", "00001.tar", "00002.tar"]
    assert list(read_shards(tmp_path)) == PAIRS
    assert shard_sizes(tmp_path) == {"00000.tar": 10, "00001.tar": 10, "00002.tar": 5}


def test_open_clip_train_and_webdataset_read_them(tmp_path: Path):
    shards = write_shards(tmp_path, PAIRS, pairs_per_shard=10)
    assert get_dataset_size(str(tmp_path / "{00000..00002}.tar")) == (25, 3)
    samples = list(webdataset.WebDataset([str(path) for path in shards], shardshuffle=False))
    assert [(sample["__key__"], sample["txt"].decode()) for sample in samples] == [(p.key, p.text) for p in PAIRS]
    assert [sample.get("jpg", sample.get("png")) for sample in samples] == [pair.image for pair in PAIRS]


def test_shards_are_a_function_of_their_content(tmp_path: Path):
    first = write_shards(tmp_path / "a", PAIRS, pairs_per_shard=10)
    second = write_shards(tmp_path / "b", PAIRS, pairs_per_shard=10)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_writing_again_leaves_no_older_shard(tmp_path: Path):
    write_shards(tmp_path, PAIRS, pairs_per_shard=5)
    write_shards(tmp_path, PAIRS[:3])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.tar", "sizes.json"]


@pytest.mark.parametrize("key", ["00000001_001_ar-1.00", "", "0000"])
def test_keys_that_webdataset_would_misread(tmp_path: Path, key: str):
    with pytest.raises(ValueError, match="no key"):
        write_shards(tmp_path, [PAIRS[0], CaptionedPicture(key, b"", "x")])
    assert not list(tmp_path.glob("*.tar*"))


def test_classification_comes_back_and_clip_benchmark_would_read_it(tmp_path: Path):
    folder = _classification(tmp_path, samples_per_shard=4)
    knowledge, sources = read_classification(folder, first=100)
    store = PictureStore(sources)
    assert knowledge.picture.tolist() == list(range(100, 110))
    assert list(store.stream(np.arange(10))) == [jpeg(n) for n in range(10)]
    assert list(store.stream(np.array([3, 4, 9]))) == [jpeg(3), jpeg(4), jpeg(9)]

    # What clip_benchmark's build_wds_dataset does with the layout.
    count = int((folder / "test" / "nshards.txt").read_text())
    urls = [str(folder / "test" / f"{shard}.tar") for shard in range(count)]
    samples = webdataset.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("webp;png;jpg;jpeg", "cls")
    assert [label for _, label in samples] == knowledge.label.tolist()
    assert (folder / "classnames.txt").read_text().splitlines() == list(knowledge.class_names)


def test_a_foreign_webdataset_with_webp_pictures(tmp_path: Path):
    _classification(tmp_path)
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(stream, "WEBP")
    with webdataset.TarWriter(str(tmp_path / "test" / "0.tar")) as tar:
        for n in range(3):
            tar.write({"__key__": f"imgs/n{n}", "json": b"{}", "webp": stream.getvalue(), "cls": b"2\n"})
    knowledge, sources = read_classification(tmp_path)
    assert knowledge.label.tolist() == [2, 2, 2]
    assert PictureStore(sources).read(2) == stream.getvalue()


def _tar(folder: Path, **members: bytes) -> None:
    with webdataset.TarWriter(str(folder / "test" / "0.tar")) as tar:
        tar.write({"__key__": "a", **members})


SPOILT = {
    "no templates": (lambda f: (f / "zeroshot_classification_templates.txt").unlink(), "templates.txt: no such"),
    "no mark": (
        lambda f: (f / "zeroshot_classification_templates.txt").write_text("a {c}\na\n"),
        "line 2: lacks {c}",
    ),
    "no count": (lambda f: (f / "test" / "nshards.txt").write_text("many"), "nshards.txt: must hold the number"),
    "no shard": (lambda f: (f / "test" / "0.tar").unlink(), "0.tar: not a whole tar"),
    "cut shard": (lambda f: (f / "test" / "0.tar").write_bytes((f / "test" / "0.tar").read_bytes()[:700]), "0.tar"),
    "no such class": (lambda f: _tar(f, jpg=b"x", cls=b"3"), "sample a: its .cls must be a number from 0 to 2"),
    "no picture": (lambda f: _tar(f, cls=b"0"), "sample a: has no picture"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_bad_general_knowledge_is_refused(tmp_path: Path, case: str):
    spoil, words = SPOILT[case]
    spoil(_classification(tmp_path))
    with pytest.raises(UserError, match=words):
        read_classification(tmp_path)


def test_bad_shards_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="holds no webdataset shard"):
        list(read_shards(tmp_path))
    (shard,) = write_shards(tmp_path, PAIRS)
    whole = shard.read_bytes()
    last_member_ends = -(-len(whole.rstrip(b"\0")) // 512) * 512
    for length in (0, 100, 700, 5000, 5120, last_member_ends):
        shard.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"00000.tar: (not a whole tar|the tar is cut short)"):
            list(read_shards(tmp_path))
    (tmp_path / "sizes.json").write_text('["00000.tar"]')
    with pytest.raises(UserError, match=r"sizes.json: must map"):
        shard_sizes(tmp_path)


@pytest.mark.parametrize("label", ["cls", "cls.txt"])
@pytest.mark.parametrize("form", ["webp", "JPEG", "png"])
def test_classification_sets_as_they_are_found(tmp_path: Path, form: str, label: str):
    """What webdataset itself writes, as clip_benchmark's export does; without a count of the shards; CRLF lines."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, form.upper())
    (tmp_path / "test").mkdir()
    for shard in range(11):
        with webdataset.TarWriter(str(tmp_path / "test" / f"{shard}.tar")) as writer:
            writer.write({"__key__": f"s{shard:07d}", form: stream.getvalue(), label: f"{shard}\n".encode()})
    huge = "tench, " * 2000
    (tmp_path / "classnames.txt").write_bytes(b"\r\n".join([*(b"class %d" % n for n in range(10)), huge.encode(), b""]))
    (tmp_path / "zeroshot_classification_templates.txt").write_bytes(b"a photo of a {c}.\r\nart of {c}\r\n")

    knowledge, sources = read_classification(tmp_path)

    assert knowledge.label.tolist() == list(range(11)), "by number: 2.tar before 10.tar"
    assert (knowledge.class_names[3], knowledge.class_names[10]) == ("class 3", huge)
    assert knowledge.templates == ("a photo of a {c}.", "art of {c}")
    assert PictureStore(sources).read(4) == stream.getvalue()


def test_a_classification_set_without_shards(tmp_path: Path):
    (tmp_path / "test").mkdir()
    (tmp_path / "classnames.txt").write_text("cat\n")
    (tmp_path / "zeroshot_classification_templates.txt").write_text("a {c}\n")
    with pytest.raises(UserError, match=r"test: holds no shard"):
        read_classification(tmp_path)
