"""Numbers that are nobody's: in the form of their kind, check digits right, from ranges that no person can hold."""

import random
from functools import cache

import phonenumbers
from schwifty import IBAN, registry
from schwifty.exceptions import InvalidCountryCode
from stdnum import luhn
from stdnum.iso7064 import mod_97_10

FICTION_NUMBERS: dict[str, tuple[str, ...]] = {
    "AU": tuple(f"+61{area}{block}XXXX" for area in (2, 3, 7, 8) for block in (5550, 7010)),
    "CA": tuple(f"+1{area}55501XX" for area in (204, 306, 403, 416, 514, 604, 613, 902)),
    "DE": ("+493023125XXX", "+494066969XXX", "+492214710XXX", "+496990009XXX", "+498999998XXX"),
    "FR": ("+3319900XXXX", "+3326191XXXX", "+3335301XXXX", "+3346571XXXX", "+3353649XXXX", "+3363998XXXX"),
    "GB": (*(f"+44{area}4960XXX" for area in (113, 114, 116, 117, 118, 121, 131, 141, 151, 161)), "+447700900XXX"),
    "IE": ("+3532091XXXXX",),
    "SE": ("+463139006XX", "+464062804XX", "+468465004XX", "+469803192XX", *(f"+467017406{x}X" for x in range(1, 10))),
    "US": tuple(f"+1{area}55501XX" for area in (206, 212, 305, 312, 404, 415, 602, 617, 702, 713)),
}
"""Country -> the ranges that its regulator keeps for film, television and books; ``X`` is any digit."""

UNASSIGNED_PREFIXES: dict[str, str] = {
    "AM": "78", "AR": "95", "AT": "60", "AZ": "47", "BE": "41", "BG": "49", "BO": "29", "BR": "209", "CH": "703",
    "CL": "29", "CN": "142", "CO": "39", "CR": "82", "CY": "92", "CZ": "68", "DK": "37", "DZ": "59", "EC": "94",
    "EE": "29", "ES": "23", "FI": "498", "GE": "526", "GH": "22", "GR": "65", "HR": "96", "HU": "39", "ID": "84",
    "IN": "50", "IS": "60", "IT": "303", "JP": "914", "KE": "24", "KR": "14", "LI": "67", "LU": "64", "LV": "42",
    "MA": "683", "MC": "23", "MD": "42", "MK": "748", "MX": "25", "NG": "87", "NL": "69", "NO": "44", "NZ": "25",
    "PE": "26", "PL": "28", "PT": "97", "RO": "797", "RU": "44", "SI": "397", "SK": "93", "TN": "35", "TR": "576",
    "TW": "21", "TZ": "64", "UA": "59", "UY": "38", "UZ": "96", "VE": "47", "VN": "992", "ZA": "25",
}  # fmt: skip
"""Country without a range for fiction -> first digits of a mobile number's length under which nothing is assigned.

By libphonenumber's metadata, which follow the countries' numbering plans; neither does a shorter number begin so. The
tests look each prefix up in the installed release.
"""

CARD_HEAD = "99"
"""ISO/IEC 7812-1 gives card numbers that begin with 9 to national standards bodies, the ISO 3166-1 number of their
country behind it; ISO 3166-1 leaves 900 to 999 to its users and names no country by them. So 99 has no issuer."""

PASSPORT_DIGITS = 8
"""With the two letters of the country ten signs: ICAO Doc 9303-4 gives a passport's number nine places."""

MAIL_DOMAINS = (
    *(
        f"{name}.example"
        for name in (
            "airpost", "bluemail", "dovemail", "fastpost", "homemail", "inbox", "letters", "lettera", "mailhub",
            "mailnest", "mymail", "netpost", "openmail", "paperboat", "pigeonpost", "postbox", "posthorn", "quickmail",
            "quillpost", "starmail", "sunmail", "webmail", "windmail", "yourpost",
        )
    ),
    *(f"{host}.example.{top}" for host in ("mail", "post") for top in ("com", "net", "org")),
)  # fmt: skip
"""``.example`` and ``example.com``, ``.net`` and ``.org`` are reserved (RFC 2606, RFC 6761): no mail can arrive."""

_GENERIC_BBAN_DIGITS = 18


def draw_phone_number(country: str, chance: random.Random) -> str:
    """A number in the country's international form that rings at nobody's: kept for fiction, or never assigned.

    Raises:
        KeyError: the country is in neither table.
    """
    if country in FICTION_NUMBERS:
        pattern = chance.choice(FICTION_NUMBERS[country])
        number = phonenumbers.parse("".join(chance.choice("0123456789") if sign == "X" else sign for sign in pattern))
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    code, form = _mobile_form(country)
    digits = UNASSIGNED_PREFIXES[country]
    digits += "".join(chance.choices("0123456789", k=form.count("X") - len(digits)))
    return code + "".join(digits[form[:place].count("X")] if sign == "X" else sign for place, sign in enumerate(form))


@cache
def _mobile_form(country: str) -> tuple[str, str]:
    """The country's calling code, and how its mobile numbers are grouped: ``("+36", " XX XXX XXXX")``."""
    example = phonenumbers.example_number_for_type(country, phonenumbers.PhoneNumberType.MOBILE)
    assert example is not None, f"{country} has no mobile numbers"
    text: str = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    code = f"+{example.country_code}"
    return code, "".join("X" if sign.isdigit() else sign for sign in text.removeprefix(code))


def draw_iban(country: str, chance: random.Random) -> str:
    """An account number in groups of four, its check digits right, at a bank that is none.

    Where the registry knows the country, its structure and national check digits are kept and the bank code is one that
    the registry's list of banks does not hold. Elsewhere there is no IBAN; as in the published data
    (``CM98 7411 9112 4845 5134 71``) the country code, two check digits (ISO 7064 mod 97-10) and 18 digits stand in.
    """
    if has_iban(country):
        iban = IBAN.random(country, random=chance, use_registry=False)
        while iban.bank is not None:
            iban = IBAN.random(country, random=chance, use_registry=False)
        text = str(iban)
    else:
        account = "".join(chance.choices("0123456789", k=_GENERIC_BBAN_DIGITS))
        text = f"{country}{mod_97_10.calc_check_digits(account + country)}{account}"
    return in_fours(text)


@cache
def has_iban(country: str) -> bool:
    """Whether the country takes part in the IBAN system."""
    try:
        registry.get_iban_spec(country)
    except InvalidCountryCode:
        return False
    return True


@cache
def known_banks(country: str) -> int:
    """How many banks the registry lists for the country; 0 where it has no list."""
    return len(registry.get_banks_by_country(country))


def draw_card(chance: random.Random) -> str:
    """A card number of 16 digits, valid by Luhn, in the part of the numbering system that has no issuer."""
    digits = CARD_HEAD + "".join(chance.choices("0123456789", k=13))
    return in_fours(digits + luhn.calc_check_digit(digits))


def draw_passport(country: str, chance: random.Random) -> str:
    """The country's code and eight digits: one sign more than a passport's number can have."""
    return f"{country}{chance.randrange(10**PASSPORT_DIGITS):0{PASSPORT_DIGITS}d}"


def in_fours(text: str) -> str:
    """``text`` in groups of four signs."""
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))
