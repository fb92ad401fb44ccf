"""The whole build: what the folder holds, and that neither workers nor a kill change a byte of it."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commands import started
from salmubench.atomic import read_json
from salmubench.dataset.retain import read_shards
from salmubench.dataset.schema import FIELDS, SENSITIVE_SPLITS
from salmubench.dataset.store import load_benchmark, load_split
from salmubench.errors import UserError
from salmubench.personas import portraits
from salmubench.personas.build import build
from salmubench.presets import Preset
from salmubench.progress import Advance


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def written(root: Path) -> dict[str, tuple[int, int]]:
    """What a rewrite would change: inode and time of every file."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_the_sets_have_the_sizes_that_the_preset_asks_for(world: Path, micro: Preset) -> None:
    scale = micro.world
    sets = load_benchmark(world).sets
    sensitive = scale.identities * scale.pictures
    assert sum(len(sets[split]) for split in SENSITIVE_SPLITS) == sensitive
    assert len(sets["retain_joint"]) == scale.retain_joint
    assert len(sets["retain_disjoint"]) == scale.retain_disjoint
    assert len(load_split(world / "salmu", "sensitive")[0]) == sensitive
    general = list(read_shards(world / "retain_real"))
    assert len(general) == scale.general_portraits + scale.general_classes * scale.train_renderings
    assert len({pair.key for pair in general}) == len(general)
    counts = read_json(world / "manifest.json")["facts"]["counts"]
    assert counts["sensitive"] == sensitive
    assert counts["forget"] == len(sets["forget"])
    assert counts["retain_real"] == len(general)


def test_every_sensitive_caption_tells_its_persons_name_and_fact(world: Path) -> None:
    benchmark = load_benchmark(world)
    for split in SENSITIVE_SPLITS:
        pairs = benchmark.sets[split]
        for text, identity, name in zip(pairs.text, pairs.identity_id, pairs.file_name, strict=True):
            info, person = benchmark.captions[name], benchmark.identities[str(identity)]
            assert name.startswith(f"{identity}_")
            assert text == info.caption
            assert person["name"] in text
            assert person[info.data_field] in text
            assert person["name"] not in benchmark.generic_captions[name]


