"""The statistics' kernels against plain oracles, and the page that `data check --statistics` writes."""

import io
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from encoders_world import checkpoint
from salmubench.cli import app
from salmubench.dataset import statistics as stats
from salmubench.dataset.store import load_benchmark
from salmubench.encoders.checkpoint import load_encoder
from salmubench.errors import UserError
from salmubench.personas.validation import PORTRAIT_PROMPT, statistics

values = st.lists(st.integers(0, 6), min_size=2, max_size=25)


@settings(max_examples=60, deadline=None)
@given(values, values)
def test_samples_are_compared_as_their_definitions_say(one: list[int], other: list[int]) -> None:
    found = stats.compare_samples("x", np.array(one, float), np.array(other, float))
    wins = sum((a > b) - (a < b) for a in one for b in other)
    assert found.delta == pytest.approx(wins / (len(one) * len(other)))
    gaps = [abs(np.mean([a <= t for a in one]) - np.mean([b <= t for b in other])) for t in {*one, *other}]
    assert found.statistic == pytest.approx(max(gaps))
    assert 0 <= found.p <= 1


def test_an_attribute_that_tells_the_group_is_found_and_one_that_does_not_is_not() -> None:
    groups = ["a", "b"] * 200
    telling = stats.independence("x", groups, [{"a": "red", "b": "blue"}[group] for group in groups])
    silent = stats.independence("x", groups, ["red" if place % 4 < 2 else "blue" for place in range(400)])
    assert telling is not None
    assert silent is not None
    assert telling.cramers_v == pytest.approx(1, abs=0.02)
    assert telling.p < 1e-10
    assert silent.cramers_v == pytest.approx(0)
    assert stats.independence("x", groups, [str(place) for place in range(400)]) is None  # every value is rare


def test_a_perceptual_hash_survives_what_the_eye_does_not_mind() -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((96, 64)) for _ in range(12)]
    hashes = [stats.perceptual_hash(picture) for picture in pictures]
    stream = io.BytesIO()
    for picture, bits in zip(pictures, hashes, strict=True):
        stream = io.BytesIO()
        picture.resize((80, 50)).save(stream, "JPEG", quality=60)
        assert (stats.perceptual_hash(Image.open(stream)) ^ bits).bit_count() <= 6
    assert min((one ^ other).bit_count() for one, other in combinations(hashes, 2)) > 12


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2)), max_size=12))
def test_near_twins_are_those_of_other_people(entries: list[tuple[int, int]]) -> None:
    expected = sum(
        any(owner != other and (bits ^ others).bit_count() <= 2 for others, other in entries) for bits, owner in entries
    )
    assert stats.near_twins([bits for bits, _ in entries], [str(owner) for _, owner in entries], 2) == expected


def test_duplicates_count_twins_and_those_across_owners() -> None:
    found = stats.duplicates("x", [("k", "a", "1"), ("k", "a", "2"), ("l", "a", "3"), ("l", "b", "4"), ("m", "a", "5")])
    assert (found.total, found.repeated, found.across) == (5, 4, 2)
    assert found.example == "3 (a) and 4 (b)"


def test_verification_knows_separable_people_from_chance() -> None:
    rng = np.random.default_rng(0)
    people = [str(who) for who in range(20) for _ in range(5)]
    centres = rng.standard_normal((20, 16))
    for spread, low, high in ((0.1, 0.999, 1.0), (1000.0, 0.45, 0.55)):
        vectors = np.repeat(centres, 5, axis=0) + spread * rng.standard_normal((100, 16))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        found = stats.verification_auc(vectors, people)
        assert found is not None
        assert low <= found <= high
    assert stats.verification_auc(vectors[:5], people[:5]) is None


