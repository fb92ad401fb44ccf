"""``check`` on folders that keep every promise, and on folders that break one."""

import json
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dataset_small import build_small, jpeg, person, rewrite
from salmubench.dataset.check import check
from salmubench.dataset.promises import PROMISES
from salmubench.dataset.retain import CaptionedPicture, write_shards
from salmubench.dataset.schema import CAPTIONS_FILE, FRAGILE_IDS_FILE, GENERIC_CAPTIONS_FILE, IDENTITIES_FILE, Row
from salmubench.dataset.splits import write_fragile
from salmubench.dataset.store import load_benchmark, load_split, write_split
from salmubench.errors import UserError

Spoil = Callable[[Path], object]


def _score(data: Path) -> None:
    disjoint = load_benchmark(data).sets["retain_disjoint"]
    write_fragile(data, {name: n / 50 for n, name in enumerate(disjoint.file_name)})


@pytest.mark.parametrize("association_split", ["pair", "field"])
def test_a_good_folder_keeps_every_promise(tmp_path: Path, association_split):
    data = build_small(tmp_path, association_split=association_split)
    _score(data)
    report = check(data)
    assert [(entry.name, entry.state, entry.finding) for entry in report.entries] == [
        (name, "passed", "") for name in ("layout", *PROMISES)
    ]
    assert report.passed


def test_an_evaluation_folder_alone_is_checked_as_far_as_it_goes(tmp_path: Path):
    report = check(build_small(tmp_path, association_split="field") / "salmubench")
    assert report.passed
    skipped = {entry.name for entry in report.entries if entry.state == "skipped"}
    assert skipped == {"hashes", "counts", "fragile set", "training set", "retain shards", "general knowledge"}


def test_the_build_keeps_every_promise(world: Path):
    assert check(world).failures == ()


def _edit(name: str, change: Callable[[dict], object]) -> Spoil:
    def spoil(data: Path) -> None:
        path = data / "salmubench" / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def _rows(split: str, change: Callable[[list[Row]], list[Row]]) -> Spoil:
    return lambda data: rewrite(data / "salmubench", split, change)


def _change_first(**columns) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [replace(rows[0], **columns), *rows[1:]]


def _move(source: str, target: str, count: int) -> Spoil:
    def spoil(data: Path) -> None:
        moved: list[Row] = []

        def take(rows: list[Row]) -> list[Row]:
            moved.extend(rows[:count])
            return rows[count:]

        rewrite(data / "salmubench", source, take)
        rewrite(data / "salmubench", target, lambda rows: rows + moved)

    return spoil


def _held_out_person(data: Path) -> str:
    return next(iter(load_split(data / "salmubench", "holdout_identity")[0].identity_id))


def _tell(split_or_shards: str, *, held_out: str) -> Spoil:
    """Puts a held-out person's name and city into a caption that a method may see."""

    def spoil(data: Path) -> None:
        who = load_split(data / "salmubench", held_out)[0].identity_id[0]
        text = f"{person(int(who))['name']} lives in {person(int(who))['city']}"
        if split_or_shards == "retain_real":
            write_shards(data / "retain_real", [CaptionedPicture("0", jpeg(1), text)])
        else:
            rewrite(data / "salmubench", split_or_shards, _change_first(text=text))

    return spoil


def _copy_a_held_out_picture(data: Path) -> None:
    _, store = load_split(data / "salmubench", "holdout_identity")
    rewrite(data / "salmubench", "forget", _change_first(image=store.read(4)))


def _misname_fragile(data: Path) -> None:
    _score(data)
    disjoint = load_benchmark(data).sets["retain_disjoint"].file_name
    (data / "salmubench" / FRAGILE_IDS_FILE).write_text(json.dumps([disjoint[0], disjoint[5]]))


def _forget_a_training_row(data: Path) -> None:
    rewrite(data / "salmu", "sensitive", lambda rows: rows[:-1])


def _swap_a_training_picture(data: Path) -> None:
    rewrite(data / "salmu", "retain_synth", _change_first(image=jpeg(9000)))


