"""Stages 1 to 3 within the whole build: other sources and a curation, stopped and gone on with."""

from dataclasses import replace
from pathlib import Path

import pytest

import face_small  # noqa: F401  (registers the face model "drawn")
from commands import salmubench
from salmubench.atomic import read_json
from salmubench.dataset.card import write_cards
from salmubench.dataset.check import check
from salmubench.dataset.schema import SENSITIVE_SPLITS
from salmubench.dataset.store import load_benchmark
from salmubench.errors import UserError
from salmubench.personas.anchors import make_anchors
from salmubench.personas.build import build
from salmubench.personas.casting import Casting, Group, Sources
from salmubench.personas.estimate import estimate
from salmubench.personas.portraits import draw_portrait
from salmubench.presets import Preset

pytest.importorskip("diffusers")
from diffusion_small import save_models

SMALL = {"identities": 4, "pictures": 4, "retain_joint": 4, "retain_disjoint": 20, "general_portraits": 3}
PEOPLE = 4 + 7 + 1


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """A folder of photographs and the models on disk."""
    root = tmp_path_factory.mktemp("sources")
    (root / "faces").mkdir()
    for number, one in enumerate(make_anchors(PEOPLE + 1, seed=5, purpose="set")):
        (root / "faces" / f"{number}.jpg").write_bytes(draw_portrait(one, seed=1, picture=1, long_side=96))
    (root / "faces" / "torn.jpg").write_bytes(b"no picture")
    models = save_models(root, identity=216)
    settings = {f"portraits.{key}": value for key, value in models.items()} | {"portraits.steps": "1"}
    faces = {"anchors.faces": "drawn", "anchors.apart": "0.001"}
    return Sources(f"folder:{root / 'faces'}", "ip-adapter", settings=settings | faces)


def test_a_world_of_photographs_by_diffusion_keeps_the_datasets_promises(
    photographs: Sources, micro: Preset, tmp_path: Path
) -> None:
    small = replace(micro, world=replace(micro.world, **SMALL))
    out = build(small, tmp_path / "data", seed=7, workers=1, sources=photographs)
    report = check(out)
    assert report.passed, [entry for entry in report.entries if entry.state == "failed"]
    benchmark = load_benchmark(out)
    assert sum(len(benchmark.sets[split]) for split in SENSITIVE_SPLITS) == 16
    assert len(benchmark.sets["retain_disjoint"]) == 20
    facts = read_json(out / "manifest.json")["facts"]
    assert facts["anchors"]["skipped"] == {"do not decode": ["torn.jpg"]}
    assert facts["portraits"]["options"]["steps"] == 1
    assert "base model" in facts["licences"][0]
    card = (out / "salmubench" / "README.md").read_text()
    assert facts["licences"][0] in card
    assert "python-avatars" not in card
    write_cards(out)
    assert (out / "salmubench" / "README.md").read_text() == card
    album = sorted((out / "stages" / "album").rglob("*.jpg"))
    stamps = {path: path.stat().st_mtime_ns for path in album}
    names = {path.name: path.read_bytes() for path in album}
    split = SENSITIVE_SPLITS[0]
    pairs = benchmark.sets[split]
    for name, index in zip(pairs.file_name, pairs.picture, strict=True):
        assert benchmark.pictures.read(int(index)) == names[name]

    (out / "manifest.json").unlink()
    gone = next(path for path in album if path.parent.name == "00000001")
    gone.unlink()
    build(small, out, seed=7, workers=1, sources=photographs)
    assert gone.read_bytes() == names[gone.name]
    made_anew = sum(path.stat().st_mtime_ns != stamps[path] for path in album)
    assert 1 <= made_anew <= 8


def test_a_dry_run_tries_the_sources_that_are_asked_for(photographs: Sources, micro: Preset, tmp_path: Path) -> None:
    small = replace(micro, world=replace(micro.world, **SMALL))
    found = estimate(small, sources=photographs)
    stages = {stage.name: stage for stage in found.stages}
    assert stages["anchors"].work == PEOPLE + 2
    assert stages["portraits"].work == 4 * (4 + 1 + 1) + 7 * 3 + 1 * 3
    assert stages["portraits"].seconds
    assert stages["anchors"].seconds
    assert found.bytes
    assert found.unknown == ["copies and hashes"]
    curated = {
        **photographs.settings,
        "curation.faces": "drawn",
        "curation.surplus": "2",
        "curation.people_surplus": "1",
    }
    found = estimate(small, sources=replace(photographs, curation=True, settings=curated))
    assert found.unknown == ["curation", "copies and hashes"]
    assert {stage.name: stage.work for stage in found.stages}["portraits"] == 2 * stages["portraits"].work
    absent = {**photographs.settings, "portraits.base": str(tmp_path / "absent")}
    found = estimate(small, sources=replace(photographs, settings=absent))
    stages = {stage.name: stage for stage in found.stages}
    assert found.unknown == ["portraits", "copies and hashes"]
    assert "fetch model_index.json and the folders that it names" in stages["portraits"].note
    assert found.bytes is None


def test_the_command_line_curates_a_drawn_world_to_the_counts_that_the_preset_asks_for(tmp_path: Path) -> None:
    out = tmp_path / "data"
    flags = ["--curation", "--set", "curation.surplus=1.2", "--set", "curation.people_surplus=1", "--workers", "1"]
    done = salmubench("data", "build", "--preset", "tiny", "--out", out, *flags)
    assert done.returncode == 0, done.stderr
    counts = read_json(out / "manifest.json")["facts"]
    assert counts["counts"]["sensitive"] == 8 * 12
    assert counts["curation"]["curation-set"]["people"] == {"before": 8, "after": 8}
    assert [entry["dropped"] for entry in counts["curation"]["curation-set"]["tests"]] == [None, 0, None, None, 0]
    assert (out / "stages" / "curation-outsiders.png").is_file()


def test_sources_that_do_not_fit_each_other_say_which_do(photographs: Sources, tmp_path: Path) -> None:
    drawn = replace(photographs, anchors="procedural", settings={})
    with pytest.raises(UserError, match="needs photographs of faces; add --anchors folder:PATH"):
        Casting(drawn, seed=1, long_side=48, scratch=tmp_path).cast(Group("set", 1, 1))
    shot = Sources(photographs.anchors, settings={"anchors.faces": "drawn"})
    with pytest.raises(UserError, match="draws no photographed faces; add --portraits ip-adapter"):
        Casting(shot, seed=1, long_side=48, scratch=tmp_path).cast(Group("set", 1, 1))
    with pytest.raises(UserError, match=r"--set curaton.keep: begins with none of anchors\., portraits\., curation\."):
        Casting(Sources(settings={"curaton.keep": "1"}), seed=1, long_side=48, scratch=tmp_path)
    with pytest.raises(UserError, match="there is no source of portraits 'ip-adaptor': did you mean 'ip-adapter'"):
        Casting(Sources(portraits="ip-adaptor"), seed=1, long_side=48, scratch=tmp_path)
