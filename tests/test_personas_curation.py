"""Stage 3: pure tests of pictures against what models saw, and the whole on real pictures and small real models."""

import dataclasses
import io
from collections import Counter
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

import face_small
from salmubench.atomic import read_json
from salmubench.encoders.checkpoint import save_checkpoint
from salmubench.errors import RunError, UserError
from salmubench.personas.anchors import DrawnFace, make_anchors
from salmubench.personas.build import build
from salmubench.personas.casting import Casting, Group, Sources
from salmubench.personas.contact import write_contact_sheet
from salmubench.personas.curation import (
    Candidate,
    CurationOptions,
    Evidence,
    curate,
    demographic_reasons,
    identity_reasons,
    judge,
    label_reasons,
    score_reasons,
    zero_shot,
)
from salmubench.personas.faces import Face, face_models
from salmubench.personas.portraits import render_portrait
from salmubench.personas.source import Anchor
from salmubench.presets import Preset

ANYTHING = CurationOptions(keep=1, min_pictures=1)


def crowd(*sizes: int) -> list[Candidate]:
    """People in turn a woman and a man, with so many pictures each; nothing is read of them."""
    return [
        Candidate(Anchor(f"{who:08d}", "male" if who % 2 else "female"), f"{who}_{n}.jpg", "a text", Path("absent"))
        for who, size in enumerate(sizes)
        for n in range(size)
    ]


def test_a_picture_must_look_like_one_person_of_the_anchors_gender() -> None:
    people = crowd(3, 2)
    seen = Evidence(
        presence=["one person", "no person", "one person", "several people", "one person"],
        gender=["female", "female", "male", "male", "male"],
    )
    assert label_reasons(people, range(5), seen) == {1: "no person", 2: "looks male", 3: "several people"}
    assert label_reasons(people, [0, 4], seen) == {}
    assert label_reasons(people, range(5), Evidence()) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["10-19", "20-29", "30-39"]), min_size=1, max_size=7), min_size=1, max_size=4))
def test_demographics_agree_with_the_persons_mode(labels: list[list[str]]) -> None:
    """The naive oracle: of each person one label stays, none of hers is commoner."""
    people, flat = crowd(*map(len, labels)), [label for mine in labels for label in mine]
    reasons = demographic_reasons(people, range(len(people)), Evidence(labels={"age": flat}))
    assert reasons is not None
    for who, mine in enumerate(labels):
        places = [place for place, one in enumerate(people) if one.identity_id == f"{who:08d}"]
        stay = {flat[place] for place in places if place not in reasons}
        assert len(stay) == 1
        assert Counter(mine)[stay.pop()] == max(Counter(mine).values())
        assert all(reasons[place] == f"age {flat[place]}" for place in places if place in reasons)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 60), keep=st.floats(0.01, 1), seed=st.integers(0, 99))