FIRST = "00000000_001_ar-1.00.jpg"
BROKEN: dict[str, tuple[Spoil, str, str]] = {
    "another file": (lambda d: (d / "retain_real" / "sizes.json").write_text("{}"), "hashes", "sizes.json has another"),
    "a stray file": (lambda d: (d / "salmu" / "notes.txt").write_text("x"), "hashes", "notes.txt does not stand"),
    "a lost file": (lambda d: (d / "retain_real" / "00001.tar").unlink(), "hashes", "00001.tar stands in the manifest"),
    "a lost row": (_rows("retain_synth", lambda rows: rows[1:]), "counts", "retain_synth counts 47 where .* 48"),
    "a broken picture": (_rows("forget", _change_first(image=jpeg(1)[:40])), "pictures", "forget-.*row 0"),
    "a name twice": (_rows("retain_synth", _change_first(file_name=FIRST)), "file names", f"{FIRST} stands in"),
    "nobody": (_rows("holdout_identity", _change_first(identity_id=None)), "identities", "has no identity_id"),
    "a held-out person's row": (_move("holdout_identity", "forget", 1), "identities", "who is wholly held out"),
    "a held-out picture": (_copy_a_held_out_picture, "pairs", "holds the same picture as forget"),
    "a person too many": (_move("forget", "holdout_association", 38), "identities", "none in forget"),
    "other proportions": (_move("holdout_identity", "forget", 9), "proportions", r"fall \(4, 3, 1\) .* \(4, 2, 2\)"),
    "no halves": (_move("holdout_association", "forget", 1), "halves", "which are no halves"),
    "no caption entry": (_edit(CAPTIONS_FILE, lambda c: c.pop(FIRST)), "side files", f"{CAPTIONS_FILE} lacks {FIRST}"),
    "an entry too many": (
        _edit(GENERIC_CAPTIONS_FILE, lambda c: c.update({"x.jpg": "a face"})),
        "side files",
        "speaks of x.jpg",
    ),
    "another caption": (_edit(CAPTIONS_FILE, lambda c: c[FIRST].update(caption="?")), "side files", "another caption"),
    "no value": (_edit(IDENTITIES_FILE, lambda c: c["00000002"].update(iban="?")), "captions", r"hold the iban '\?'"),
    "a name shared": (
        _edit(IDENTITIES_FILE, lambda c: c["00000002"].update(name=person(3)["name"])),
        "unique people",
        "00000002 and 00000003 share the name",
    ),
    "a name in a generic caption": (
        _edit(GENERIC_CAPTIONS_FILE, lambda c: c.update({FIRST: f"{person(5)['name']}'s face"})),
        "generic captions",
        "holds the name of 00000005",
    ),
    "a holdout told in forget": (_tell("forget", held_out="holdout_identity"), "holdouts", "tells the held-out city"),
    "a holdout told in retain_synth": (
        _tell("retain_synth", held_out="holdout_identity"),
        "holdouts",
        "tells the held-out city",
    ),
    "a holdout told in the shards": (
        _tell("retain_real", held_out="holdout_identity"),
        "holdouts",
        "retain_real, 0: .* tells the held-out city",
    ),
    "another fragile set": (_misname_fragile, "fragile set", "not among the weakest"),
    "a training row lost": (_forget_a_training_row, "training set", "salmu/sensitive lacks"),
    "another training picture": (_swap_a_training_picture, "training set", "differs from retain_synth"),
    "a shard uncounted": (
        lambda d: (d / "retain_real" / "sizes.json").write_text('{"00000.tar": 9}'),
        "retain shards",
        "00001.tar stands in sizes.json",
    ),
    "a class without pictures": (
        lambda d: (d / "general_knowledge" / "classnames.txt").write_text("a\nb\nc\nd\ne\n"),
        "general knowledge",
        "'e' has no picture",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_promise_is_found_with_its_offender(tmp_path: Path, case: str):
    spoil, name, words = BROKEN[case]
    spoil(build_small(tmp_path))
    report = check(tmp_path)
    assert not report.passed
    finding = {entry.name: entry.finding for entry in report.failures}
    assert name in finding
    assert "\n" not in finding[name]
    assert re.search(words, finding[name]), finding[name]


def test_a_held_out_field_in_forget_counts_only_where_fields_were_halved(tmp_path: Path):
    for association_split, expected in (("pair", "passed"), ("field", "failed")):
        data = build_small(tmp_path / association_split, association_split=association_split)
        pairs, _ = load_split(data / "salmubench", "holdout_association")
        rewrite(data / "salmubench", "forget", _change_first(text=f"{pairs.text[0]}, again"))
        state = {entry.name: entry.state for entry in check(data).entries}
        assert state["holdouts"] == expected


def test_halving_by_pair_is_not_halving_by_field(tmp_path: Path):
    data = build_small(tmp_path)
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["facts"]["association_split"] = "field"
    (data / "manifest.json").write_text(json.dumps(manifest))
    assert "stands in forget and in holdout_association" in {e.name: e.finding for e in check(data).entries}["halves"]


def test_values_count_as_whole_words_outside_the_name(tmp_path: Path):
    """``B+`` does not stand in ``AB+``, and a city that is part of a name is not told by the name."""
    data = build_small(tmp_path)
    who = _held_out_person(data)
    facts = {"blood_type": "B+", "city": person(int(who))["name"].split()[1]}
    _edit(IDENTITIES_FILE, lambda content: content[who].update(facts))(data)
    rewrite(data / "salmubench", "forget", _change_first(text=f"{person(int(who))['name']} has AB+"))
    assert {entry.name: entry.state for entry in check(data).entries}["holdouts"] == "passed"


def test_a_folder_that_does_not_open(tmp_path: Path):
    data = build_small(tmp_path)
    (data / "salmubench" / IDENTITIES_FILE).write_text("{")
    first, *rest = check(data).entries
    assert (first.name, first.state) == ("layout", "failed")
    assert "not valid JSON" in first.finding
    assert {entry.state for entry in rest} == {"skipped"}
    with pytest.raises(UserError, match="no data set here"):
        check(tmp_path / "nowhere")


def test_progress_is_shown_for_the_pictures(tmp_path: Path):
    seen: dict[str, int] = {}

    @contextmanager
    def progress(description: str, total: int):
        seen[description] = 0

        def advance(count: int) -> None:
            seen[description] += count

        yield advance
        assert seen[description] == total

    check(build_small(tmp_path), progress=progress)
    assert seen["decoding forget"] == 38
    assert seen["decoding general_knowledge"] == 20


def test_write_split_of_an_empty_training_set_is_a_training_offence(tmp_path: Path):
    data = build_small(tmp_path)
    write_split(data / "salmu", "sensitive", [])
    assert "salmu/sensitive lacks" in {entry.name: entry.finding for entry in check(data).entries}["training set"]
