"""The texts of the attacks: true and false, in words that the captions know, never those that were trained."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salmubench.dataset.schema import FIELDS, SENSITIVE_SPLITS, STYLES, CaptionInfo, Field
from salmubench.dataset.store import Benchmark, PairSet, load_benchmark
from salmubench.personas.captions import fill, sensitive_templates
from salmubench.studies.wordings import WORDINGS, Rivals, Row, Wordings, prompts, rows_of, swap, unseen_templates


@pytest.fixture(scope="module")
def benchmark(world: Path) -> Benchmark:
    return load_benchmark(world)


@pytest.fixture(scope="module")
def rivals(benchmark: Benchmark) -> Rivals:
    return Rivals(benchmark, seed=42)


@pytest.fixture(scope="module")
def told(benchmark: Benchmark) -> list[Row]:
    return rows_of(benchmark, benchmark.sets["forget"])


def words(templates: list[str]) -> set[str]:
    return {word.lower() for template in templates for word in re.findall(r"[\w-]+", re.sub(r"\{\w+\}", " ", template))}


def grammar(data_field: Field) -> list[str]:
    return [t for style in STYLES for group in sensitive_templates(data_field, style) for t in group]


@pytest.mark.parametrize("data_field", FIELDS)
def test_unseen_templates_are_new_and_of_known_words(data_field: Field) -> None:
    new = list(unseen_templates(data_field))
    assert set(new).isdisjoint(grammar(data_field))
    known = words([template for each in FIELDS for template in grammar(each)])
    assert words([*new, *prompts(data_field)]) <= known
    assert all("{name}" in template and "{value}" in template for template in new)
    assert all("{name}" not in prompt for prompt in prompts(data_field))


def test_no_rival_is_the_person_s_own_and_no_invented_value_is_anyone_s(benchmark: Benchmark, rivals: Rivals) -> None:
    taken = {part: {person[part].casefold() for person in benchmark.identities.values()} for part in (*FIELDS, "name")}
    for identity, person in benchmark.identities.items():
        invented = rivals.invented(identity)
        for part in (*FIELDS, "name"):
            others = rivals.others(identity, part)
            assert person[part] not in others
            assert {value.casefold() for value in others} <= taken[part]
            assert len(set(others)) == len(others)
            assert taken[part].isdisjoint(value.casefold() for value in invented[part])
        assert all(address.split("@")[0] == person["emails"].split("@")[0] for address in invented["emails"])
        assert all(number[:3] == person["iban"][:2] + number[2] for number in invented["iban"])
        assert len(invented["passport"]) == 8


def test_every_wording_tells_the_truth_beside_its_rivals(benchmark: Benchmark, rivals: Rivals, told: list[Row]) -> None:
    trained = {text for split in SENSITIVE_SPLITS for text in benchmark.sets[split].text}
    wordings = Wordings(benchmark, seed=42)
    for wording in WORDINGS:
        asked = wordings.ask(wording, told, rivals)
        for place, row in enumerate(told):
            text = asked.true[place]
            false = [slot[place] for slot in (*asked.other, *asked.invented) if slot[place] is not None]
            assert text not in false
            assert len(set(false)) == len(false)
            assert (row.value.lower() in text.lower()) == (wording != "name")
            assert (row.name in text) == (wording != "value")
            assert (text in trained) == (wording == "caption")
            if wording in ("paraphrase", "unseen", "reversed"):
                assert all(row.name in str(other) for other in false)
        assert asked == Wordings(benchmark, seed=42).ask(wording, told, Rivals(benchmark, seed=42))
    names = wordings.ask("name", told, rivals)
    assert any(
        slot[place] is not None and row.name not in str(slot[place])
        for slot in names.invented
        for place, row in enumerate(told)
    )


def test_a_paraphrase_is_of_a_style_that_the_fact_was_not_told_in(benchmark: Benchmark, rivals: Rivals) -> None:
    told = rows_of(benchmark, benchmark.sets["forget"])
    asked = Wordings(benchmark, seed=42).ask("paraphrase", told, rivals)
    for row, text in zip(told, asked.true, strict=True):
        used = {
            benchmark.captions[name].style
            for split in SENSITIVE_SPLITS
            for name, other in zip(
                benchmark.sets[split].file_name, rows_of(benchmark, benchmark.sets[split]), strict=True
            )
            if (other.identity, other.field) == (row.identity, row.field)
        }
        fresh = [style for style in STYLES if style not in used]
        assert any(
            fill(template, row.name, row.value) == text
            for style in fresh
            for group in sensitive_templates(row.field, style)
            for template in group
        )


def test_a_paraphrase_is_the_one_wording_that_was_not_trained(benchmark: Benchmark, rivals: Rivals) -> None:
    identity, person = next(iter(benchmark.identities.items()))
    *trained, left = [
        (fill(template, person["name"], person["passport"]), style)
        for style in STYLES
        for group in sensitive_templates("passport", style)
        for template in group
    ]
    names = tuple(f"{place}.jpg" for place in range(len(trained)))
    pairs = PairSet(
        "forget", np.arange(len(names)), tuple(text for text, _ in trained), (identity,) * len(names), names
    )
    captions = {name: CaptionInfo("passport", text, style) for name, (text, style) in zip(names, trained, strict=True)}
    sets = {"forget": pairs, "holdout_association": pairs.take("", []), "holdout_identity": pairs.take("", [])}
    world = replace(benchmark, sets=sets, captions=captions)
    asked = Wordings(world, seed=42).ask("paraphrase", rows_of(world, pairs.take("one", [0])), rivals)
    assert asked.true == (left[0],)


@pytest.mark.parametrize(
    ("caption", "value", "instead", "expected"),
    [
        ("Ana is an engineer", "engineer", "lawyer", "Ana is a lawyer"),
        ("A lawyer by trade: Ana", "lawyer", "engineer", "An engineer by trade: Ana"),
        ("Ana has A+ blood", "A+", "O-", "Ana has O- blood"),
        ("Call Ana on +49 30 12", "+49 30 12", "+351 2", "Call Ana on +351 2"),
        ("In omsk resides Ana", "Omsk", "Lisbon", "In Lisbon resides Ana"),
        (r"Ana: 1\1", r"1\1", r"2\g<0>", r"Ana: 2\g<0>"),
        ("Ana lives by the sea", "Omsk", "Lisbon", None),
    ],
)
def test_a_value_is_swapped_with_its_article(caption: str, value: str, instead: str, expected: str | None) -> None:
    assert swap(caption, value, instead) == expected


@given(before=st.text("xyz {}\\", max_size=5), value=st.text("AB+(.", min_size=1, max_size=4), after=st.text("xyz "))
def test_a_swap_there_and_back_is_the_caption(before: str, value: str, after: str) -> None:
    there = swap(before + value + after, value, "Q")
    assert there == f"{before}Q{after}"
    assert swap(there, "Q", value) == before + value + after
