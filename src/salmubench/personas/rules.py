"""docs/identities.md, written from the code: why each number is nobody's, country by country.

``python -m salmubench.personas.rules > docs/identities.md`` writes the page again; a test compares.
"""

from collections.abc import Sequence

from salmubench.personas.countries import LOCALES, country_name
from salmubench.personas.numbers import FICTION_NUMBERS, UNASSIGNED_PREFIXES, has_iban, known_banks

FICTION_SOURCES: dict[str, str] = {
    "AU": "ACMA, Phone numbers for use in TV shows, films and creative works",
    "CA": "NANPA, 555 line numbers 0100 to 0199 (ATIS-0300115)",
    "DE": "Bundesnetzagentur, Mitteilung 148/2021: numbers for media productions",
    "FR": "Arcep, national numbering plan: numbers for audiovisual works",
    "GB": "Ofcom, Telephone numbers for use in TV and radio drama programmes",
    "IE": "ComReg, Numbering Conditions of Use (15/136): numbers for drama",
    "SE": "PTS, telephone numbers for books, films and other works",
    "US": "NANPA, 555 line numbers 0100 to 0199 (ATIS-0300115)",
}
"""Who keeps the ranges of ``FICTION_NUMBERS``, and where it says so."""

_FACTS: tuple[tuple[str, str, str, str], ...] = (
    ("fact", "form", "why it is nobody's", "source"),
    ("---",) * 4,
    (
        "name",
        "given name and surname of the country, agreeing with the face's gender",
        "drawn apart from each other; no two people of a set share one",
        "Faker's locales",
    ),
    (
        "city, job, blood type",
        "real ones: they identify nobody",
        "shared by many; blood groups by the world's shares",
        "geonames, Faker, World Atlas",
    ),
    ("phone number", "the country's international form", "by the table below", "by the table below"),
    (
        "e-mail",
        "initial and surname at a provider",
        "the domain is reserved: no mail can arrive",
        "RFC 2606, RFC 6761",
    ),
    (
        "IBAN",
        "the country's structure, check digits and national check digits right",
        "a bank code that the list of banks does not hold, or any where there is no list (below); a country without "
        "IBAN gets its code, check digits and 18 digits",
        "schwifty's registries of structures and banks",
    ),
    (
        "credit card",
        "16 digits, valid by Luhn, beginning with 99",
        "9 is for national bodies, their country's ISO 3166-1 number behind it; 900 to 999 name no country",
        "ISO/IEC 7812-1, ISO 3166-1",
    ),
    (
        "passport",
        "the country's two letters and eight digits",
        "ten signs, where a passport's number has nine places",
        "ICAO Doc 9303-4",
    ),
)

_COUNTRIES = (("country", "", "phone numbers", "rule", "source", "IBAN: banks listed"), ("---",) * 6)

_TITLE = """# Identities that are nobody's

Written by `python -m salmubench.personas.rules`; a test compares it with the code. The numbers live in
[numbers.py](../src/salmubench/personas/numbers.py).
"""

_NOTES = """"Unassigned" means: of a mobile number's length, beginning with digits under which neither a number of that
length nor a shorter one is assigned, says libphonenumber, whose metadata follow the countries' numbering plans; the
tests ask the installed release for each country.

A face and its country agree softly. Countries are dealt out in even rounds; within a round a face is likelier to get a
country at whose latitude its tone of skin is common (Jablonski and Chaplin, The evolution of human skin coloration,
J. Hum. Evol. 39, 2000): each step of the five tones away weighs half. Procedural faces have the five tones equally
often and countries come equally often, so that every tone turns up nearly everywhere, but mostly where it is at home.
Faces from elsewhere whose tone is not known get any country.
"""


def page() -> str:
    """The page as Markdown."""
    rows = [_row(country) for country in sorted(LOCALES)]
    return "\n".join((_TITLE, _table(_FACTS), _NOTES, _table((*_COUNTRIES, *rows))))


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(country: str) -> tuple[str, ...]:
    if country in FICTION_NUMBERS:
        phone = (", ".join(FICTION_NUMBERS[country]), "kept for fiction", FICTION_SOURCES[country])
    else:
        phone = (f"{UNASSIGNED_PREFIXES[country]}…", "unassigned", "libphonenumber")
    banks = f"{known_banks(country)}" if known_banks(country) else "no list"
    return (country, country_name(country), *phone, banks if has_iban(country) else "no IBAN")


if __name__ == "__main__":
    print(page(), end="")