def test_the_score_cut_keeps_the_best_share_of_those_that_stand(count: int, keep: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    seen = Evidence(score=rng.normal(size=60).astype(np.float32))
    standing = sorted(rng.choice(60, count, replace=False).tolist())
    fallen = score_reasons(standing, seen, keep, None)
    assert fallen is not None
    stay = [place for place in standing if place not in fallen]
    assert len(stay) == round(keep * count)
    assert not stay or not fallen or min(seen.score[stay]) >= max(seen.score[list(fallen)])
    by_value = score_reasons(standing, seen, keep, 0.25)
    assert set(by_value or {}) == {place for place in standing if seen.score[place] < 0.25}


def test_faces_are_compared_with_the_anchors_or_with_the_medoid() -> None:
    people = crowd(5)
    faces = np.eye(3, dtype=np.float32)[[0, 0, 1, 0, 2]]
    seen = Evidence(faces=[1, 1, 1, 0, 2], identity=faces)
    assert identity_reasons(people, range(5), seen, 0.5) == {2: "another face", 3: "no face", 4: "several faces"}

    class Known(Anchor):
        embedding = np.eye(3, dtype=np.float32)[1]

    people = [dataclasses.replace(one, anchor=Known("0", "female")) for one in people]
    reasons = identity_reasons(people, range(3), seen, 0.5)
    assert reasons == {0: "another face", 1: "another face"}


def test_the_tests_run_in_the_papers_order_on_what_is_left_and_the_report_adds_up() -> None:
    people = crowd(6, 6, 2)
    seen = Evidence(
        presence=["no person"] + ["one person"] * 13,
        gender=[one.anchor.gender for one in people],
        labels={"age": ["20-29"] * 5 + ["30-39"] + ["20-29"] * 8},
        score=np.linspace(1, 0, 14, dtype=np.float32),
    )
    verdicts = judge(people, seen, CurationOptions(keep=0.75, min_pictures=3))
    assert verdicts.dropped["0_0.jpg"] == ("labels", "no person")
    assert verdicts.dropped["0_5.jpg"] == ("demographics", "age 30-39")
    assert [entry["test"] for entry in verdicts.tests] == [
        "labels", "demographics", "identity", "score", "pictures a person",
    ]  # fmt: skip
    assert [entry["looked_at"] for entry in verdicts.tests] == [14, 13, 12, 12, 9]
    assert [entry["dropped"] for entry in verdicts.tests] == [1, 1, None, 3, 0]
    report = verdicts.report()
    assert report["pictures"] == {"before": 14, "after": 9}
    assert report["people"] == {"before": 3, "after": 2}
    assert sum(report["reasons"].values()) == 5
    strict = judge(people, seen, CurationOptions(keep=0.75, min_pictures=5))
    assert list(strict.kept) == ["00000001"]
    assert strict.dropped["0_1.jpg"] == ("pictures a person", "fewer than 5 pictures left")


def test_zero_shot_takes_the_nearest_label_by_its_mean_wording() -> None:
    east, north = np.eye(2, dtype=np.float32)
    slanted = np.array([0.8, 0.6], np.float32)
    labels = {"east": np.stack([east, slanted]), "north": north[None]}
    assert zero_shot(np.stack([east, north, slanted]), labels) == ["east", "north", "east"]


# Real pictures and small real models.


@pytest.fixture(scope="module")
def people() -> list[DrawnFace]:
    return make_anchors(4, seed=11, purpose="set")


@pytest.fixture(scope="module")
def pictures(people: list[DrawnFace], tmp_path_factory: pytest.TempPathFactory) -> list[Candidate]:
    root = tmp_path_factory.mktemp("pictures")
    made = []
    for one in people:
        for number in range(1, 9):
            portrait = render_portrait(one, seed=1, picture=number, long_side=96)
            (root / portrait.file_name).write_bytes(portrait.image)
            known = {kind: portrait.traits[kind] for kind in ("gender", "skin")}
            made.append(Candidate(one, portrait.file_name, "a portrait", root / portrait.file_name, known))
    return made


def swapped(pictures: list[Candidate], one: int, other: int) -> list[Candidate]:
    """The same names, with the pictures behind two of them changed about."""
    changed = list(pictures)
    for here, there in ((one, other), (other, one)):
        changed[here] = dataclasses.replace(pictures[here], path=pictures[there].path, known=pictures[there].known)
    return changed


def test_pictures_swapped_between_two_people_fall_by_their_known_traits(
    pictures: list[Candidate], people: list[DrawnFace]
) -> None:
    assert curate(pictures, ANYTHING).dropped == {}
    other = next(place for place, one in enumerate(people) if one.skin != people[0].skin)
    verdicts = curate(swapped(pictures, 2, 8 * other + 3), ANYTHING)
    assert {name: test for name, (test, _) in verdicts.dropped.items()} == {
        pictures[2].file_name: "demographics",
        pictures[8 * other + 3].file_name: "demographics",
    }


class TrainedFaces(face_small.DrawnFaces):
    """Tells the four people apart by a discriminant analysis of other pictures of theirs."""

    def __init__(self, people: list[DrawnFace]) -> None:
        shots = [(who, number) for who in range(len(people)) for number in range(101, 161)]
        images = [render_portrait(people[who], seed=1, picture=number, long_side=64).image for who, number in shots]
        views = [self.view(Image.open(io.BytesIO(image)).convert("RGB")) for image in images]
        self.analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.1).fit(views, [who for who, _ in shots])
        self.middle = self.analysis.transform(views).mean(axis=0)  # the solver does not centre

    def view(self, picture: Image.Image) -> NDArray[np.float32]:
        (face,) = super().faces(picture)
        return np.asarray(face.crop.resize((8, 8)), dtype=np.float32).ravel()

    def faces(self, picture: Image.Image) -> list[Face]:
        (face,) = super().faces(picture)
        vector = self.analysis.transform([self.view(picture)])[0].astype(np.float32) - self.middle
        return [dataclasses.replace(face, embedding=(vector / np.linalg.norm(vector)).astype(np.float32))]


