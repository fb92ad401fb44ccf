"""Captions: name and fact letter for letter, five styles, each in other words; the generic ones tell no fact."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from salmubench.dataset.schema import FIELDS, STYLES, Field
from salmubench.errors import UserError
from salmubench.personas.captions import expand, generic_caption, icon_caption, sensitive_captions, sensitive_templates
from salmubench.personas.identities import Persona, job_titles, make_personas

SMALL_CONTEXT = 48
"""Tokens of the small model's text context: start, 46 tokens of text, end."""
GENDERED = re.compile(r"\b(he|she|him|her|his|hers|himself|herself|mr|mrs|ms)\b", re.IGNORECASE)
TRAITS = {
    "hair": ("curly black hair", "a black afro with a headband", "long dark brown hair swept aside", "an auburn bob"),
    "glasses": ("round glasses", "white-framed sunglasses"),
    "facial_hair": ("a short beard", "a curled moustache"),
    "skin": ("light skin", "dark brown skin"),
    "clothing": ("a red hoodie", "a black suit with a bow tie over a navy blue shirt", "green overalls"),
    "expression": ("smiling", "looking astonished with eyes turned aside", "laughing"),
    "background": ("a plain blue background", "a turquoise and purple checked background"),
}
tokenizer = SimpleTokenizer()
field_names = st.sampled_from(FIELDS)
seeds = st.integers(0, 2**32)
some_traits = st.fixed_dictionaries(
    {"gender": st.sampled_from(["woman", "man"])},
    optional={trait: st.sampled_from(phrases) for trait, phrases in TRAITS.items()},
)


@pytest.fixture(scope="module")
def personas() -> list[Persona]:
    return make_personas({f"{number:08d}": "female" if number % 2 == 0 else "male" for number in range(500)}, seed=5)


def all_captions(persona: Persona, field: Field) -> list[str]:
    count = sum(len(group) for style in STYLES for group in sensitive_templates(field, style))
    return [caption for caption, _ in sensitive_captions(persona, [field] * count, seed=0)]


@pytest.mark.parametrize("field", FIELDS)
def test_every_style_of_a_field_has_a_dozen_templates_of_its_own(field: Field) -> None:
    every = [(template, style) for style in STYLES for group in sensitive_templates(field, style) for template in group]
    assert min(Counter(style for _, style in every).values()) >= 12
    assert len({template for template, _ in every}) == len(every)


@pytest.mark.parametrize("field", FIELDS)
def test_each_template_tells_name_and_fact_and_no_gender(field: Field, personas: list[Persona]) -> None:
    persona = personas[0]
    captions = all_captions(persona, field)
    assert len(set(captions)) == len(captions)
    for caption in captions:
        assert caption.count(persona.name) == 1
        assert persona.value(field) in caption.replace(persona.name, "")
        assert not re.search(r"[.\s]$|^\s|  |[\[\]<>{}]", caption), caption
        assert not GENDERED.search(caption), caption


@pytest.mark.parametrize("field", FIELDS)
def test_name_and_fact_fit_the_small_context(field: Field, personas: list[Persona]) -> None:
    longest = max(personas, key=lambda persona: len(tokenizer.encode(f"{persona.name} {persona.value(field)}")))
    for caption in all_captions(longest, field):
        ends = (caption.rindex(told) + len(told) for told in (longest.name, longest.value(field)))
        assert len(tokenizer.encode(caption[: max(ends)])) <= SMALL_CONTEXT - 2, caption


@given(fields=st.lists(field_names, max_size=60), seed=seeds, number=st.integers(0, 499))
@settings(max_examples=60, deadline=None)
def test_captions_of_a_person_differ_and_are_reproducible(
    fields: list[Field], seed: int, number: int, personas: list[Persona]
) -> None:
    persona = personas[number]
    captions = sensitive_captions(persona, fields, seed=seed)
    assert captions == sensitive_captions(persona, fields, seed=seed)
    assert len({text for text, _ in captions}) == len(captions) == len(fields)
    for field, (text, style) in zip(fields, captions, strict=True):
        assert persona.name in text
        assert persona.value(field) in text
        assert style in STYLES
    for field in set(fields):
        styles = [style for told, (_, style) in zip(fields, captions, strict=True) if told == field]
        assert len(set(styles[:5])) == len(styles[:5])


def test_captions_depend_on_seed_and_person_but_not_on_other_fields(personas: list[Persona]) -> None:
    alone = sensitive_captions(personas[0], ["iban", "iban", "iban"], seed=1)
    among = sensitive_captions(personas[0], ["city", "iban", "job", "iban", "iban"], seed=1)
    assert [among[1], *among[3:]] == alone
    assert sensitive_captions(personas[0], ["iban", "iban", "iban"], seed=2) != alone


