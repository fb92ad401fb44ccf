"""Stage 4 of the five: unique, fictitious personal data, consistent with the country of each person."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache

from anyascii import anyascii
from faker.providers.job import Provider as FakerJobs

from salmubench.dataset.schema import Field
from salmubench.errors import UserError
from salmubench.personas.countries import LOCALES, country_name, draw_city, draw_name, likely_skin
from salmubench.personas.numbers import MAIL_DOMAINS, draw_card, draw_iban, draw_passport, draw_phone_number
from salmubench.personas.source import Gender
from salmubench.progress import Progress, silent
from salmubench.seeds import derive

BLOOD_TYPES: dict[str, float] = {
    "O+": 42, "A+": 31, "B+": 15, "AB+": 5, "O-": 3, "A-": 2.5, "B-": 1, "AB-": 0.5,
}  # fmt: skip
"""Shares of the world's population in per cent, as World Atlas gives them."""

_LONGEST_NAME = 20
"""Bytes of a full name, the units that CLIP's tokenizer merges: longer ones push a fact out of a context of 48."""

_ATTEMPTS = 2000
_SECOND_NAME_FROM = 20
"""The attempt from which every other gives a second given name: the list of Vietnam holds but 150 full names."""
_LONGEST_JOB = 40
_NO_TITLES = frozenset(
    {
        "Copy",
        "Land",
        "Make",
        "Sub",
        "Press sub",
        "Publishing copy",
        "Cabin crew",
        "Air cabin crew",
        "Best boy",
        "Solicitor, Scotland",
    }
)
"""Entries of Faker's list that were cut off at a hyphen, that name no single person, or that tell a gender."""


@dataclass(frozen=True)
class Persona:
    """A fictitious person: the anchor's identity and gender, a name, a country and the eight sensitive facts.

    Attributes:
        identity_id: the anchor's 8-digit number.
        name: given name and surname in Latin letters.
        country_code: ISO 3166 alpha-2.
        job: as one says it, lower case but for acronyms and proper names.
        phone_number: international format.
        emails: one address (the plural is the published field's name).
        iban: in groups of four.
        credit_card: 16 digits in groups of four.
        passport: country code and eight digits.
    """

    identity_id: str
    name: str
    gender: Gender
    country_code: str
    country: str
    city: str
    job: str
    blood_type: str
    phone_number: str
    emails: str
    iban: str
    credit_card: str
    passport: str

    def value(self, data_field: Field) -> str:
        """The fact that stands in ``data_field``."""
        return str(getattr(self, data_field))

    def metadata(self) -> dict[str, str]:
        """What the identities' side file holds of this person: everything but the identity, which is its key."""
        record = asdict(self)
        del record["identity_id"]
        return record


def make_personas(
    genders: Mapping[str, Gender],
    *,
    seed: int,
    skins: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> list[Persona]:
    """One persona for each identity, in the order of ``genders``; nobody shares a name, address or number.

    Countries are dealt out in rounds, so that a small set spans as many as it has people; within a round a face is
    likelier to get a country whose people look so. Each person is drawn from a generator of their own; one who clashes
    with a person of smaller identity id is drawn again.

    Args:
        genders: identity id -> gender of the anchor's face.
        seed: the world's seed.
        skins: identity id -> tone of the anchor's skin, where it is known.
        progress: shows the people.

    Raises:
        UserError: there are too many people for the countries' names and number ranges.
    """
    taken: set[str] = set()
    personas: dict[str, Persona] = {}
    with progress("inventing identities", len(genders)) as advance:
        for identity, country in _deal_countries(sorted(genders), skins or {}, seed).items():
            personas[identity] = _draw_unclaimed(identity, genders[identity], country, seed, taken)
            taken.update(_unique_values(personas[identity]))
            advance(1)
    return [personas[identity] for identity in genders]


def _deal_countries(identities: Sequence[str], skins: Mapping[str, str], seed: int) -> dict[str, str]:
    """identity id -> country: each takes one of those that are left in the round."""
    dealt: dict[str, str] = {}
    left: list[str] = []
    for identity in identities:
        left = left or sorted(LOCALES)
        weights = [likely_skin(country, skins.get(identity, "")) for country in left]
        dealt[identity] = random.Random(derive(seed, "personas", identity, "country")).choices(left, weights)[0]
        left.remove(dealt[identity])
    return dealt


def _unique_values(persona: Persona) -> list[str]:
    """What no two people may share; names count as one where they differ in accents alone."""
    return [
        anyascii(persona.name).lower(),
        persona.phone_number,
        persona.emails,
        persona.iban,
        persona.credit_card,
        persona.passport,
    ]


def _draw_unclaimed(identity: str, gender: Gender, country: str, seed: int, taken: set[str]) -> Persona:
    for attempt in range(_ATTEMPTS):
        chance = random.Random(derive(seed, "personas", identity, attempt))
        given_names = 2 if attempt >= _SECOND_NAME_FROM and attempt % 2 else 1
        persona = _draw(identity, gender, country, chance, given_names=given_names)
        if len(persona.name.encode()) <= _LONGEST_NAME and taken.isdisjoint(_unique_values(persona)):
            return persona
    raise UserError(
        f"{country_name(country)} has no name or number left for identity {identity}: ask for fewer identities"
    )


def _draw(identity: str, gender: Gender, country: str, chance: random.Random, *, given_names: int) -> Persona:
    names, surnames = zip(*(draw_name(country, gender, chance) for _ in range(given_names)), strict=True)
    given, surname = " ".join(dict.fromkeys(names)), surnames[0]
    return Persona(
        identity_id=identity,
        name=f"{given} {surname}",
        gender=gender,
        country_code=country,
        country=country_name(country),
        **draw_facts(given, surname, country, chance),
    )


def draw_facts(given: str, surname: str, country: str, chance: random.Random) -> dict[Field, str]:
    """The eight facts of somebody of that name and country."""
    return {
        "city": draw_city(country, chance),
        "job": chance.choice(job_titles()),
        "blood_type": chance.choices(list(BLOOD_TYPES), weights=list(BLOOD_TYPES.values()))[0],
        "phone_number": draw_phone_number(country, chance),
        "emails": _draw_email(given, surname, chance),
        "iban": draw_iban(country, chance),
        "credit_card": draw_card(chance),
        "passport": draw_passport(country, chance),
    }


def _draw_email(given: str, surname: str, chance: random.Random) -> str:
    """Initial and surname at a reserved domain, as in the published ``ffossi@mailhub.com``."""
    letters, rest = (re.sub(r"[^a-z]", "", anyascii(part).lower()) for part in (given, surname))
    return f"{letters[:1]}{rest}@{chance.choice(MAIL_DOMAINS)}"


@cache
def job_titles() -> tuple[str, ...]:
    """Faker's jobs as one says them, sorted and distinct: "Buyer, retail" becomes "retail buyer"."""
    spoken = {_spoken(entry) for entry in FakerJobs.jobs if "/" not in entry and entry not in _NO_TITLES}
    return tuple(sorted(title for title in spoken if len(title) <= _LONGEST_JOB))


def _spoken(entry: str) -> str:
    """The qualifiers that follow a comma or stand in brackets put before the head, in lower case but for acronyms."""
    parts = re.findall(r"[^,()]+", entry)
    words = " ".join(part.strip() for part in reversed(parts)).split()
    return " ".join(word if word.isupper() or word == "English" else word.lower() for word in words)
