"""Retain pairs that tell of a sensitive person are found, whatever the spelling; others are left alone."""

import io
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rapidfuzz.distance import Levenshtein
from typer.testing import CliRunner

from salmubench.cli import app
from salmubench.dataset.contamination import UNIQUE_FIELDS, Texts, difference_hash, words_of
from salmubench.dataset.pictures import decode_picture
from salmubench.dataset.retain import CaptionedPicture, read_shards, write_shards
from salmubench.dataset.retain_check import check_retain
from salmubench.dataset.sides import read_identities
from salmubench.dataset.store import load_benchmark, load_split
from salmubench.errors import UserError

PEOPLE = {
    "00000001": {
        "name": "José O’Neil-Peña", "phone_number": "+34 912 345 678", "emails": "j.oneil@example.org",
        "iban": "ES91 2100 0418 4502 0005 1332", "credit_card": "4000 0000 0000 0119", "passport": "XK12345678",
        "city": "Toledo", "job": "Baker", "blood_type": "B+",
    },
    "00000002": {"name": "Li Na", "phone_number": "+86 10 5550 0199"},
}  # fmt: skip
TEXTS = Texts(PEOPLE)
SEPARATORS = [" ", "-", ".", "/", "_", ", ", "\u00a0", "\u200b", " - ", "(", ")"]


def _found(caption: str, texts: Texts = TEXTS) -> set[tuple[str, str]]:
    return {(value.who, value.field) for value in texts.find(caption)}


planted = st.sampled_from([(who, field) for who, facts in PEOPLE.items() for field in UNIQUE_FIELDS if field in facts])
filler = st.lists(
    st.sampled_from(
        ["a", "photo", "of", "red", "apple", "on", "the", "old", "table", "near", "42", "houses", "by", "Ana"]
    ),
    max_size=8,
)


@settings(deadline=None)
@given(planted=planted, before=filler, after=filler, rng=st.randoms(use_true_random=False))
def test_a_planted_value_is_found_in_any_spelling(
    planted: tuple[str, str], before: list[str], after: list[str], rng: random.Random
) -> None:
    who, field = planted
    letters = [rng.choice((str.upper, str.lower, str))(letter) for letter in PEOPLE[who][field] if letter.isalnum()]
    value = "".join(letter + (rng.choice(SEPARATORS) if rng.random() < 0.3 else "") for letter in letters)
    assert planted in _found(" ".join([*before, value, *after]))


@settings(deadline=None)
@given(words=filler)
def test_clean_captions_are_left_alone(words: list[str]) -> None:
    assert not _found(" ".join(words))


@pytest.mark.parametrize(
    "caption",
    [
        "A baker in Toledo with blood type B+",  # many people's facts
        "José lives here",  # half a name
        "the violina concert",  # a short name inside a word
        "call +34 912 345",
        "",
    ],
)
def test_what_tells_no_person_is_left_alone(caption: str) -> None:
    assert not _found(caption)


@pytest.mark.parametrize(
    ("caption", "field"),
    [
        ("Jose ONeill Pena bakes", "name"),  # a letter too many
        ("tel 0034912345678", "phone_number"),  # inside a longer number
        ("ES91 2100 0418 4502 0006 1332", "iban"),  # a digit off
        ("ＪＯＳÉ O'NEIL PEÑA", "name"),
    ],
)
def test_slips_are_forgiven(caption: str, field: str) -> None:
    assert ("00000001", field) in _found(caption)
    if "0006" in caption or "ONeill" in caption:
        assert not _found(caption, Texts(PEOPLE, fuzzy=101))


@settings(deadline=None, max_examples=60)
@given(place=st.integers(0, 100), letter=st.sampled_from("0123456789"), who=st.sampled_from(sorted(PEOPLE)))
def test_a_single_wrong_digit_is_found_where_the_similarity_says_so(place: int, letter: str, who: str) -> None:
    run = "".join(words_of(PEOPLE[who]["phone_number"]))
    place %= len(run)
    slipped = run[:place] + letter + run[place + 1 :]
    similarity = 100 * (1 - Levenshtein.distance(run, slipped) / len(run))
    if similarity == 100 or similarity - 100 / len(run) >= TEXTS.fuzzy:
        assert (who, "phone_number") in _found(f"call {slipped} now")