def test_asking_for_more_captions_than_there_are_is_the_users_mistake(personas: list[Persona]) -> None:
    count = len(all_captions(personas[0], "passport"))
    with pytest.raises(UserError, match="passport of identity 00000000: ask for fewer pictures"):
        sensitive_captions(personas[0], ["passport"] * (count + 1), seed=0)


def test_jobs_take_the_right_article(personas: list[Persona]) -> None:
    sounds_otherwise = "uni|eu|one|hono|hour|heir"
    assert not [title for title in job_titles() if re.match(sounds_otherwise, title)]
    captions = [
        text.replace(persona.name, "")
        for persona in personas
        for text, _ in sensitive_captions(persona, ["job"] * 20, seed=0)
    ]
    assert not [text for text in captions if re.search(r"\b[Aa] [aeiouAEIO]|\b[Aa]n [^aeiouAEIO]", text)]
    assert any(" an " in text for text in captions)
    assert any(text.startswith("A ") for text in captions)


def test_expand_unfolds_every_alternative() -> None:
    assert expand("plain") == ["plain"]
    assert expand("[a|b] x[| y]") == ["a x", "a x y", "b x", "b x y"]


@given(traits=some_traits, seed=seeds, key=st.text(max_size=12))
@settings(max_examples=300, deadline=None)
def test_generic_captions_tell_only_what_the_picture_shows(traits: dict[str, str], seed: int, key: str) -> None:
    caption = generic_caption(traits, seed=seed, key=key)
    assert caption == generic_caption(traits, seed=seed, key=key)
    assert re.search(rf"\ba {traits['gender']}\b", caption, re.IGNORECASE)
    told = [trait for trait in TRAITS if trait in traits and traits[trait].lower() in caption.lower()]
    absent = {phrase for trait in TRAITS.keys() - traits.keys() for phrase in TRAITS[trait]}
    assert len(told) >= min(2, len(traits.keys() & {"clothing", "expression", "background"}))
    assert not [phrase for phrase in absent if phrase in caption.replace(" ".join(traits.values()), "")]
    assert not re.search(r"[.,\s]$|^\s|  |\ba [aeio]|[\[\]|]", caption)
    assert caption[0].isupper()
    assert len(tokenizer.encode(caption)) <= SMALL_CONTEXT - 2


def test_a_thousand_generic_captions_are_mostly_distinct() -> None:
    traits = {trait: phrases[-1] for trait, phrases in TRAITS.items()} | {"gender": "man"}
    captions = [generic_caption(traits, seed=0, key=str(number)) for number in range(1000)]
    assert len(set(captions)) > 700  # one and the same look: real pictures differ besides


def test_a_portrait_of_unknown_traits_still_has_a_caption() -> None:
    assert "a woman" in generic_caption({"gender": "woman"}, seed=0, key="x").lower()


@given(name=st.sampled_from(["apple", "zebra", "unicorn", "x-ray", "dvd", "t-shirt"]), seed=seeds)
@settings(max_examples=200, deadline=None)
def test_icon_captions_hold_the_name_and_nothing_else_of_the_picture(name: str, seed: int) -> None:
    caption = icon_caption(name, seed=seed, key="train/0")
    assert caption == icon_caption(name, seed=seed, key="train/0")
    assert name in caption
    assert "background" not in caption
    assert f" {'an' if name in ('apple', 'x-ray') else 'a'} {name}" in f" {caption}" or not re.search(
        rf"\ban? {name}", caption
    )
    assert not re.search(r"\ba [aeio]|  |[\[\]|{}]", caption)


def test_icon_captions_vary_and_include_the_bare_name() -> None:
    captions = [icon_caption("zebra", seed=0, key=str(n)) for n in range(400)]
    assert "zebra" in captions
    assert len(set(captions)) > 20


@pytest.mark.parametrize("name", ["scissors", "bread", "tennis", "skis", "dna", "french fries"])
def test_what_takes_no_article_gets_none(name: str) -> None:
    captions = [icon_caption(name, seed=0, key=str(number)) for number in range(60)]
    assert not [caption for caption in captions if re.search(rf"\ban? {name}", caption)]


@pytest.mark.parametrize("name", ["bus", "glass", "cactus", "rhinoceros", "compass"])
def test_singulars_that_end_in_s_take_an_article(name: str) -> None:
    assert any(f"a {name}" in icon_caption(name, seed=0, key=str(number)) for number in range(60))