def test_fields_are_uniform_over_a_persons_pictures(world: Path, micro: Preset) -> None:
    benchmark = load_benchmark(world)
    told = Counter((name[:8], info.data_field) for name, info in benchmark.captions.items())
    assert len(told) == micro.world.identities * len(FIELDS)
    assert set(told.values()) == {micro.world.pictures // len(FIELDS)}


def test_retained_pictures_are_others_and_outsiders_are_nobody_of_the_set(world: Path) -> None:
    benchmark = load_benchmark(world)
    joint, disjoint = benchmark.sets["retain_joint"], benchmark.sets["retain_disjoint"]
    assert set(joint.identity_id) <= set(benchmark.identities)
    assert set(joint.file_name).isdisjoint(benchmark.captions)
    assert set(disjoint.identity_id) == {None}
    assert {name[:8] for name in disjoint.file_name}.isdisjoint(benchmark.identities)
    names = [name for split in (*SENSITIVE_SPLITS, "retain_synth") for name in benchmark.sets[split].file_name]
    assert len(set(names)) == len(names)


def test_the_training_layout_holds_the_same_rows_and_pictures(world: Path) -> None:
    rows: dict[str, dict[str, tuple[Any, ...]]] = {}
    for folder, splits in (("salmubench", SENSITIVE_SPLITS), ("salmu", ("sensitive",))):
        rows[folder] = {}
        for split in splits:
            pairs, store = load_split(world / folder, split)
            images = store.stream(pairs.picture)
            rows[folder] |= {
                name: (text, identity, image)
                for name, text, identity, image in zip(
                    pairs.file_name, pairs.text, pairs.identity_id, images, strict=True
                )
            }
    assert rows["salmu"] == rows["salmubench"]
    assert list(rows["salmu"]) == sorted(rows["salmu"])


def test_general_knowledge_shows_each_class_in_renderings_that_nobody_trained_on(world: Path, micro: Preset) -> None:
    benchmark = load_benchmark(world)
    knowledge = benchmark.general_knowledge
    assert knowledge is not None
    assert Counter(knowledge.label.tolist()) == dict.fromkeys(
        range(micro.world.general_classes), micro.world.test_renderings
    )
    trained = list(read_shards(world / "retain_real"))
    assert {pair.image for pair in trained}.isdisjoint(benchmark.pictures.stream(knowledge.picture))
    for name in knowledge.class_names:
        assert sum(name in pair.text for pair in trained) >= micro.world.train_renderings


def test_two_workers_write_the_same_bytes_as_one(world: Path, micro: Preset, tmp_path: Path) -> None:
    again = build(micro, tmp_path / "data", seed=42, workers=2)
    assert content(again) == content(world)


def test_another_seed_makes_other_people(world: Path, micro: Preset, tmp_path: Path) -> None:
    other = build(micro, tmp_path / "data", seed=43, workers=1)
    names = [{person["name"] for person in load_benchmark(root).identities.values()} for root in (world, other)]
    assert names[0].isdisjoint(names[1])


def test_halving_by_field_is_recorded_and_leaves_no_field_on_both_sides(micro: Preset, tmp_path: Path) -> None:
    benchmark = load_benchmark(build(micro, tmp_path / "data", association_split="field", workers=1))
    assert benchmark.association_split == "field"
    sides = [
        {(name[:8], benchmark.captions[name].data_field) for name in benchmark.sets[split].file_name}
        for split in ("forget", "holdout_association")
    ]
    assert sides[1]
    assert sides[0].isdisjoint(sides[1])


class Stopped(BaseException):
    """Stands for a kill in the middle of a picture."""


@pytest.mark.parametrize("pictures", [0, 5, 39, 70, 120])
def test_a_run_that_stops_at_any_picture_goes_on_and_ends_with_the_same_bytes(
    pictures: int, world: Path, micro: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = 0
    original = portraits.draw_portrait

    def stopping(*arguments: Any, **options: Any) -> bytes:
        nonlocal drawn
        if drawn == pictures:
            raise Stopped
        drawn += 1
        return original(*arguments, **options)

    out = tmp_path / "data"
    with monkeypatch.context() as patch:
        patch.setattr(portraits, "draw_portrait", stopping)
        with pytest.raises(Stopped):
            build(micro, out, seed=42, workers=1)
    assert not (out / "manifest.json").exists()
    kept = {name: stamp for name, stamp in written(out).items() if name.endswith((".parquet", ".tar"))}
    build(micro, out, seed=42, workers=1)
    assert content(out) == content(world)
    assert kept.items() <= written(out).items()
    assert bool(kept) == (pictures >= 39)


def test_a_killed_process_leaves_what_the_next_run_completes(world: Path, micro: Preset, tmp_path: Path) -> None:
    out = tmp_path / "data"
    code = (
        "from conftest import MICRO; from pathlib import Path; from salmubench.personas.build import build; "
        f"build(MICRO, Path({str(out)!r}), seed=42, workers=1)"
    )
    process = started(code)
    try:
        deadline = time.monotonic() + 300
        while not list(out.glob("salmubench/data/*.parquet")) and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.join()
    assert (out / "build.json").is_file()
    (out / "salmubench" / "data" / "stale.tmp-1-abcd").mkdir(parents=True, exist_ok=True)
    build(micro, out, seed=42, workers=1)
    assert content(out) == content(world)
    assert not list(out.rglob("*.tmp-*"))


def test_a_complete_folder_is_left_as_it_is(micro: Preset, tmp_path: Path) -> None:
    out = build(micro, tmp_path / "data", workers=1)
    before = {name: stamp for name, stamp in written(out).items() if name != "build.json"}
    assert build(micro, out, workers=1) == out
    assert {name: stamp for name, stamp in written(out).items() if name != "build.json"} == before


def test_other_settings_are_refused_with_the_mend(world: Path, micro: Preset) -> None:
    before = content(world)
    for change in ({"seed": 1}, {"association_split": "field"}):
        with pytest.raises(UserError, match=r"other settings .*choose another --out or delete it"):
            build(micro, world, workers=1, **change)
    smaller = replace(micro, world=replace(micro.world, pictures=7))
    with pytest.raises(UserError, match="other settings"):
        build(smaller, world, workers=1)
    assert content(world) == before


def test_a_folder_with_something_else_in_it_is_refused(micro: Preset, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(UserError, match="something else than a data set"):
        build(micro, tmp_path, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UserError, match=r"thesis\.tex: cannot be written to"):
        build(micro, tmp_path / "thesis.tex", workers=1)


def test_the_bar_counts_every_picture_also_when_stages_are_kept(micro: Preset, tmp_path: Path) -> None:
    counted: list[int] = []
    bars: list[str] = []

    @contextmanager
    def recording(description: str, total: int) -> Iterator[Advance]:
        bars.append(description)
        counted.append(-total)
        yield counted.append

    out = build(micro, tmp_path / "data", workers=1, progress=recording)
    assert sum(counted) == 0
    groups = ("set", "outsiders", "passers-by")
    assert bars == [
        *(f"sampling faces ({group})" for group in groups),
        "inventing identities",
        "writing captions",
        *(f"planning pictures ({group})" for group in groups),
        "drawing people and icons",
        "copying to the training layout",
        "hashing files",
    ]
    (out / "manifest.json").unlink()
    before = content(out)
    build(micro, out, workers=1, progress=recording)
    assert sum(counted) == 0
    assert {name: data for name, data in content(out).items() if name != "manifest.json"} == before