def test_pictures_swapped_between_two_people_fall_by_their_faces(
    pictures: list[Candidate], people: list[DrawnFace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An embedder that was trained on other pictures: a swapped picture falls, and few of the others do."""
    model = TrainedFaces(people)
    monkeypatch.setitem(face_models._entries, "trained", lambda folder: model)
    options = CurationOptions(faces="trained", identity_distance=0.6, keep=1, min_pictures=1)
    unknown = [dataclasses.replace(one, known={}) for one in pictures]
    straight = curate(unknown, options)
    assert len(straight.dropped) < 0.2 * len(pictures)
    standing = [place for place, one in enumerate(pictures) if one.file_name not in straight.dropped]
    caught = []
    for here, there in zip(standing[:6], standing[-6:], strict=True):
        verdicts = curate(swapped(unknown, here, there), options)
        caught += [pictures[place].file_name in verdicts.dropped for place in (here, there)]
    assert np.mean(caught) > 0.8


def test_a_clip_model_and_a_transformers_classifier_look_at_every_picture(
    pictures: list[Candidate], micro: Preset, tmp_path: Path
) -> None:
    """Random weights: what is tested is that their answers are the models' own, one a picture."""
    torch.manual_seed(0)
    config = {"model_cfg": micro.pretraining.model, "preprocess_cfg": {}}
    save_checkpoint(open_clip.CLIP(**micro.pretraining.model), config, tmp_path / "clip")
    labels = {0: "Female", 1: "Male"}
    vit = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label=labels, label2id={label: number for number, label in labels.items()},
    )  # fmt: skip
    model = ViTForImageClassification(vit).eval()
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    model.save_pretrained(tmp_path / "gender")
    processor.save_pretrained(tmp_path / "gender")
    options = CurationOptions(
        model=str(tmp_path / "clip"),
        labels=False,
        classifiers=f"gender={tmp_path / 'gender'}",
        keep=0.5,
        min_pictures=1,
    )
    verdicts = curate(pictures, options)
    shown = [Image.open(one.path).convert("RGB") for one in pictures]
    with torch.inference_mode():
        winners = model(**processor(images=shown, return_tensors="pt")).logits.argmax(dim=-1).tolist()
    told = ["male" if winner else "female" for winner in winners]
    fallen = {
        place for place, one in enumerate(pictures) if verdicts.dropped.get(one.file_name, ("",))[0] == "demographics"
    }
    assert fallen == set(demographic_reasons(pictures, range(len(pictures)), Evidence(labels={"gender": told})) or {})
    assert len(verdicts.kept) > 0
    left = len(pictures) - len(fallen)
    assert sum(map(len, verdicts.kept.values())) == round(0.5 * left)
    labelled = curate(pictures, dataclasses.replace(options, labels=True))
    assert labelled.tests[0]["dropped"] is not None


def test_a_missing_classifier_names_its_files(pictures: list[Candidate], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gender=.*absent: no image classifier.*fetch the repository's config\.json"):
        curate(pictures, dataclasses.replace(ANYTHING, classifiers=f"gender={tmp_path / 'absent'}"))
    with pytest.raises(UserError, match="write KIND=MODEL"):
        curate(pictures, dataclasses.replace(ANYTHING, classifiers="gender"))


def test_the_contact_sheet_shows_kept_and_dropped(pictures: list[Candidate], tmp_path: Path) -> None:
    verdicts = curate(swapped(pictures, 0, 30), dataclasses.replace(ANYTHING, faces="drawn"))
    sheets = []
    for name in ("one.png", "two.png"):
        write_contact_sheet(tmp_path / name, pictures, verdicts, seed=1)
        sheets.append((tmp_path / name).read_bytes())
    assert sheets[0] == sheets[1]
    sheet = Image.open(io.BytesIO(sheets[0]))
    assert sheet.width > 1000
    assert len(set(sheet.getdata())) > 1000


def test_a_curated_cast_has_the_counts_that_were_asked_for_and_is_not_made_twice(tmp_path: Path) -> None:
    sources = Sources(curation=True, settings={"curation.faces": "drawn", "curation.identity_distance": "0.6"})
    casting = Casting(sources, seed=3, long_side=64, scratch=tmp_path)
    cast = casting.cast(Group("set", 5, 6))
    assert len(cast.people) == 5
    for one in cast.people:
        numbers = cast.numbers(one.identity_id, 6)
        assert len(numbers) >= 6
        take = cast.take(one, numbers[0])
        assert take.image() == render_portrait(one, seed=3, picture=numbers[0], long_side=64).image
        assert take.file_name.startswith(f"{one.identity_id}_{numbers[0]:03d}_")
    report = read_json(tmp_path / "curation-set.json")
    assert report["people"]["before"] == 7
    assert report["pictures"]["before"] == 7 * 10
    assert (tmp_path / "curation-set.png").is_file()
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    again = Casting(sources, seed=3, long_side=64, scratch=tmp_path).cast(Group("set", 5, 6))
    assert again.people == cast.people
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == stamps


def test_a_curation_that_leaves_too_few_says_what_to_raise(tmp_path: Path) -> None:
    sources = Sources(curation=True, settings={"curation.surplus": "1", "curation.faces": "drawn",
                                               "curation.identity_distance": "0.2"})  # fmt: skip
    with pytest.raises(RunError, match=r"curation-set\.json: the curation leaves .* raise --set curation\.surplus"):
        Casting(sources, seed=3, long_side=64, scratch=tmp_path).cast(Group("set", 3, 6))
    with pytest.raises(UserError, match=r"--set curation\.kep=1: the curation has no option"):
        Casting(Sources(settings={"curation.kep": "1"}), seed=1, long_side=64, scratch=tmp_path)


def test_a_wrong_setting_and_a_missing_model_are_told_before_a_picture_is_made(tmp_path: Path) -> None:
    for key, value, words in (
        ("keep", "2", r"curation\.keep=2: Input should be less than or equal to 1"),
        ("keep", "nan", r"curation\.keep=nan: Input should be"),
        ("surplus", "0.5", r"curation\.surplus=0\.5: Input should be greater than or equal to 1"),
        ("people_surplus", "inf", r"curation\.people_surplus=inf: Input should be less than"),
        ("min_pictures", "3", r"curation\.min_pictures: the preset says how many"),
    ):
        with pytest.raises(UserError, match=words):
            Casting(Sources(curation=True, settings={f"curation.{key}": value}), seed=1, long_side=64)
    with pytest.raises(UserError, match=r"curation\.keep: nothing is curated; add --curation, or drop it"):
        Casting(Sources(settings={"curation.keep": "0.5"}), seed=1, long_side=64)
    for key, value, words in (
        ("surplus", "400", r"curation\.surplus=400: makes 1,200 pictures of a person, and 999 can be numbered"),
        ("model", str(tmp_path / "absent"), "absent: no such checkpoint"),
        ("faces", "drwan", "there is no face model 'drwan'"),
        ("classifiers", "gender", "write KIND=MODEL"),
    ):
        sources = Sources(curation=True, settings={f"curation.{key}": value})
        with pytest.raises(UserError, match=words):
            Casting(sources, seed=1, long_side=64, scratch=tmp_path / "scratch").cast(Group("set", 2, 3))
    assert not (tmp_path / "scratch").exists()


def test_a_curation_may_be_set_anew_until_the_data_set_is_begun(micro: Preset, tmp_path: Path) -> None:
    few = {"identities": 4, "pictures": 4, "retain_joint": 4, "retain_disjoint": 20, "general_portraits": 3}
    small = dataclasses.replace(micro, world=dataclasses.replace(micro.world, **few))
    strict = {"curation.faces": "drawn", "curation.identity_distance": "0.01", "curation.surplus": "1.2"}
    kinder = {**strict, "curation.identity_distance": "0.9", "curation.people_surplus": "1.6"}
    out = tmp_path / "data"
    with pytest.raises(RunError, match=r"raise --set curation\.surplus"):
        build(small, out, workers=1, sources=Sources(curation=True, settings=strict))
    stamps = {path: path.stat().st_mtime_ns for path in (out / "stages" / "album").rglob("*.jpg")}
    assert {path.parent.name for path in stamps} == {f"{number:08d}" for number in range(6)}
    stranger = out / "stages" / "album" / "10000000" / "10000000_001_ar-1.00.jpg"
    stranger.parent.mkdir()
    stranger.write_bytes(b"of whoever she was before")
    for other in ({"seed": 7}, {"sources": Sources()}):
        with pytest.raises(UserError, match="other settings"):
            build(small, out, workers=1, **{"sources": Sources(curation=True, settings=kinder), **other})
    build(small, out, workers=1, sources=Sources(curation=True, settings=kinder))
    # A batch that gains a picture is drawn again whole: the last of those that stood.
    anew = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert len(anew) < len(stamps) / 2
    assert not stranger.is_file() or stranger.read_bytes() != b"of whoever she was before"
    facts = read_json(out / "manifest.json")["facts"]
    assert facts["counts"]["sensitive"] == 16
    assert facts["curation"]["curation-set"]["options"]["identity_distance"] == 0.9
    with pytest.raises(UserError, match="other settings"):
        build(small, out, workers=1, sources=Sources(curation=True, settings=strict))
