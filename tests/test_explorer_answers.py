"""What the explorer says of a model, against a naive reading of the same embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from encoders_world import checkpoint
from explorer_world import make_models, run_folder
from salmubench.atomic import write_text
from salmubench.dataset.pictures import decode_picture
from salmubench.dataset.schema import FIELDS, SENSITIVE_SPLITS
from salmubench.encoders.checkpoint import load_encoder
from salmubench.errors import UserError
from salmubench.reports.explorer.answers import Explorer, _largest
from salmubench.reports.explorer.columns import columns


@pytest.fixture
def explorer(explored: tuple[Explorer, Any]) -> Explorer:
    return explored[0]


def every_row(explorer: Explorer) -> list[tuple[int, str, str, str]]:
    """(picture, caption, identity, field) of every sensitive row."""
    sets, told = explorer.benchmark.sets, explorer.benchmark.captions
    return [
        (int(pairs.picture[row]), pairs.text[row], str(pairs.identity_id[row]), told[pairs.file_name[row]].data_field)
        for pairs in (sets[name] for name in SENSITIVE_SPLITS)
        for row in range(len(pairs))
    ]


def test_answers_are_those_of_a_naive_reading(explorer: Explorer) -> None:
    rows = every_row(explorer)
    texts = sorted({text for _, text, _, _ in rows} | set(explorer.benchmark.sets["retain_synth"].text))
    people = explorer.benchmark.identities
    encoder = explorer.encoders[1]
    embedded = dict(zip(texts, encoder.encode_texts(texts), strict=True))
    for picture, caption, identity, _ in rows[::17]:
        vector = encoder.encode_pictures([("", explorer.benchmark.pictures.read(picture))], 1)[0]
        answer = explorer.from_picture(picture)
        assert answer["person"]["name"] == people[identity]["name"]
        assert answer["person"]["facts"] == {field: people[identity][field] for field in FIELDS}
        told = answer["models"][1]
        cosine = {text: float(embedded[text] @ vector) for text in texts}
        assert told["of"] == len(texts)
        assert told["rank"] == 1 + sum(value > cosine[caption] + 1e-6 for value in cosine.values())
        assert [each["cosine"] for each in told["captions"]] == pytest.approx(sorted(cosine.values())[:-6:-1], abs=2e-4)
        right = 0
        for field in told["fields"]:
            best = {who: max(cosine[text] for _, text, them, what in rows if (them, what) == (who, field["field"]))
                    for who in {them for _, _, them, what in rows if what == field["field"]}}  # fmt: skip
            first = max(best, key=lambda who: best[who])
            assert field["of"] == len(best)
            assert field["best"]["value"] == people[first][field["field"]]
            assert field["best"]["name"] == people[first]["name"]
            assert field["best"]["true"] == (first == identity)
            assert field["true"]["value"] == people[identity][field["field"]]
            assert field["true"]["rank"] == 1 + sum(value > best[identity] for value in best.values())
            right += first == identity
        assert told["given_away"] == right
        assert [each["own"] for each in told["captions"]] == [each["text"] == caption for each in told["captions"]]


def test_an_uploaded_picture_of_the_set_gets_the_answer_of_that_picture(explorer: Explorer) -> None:
    picture = explorer.first
    opened = decode_picture(explorer.benchmark.pictures.read(picture), "upload")
    known, upload = explorer.from_picture(picture), explorer.from_upload(opened)
    assert upload["person"] is None
    for one, other in zip(known["models"], upload["models"], strict=True):
        assert [each["text"] for each in one["captions"]] == [each["text"] for each in other["captions"]]
        assert [each["best"]["value"] for each in one["fields"]] == [each["best"]["value"] for each in other["fields"]]
        assert not any(each["best"]["true"] or each["true"] for each in other["fields"])
        assert other["rank"] is None


def test_a_thin_or_grey_upload_is_encoded_as_well(explorer: Explorer) -> None:
    answer = explorer.from_upload(Image.new("RGB", (8, 60), "grey"))
    assert len(answer["models"]) == 4


def test_a_name_finds_faces_and_marks_the_right_ones(explorer: Explorer) -> None:
    person = explorer.person_list()[0]
    answer = explorer.from_name(f" {person['name'].upper()} ")
    mine = {each["picture"] for each in explorer.person(person["id"])["pictures"]}
    assert answer["known"]
    for encoder, told in zip(explorer.encoders, answer["models"], strict=True):
        cosines = [face["cosine"] for face in told["faces"]]
        assert cosines == sorted(cosines, reverse=True)
        assert [face["true"] for face in told["faces"]] == [face["picture"] in mine for face in told["faces"]]
        assert told["found"] == sum(face["true"] for face in told["faces"])
        text = encoder.encode_texts([f" {person['name'].upper()} "])[0]
        every = [encoder.encode_pictures([("", explorer.benchmark.pictures.read(int(n)))], 1)[0] @ text
                 for n in explorer.faces.index]  # fmt: skip
        assert cosines[0] == pytest.approx(max(every), abs=2e-4)
    assert not explorer.from_name("nobody at all")["known"]


def test_everybody_has_a_card_and_a_face_of_their_own(explorer: Explorer) -> None:
    people = explorer.person_list()
    assert len(people) == 8
    assert [each["name"] for each in people] == sorted(each["name"] for each in people)
    for each in people:
        card = explorer.person(each["id"])
        assert len(card["pictures"]) == 12
        assert each["picture"] in {picture["picture"] for picture in card["pictures"]}
    assert explorer.has(explorer.first)
    assert not explorer.has(len(explorer.benchmark.pictures) + 5)
    retain = explorer.benchmark.sets["retain_synth"].picture
    assert not any(explorer.has(int(number)) for number in retain)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 12))
def test_the_largest_come_in_order_and_the_first_of_equals_first(values: list[int], count: int) -> None:
    naive = sorted(range(len(values)), key=lambda place: (-values[place], place))[:count]
    assert _largest(np.array(values, np.float32), count) == naive


def test_budgets_of_one_method_share_a_column(tmp_path: Path) -> None:
    models = make_models(tmp_path)
    start = load_encoder(models[0], device="cpu").weights_sha256
    models.append(run_folder(tmp_path / "other", 9, 1, start, seed=7))
    encoders = [load_encoder(path, device="cpu") for path in models]
    shown = columns([str(path) for path in models], encoders)
    assert [column["title"] for column in shown] == ["Compromised", "Clean", "delete", "delete 1×"]
    assert [column["role"] for column in shown] == ["compromised", "clean", "", ""]
    assert [(step["label"], step["model"]) for step in shown[2]["steps"]] == [("0×", 0), ("1×", 3), ("2×", 2)]
    alone = columns([str(path) for path in models[2:4]], encoders[2:4])
    assert [step["label"] for step in alone[0]["steps"]] == ["1×", "2×"]


def test_models_of_one_name_are_told_apart_and_a_broken_record_is_named(tmp_path: Path) -> None:
    paths = [checkpoint(tmp_path / name / "mine") for name in "ab"]
    encoders = [load_encoder(path, device="cpu") for path in paths]
    assert len({column["title"] for column in columns(["x", "y"], encoders)}) == 2
    write_text(paths[0] / "record.json", "{")
    with pytest.raises(UserError, match=r"record\.json: not valid JSON"):
        columns([str(path) for path in paths], encoders)
    for foreign in ("[1]", '{"method": 3}', '{"method": "x", "budget": "much"}'):
        write_text(paths[0] / "record.json", foreign)
        assert columns([str(paths[0])], encoders[:1])[0]["title"] == "mine"