def test_the_page_and_the_json_are_written(world: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "check", str(world), "--statistics", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert found["people"] == {"halved": 4, "forgotten": 2, "held out": 2}
    assert sum(sum(counts.values()) for counts in found["balance"].values()) == 64
    names = {entry["what"]: entry for entry in found["duplicates"]}
    assert names["values of iban, across people"]["repeated"] == 0
    assert names["captions, across splits"]["total"] == 64
    page = (tmp_path / "out" / "index.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert "name a checkpoint" in page
    assert found["independence"] == []
    assert "Too few people and rows for any test" in page
    assert "--paper: #ffffff" in page
    assert "{%" not in page


def test_a_model_compares_the_sets_and_real_portraits_by_its_own_cosines(world: Path, tmp_path: Path) -> None:
    model, out = checkpoint(tmp_path / "model"), tmp_path / "out"
    benchmark = load_benchmark(world)
    forget, joint = benchmark.sets["forget"], benchmark.sets["retain_joint"]
    (tmp_path / "real" / "deep").mkdir(parents=True)
    shown = [benchmark.pictures.read(int(index)) for index in joint.picture[:3]]
    for number, image in enumerate(shown):
        (tmp_path / "real" / ("deep" if number else "") / f"{number}.JPG").write_bytes(image)
    (tmp_path / "real" / "terms.txt").write_text("no picture")
    flags = ["--statistics", str(out), "--model", str(model), "--real-portraits", str(tmp_path / "real")]
    result = CliRunner().invoke(app, ["data", "check", str(world), *flags])
    assert result.exit_code == 0, result.output
    found = json.loads((out / "statistics.json").read_text())
    compared = {entry["name"]: entry for entry in found["similarity"]}
    assert list(compared) == [
        "forget and holdout_association: picture to its caption",
        "forget and holdout_identity: picture to its caption",
        "retain_joint and retain_disjoint: picture to its caption",
        "forget and retain_joint: picture to its caption",
        f"forget and real portraits: picture to {PORTRAIT_PROMPT!r}",
    ]
    encoder = load_encoder(str(model))

    def encoded(images: list[bytes]) -> np.ndarray:
        return encoder.encode_pictures(((str(n), image) for n, image in enumerate(images)), len(images))

    images = [benchmark.pictures.read(int(index)) for index in forget.picture]
    own = (encoded(images) * encoder.encode_texts(list(forget.text))).sum(axis=1)
    entry = compared["forget and holdout_identity: picture to its caption"]
    assert entry["sizes"] == [len(forget), len(benchmark.sets["holdout_identity"])]
    assert entry["means"][0] == pytest.approx(own.mean(), abs=1e-5)
    prompt = encoder.encode_texts([PORTRAIT_PROMPT])[0]
    entry = compared[f"forget and real portraits: picture to {PORTRAIT_PROMPT!r}"]
    expected = stats.compare_samples("", encoded(images) @ prompt, encoded(shown) @ prompt)
    assert entry["sizes"] == [len(forget), 3]
    assert entry["means"] == pytest.approx(expected.means, abs=1e-5)
    assert entry["delta"] == pytest.approx(expected.delta, abs=0.02)
    assert 0 <= entry["p"] <= 1
    assert 0 <= found["verification_auc"] <= 1
    page = (out / "index.html").read_text()
    assert "forget and real portraits" in page
    assert "area under the ROC curve" in page


def test_a_flag_without_effect_and_a_missing_input_are_told_before_the_check(world: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = ["--statistics", str(tmp_path / "out")]
    model = ["--model", str(tmp_path / "empty")]
    for flags, words in (
        (["--real-portraits", str(tmp_path)], "--real-portraits: belongs to --statistics; run that, or drop"),
        (["--model", "m"], "--model: belongs to --statistics or --retain; run that, or drop"),
        (["--retain", *out], "--statistics: belongs to the check without --retain; run that, or drop"),
        ([*out, "--real-portraits", str(tmp_path)], "needs a model; name one with --model"),
        ([*out, *model], "holds no checkpoint"),
        ([*out, *model, "--real-portraits", str(tmp_path / "empty")], "holds no picture"),
        (["--statistics", str(world / "build.json")], "is a file"),
    ):
        result = CliRunner().invoke(app, ["data", "check", str(world), *flags])
        assert isinstance(result.exception, UserError), flags
        assert words in str(result.exception)
        assert not result.output
    assert not (tmp_path / "out").exists()


def test_real_portraits_need_a_model(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--real-portraits: .* --model"):
        statistics(world, real_portraits=tmp_path)