def _copy(encoded: bytes) -> bytes:
    picture = decode_picture(encoded, "")
    stream = io.BytesIO()
    picture.resize((picture.width * 3 // 4, picture.height * 3 // 4)).save(stream, "JPEG", quality=70)
    return stream.getvalue()


@pytest.fixture(scope="module")
def contaminated(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's retain shards with five planted pairs: a file, its copy, a name, a number and a broken picture."""
    pairs = list(read_shards(world / "retain_real"))
    sensitive, pictures = load_split(world / "salmu", "sensitive")
    person = read_identities(world / "salmubench")[str(sensitive.identity_id[0])]
    mine = pictures.read(int(sensitive.picture[0]))
    clean = pairs[0].image
    planted = [
        CaptionedPicture("file", mine, "a face"),
        CaptionedPicture("copy", _copy(pictures.read(int(sensitive.picture[5]))), "a face"),
        CaptionedPicture("name", clean, f"here is {person['name'].upper()}!"),
        CaptionedPicture("number", clean, "call " + ".".join(words_of(person["phone_number"]))),
        CaptionedPicture("broken", b"no picture", "a face"),
    ]
    folder = tmp_path_factory.mktemp("contaminated")
    write_shards(folder, [*pairs[:7], *planted[:3], *pairs[7:], *planted[3:]], pairs_per_shard=9)
    return folder


def test_planted_pairs_are_reported_and_filtered(world: Path, contaminated: Path, tmp_path: Path) -> None:
    asked = ["data", "check", str(world), "--retain", "--retain-shards", str(contaminated)]
    report, out = tmp_path / "report.jsonl", tmp_path / "clean"
    done = CliRunner().invoke(app, [*asked, "--report", str(report), "--out", str(out)])
    assert done.exit_code == 0, done.output
    *lines, summary = map(json.loads, report.read_text().splitlines())
    assert {(line["key"], line["kind"]) for line in lines} == {
        ("file", "picture"), ("copy", "picture"), ("name", "caption"), ("number", "caption"), ("broken", "broken"),
    }  # fmt: skip
    assert all(line["shard"].startswith(str(contaminated)) and line["reason"] for line in lines)
    assert summary["summary"]["offenders"] == 5
    kept = [(pair.key, pair.image, pair.text) for pair in read_shards(out)]
    assert kept == [(pair.key, pair.image, pair.text) for pair in read_shards(world / "retain_real")]
    again = CliRunner().invoke(app, ["data", "check", str(world), "--retain", "--retain-shards", str(out)])
    assert (again.exit_code, "0 of" in again.output) == (0, True)
    assert CliRunner().invoke(app, asked).exit_code == 1
    with pytest.raises(UserError, match="holds shards already"):
        check_retain(world, shards=[str(contaminated)], out=out)


def test_our_own_retain_pairs_are_clean(world: Path) -> None:
    found = check_retain(world)
    assert found.passed, found.first
    synthetic = load_split(world / "salmubench", "retain_synth")[0]
    assert found.pairs == len(list(read_shards(world / "retain_real"))) + len(synthetic)


def test_no_value_is_repeated_in_the_report(world: Path, contaminated: Path, tmp_path: Path) -> None:
    check_retain(world, shards=[str(contaminated)], report=tmp_path / "r")
    text = (tmp_path / "r").read_text()
    for facts in read_identities(world / "salmubench").values():
        assert not any(facts[field] in text for field in UNIQUE_FIELDS)


def test_a_models_eye_is_asked_too(world: Path) -> None:
    """An embedding that calls everything alike makes every pair an offender; one that tells them apart, none."""

    def alike(pictures: Sequence[tuple[str, bytes]]) -> np.ndarray:
        return np.ones((len(pictures), 1), np.float32)

    def apart(pictures: Sequence[tuple[str, bytes]]) -> np.ndarray:
        sensitive = ["forget" in where or "holdout" in where for where, _ in pictures]
        return np.eye(2, dtype=np.float32)[np.array(sensitive, dtype=int)]

    found = check_retain(world, embed=alike)
    assert found.offenders == found.pairs
    assert check_retain(world, embed=apart).passed


def test_the_hash_is_of_neighbours_brightness() -> None:
    ramp = Image.fromarray(np.tile(np.arange(90, 0, -10, dtype=np.uint8), (8, 1)))
    assert difference_hash(ramp) == 2**64 - 1
    assert difference_hash(ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == 0


def test_damage_is_said(world: Path, contaminated: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes((contaminated / "00000.tar").read_bytes()[:3000])
    with pytest.raises(UserError, match="cannot be read to its end"):
        check_retain(world, shards=[str(cut)])
    assert "belongs to --retain" in str(CliRunner().invoke(app, ["data", "check", str(world), "--out", "x"]).exception)
    assert load_benchmark(world)
