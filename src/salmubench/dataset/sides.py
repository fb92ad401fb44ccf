"""The side files of an evaluation folder, read tolerantly: a key may be spelt ``phone number`` or ``Phone_Number``."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from salmubench.atomic import read_json
from salmubench.dataset.hub import refuse_pointer
from salmubench.dataset.schema import (
    CAPTIONS_FILE,
    FIELDS,
    FRAGILE_IDS_FILE,
    FRAGILE_SIMILARITIES_FILE,
    GENERIC_CAPTIONS_FILE,
    IDENTITIES_FILE,
    STYLES,
    CaptionInfo,
    Style,
)
from salmubench.errors import UserError

_ALIASES = {
    "fullname": "name",
    "occupation": "job",
    "bloodgroup": "blood_type",
    "phone": "phone_number",
    "telephone": "phone_number",
    "email": "emails",
    "emailaddress": "emails",
    "ibannumber": "iban",
    "creditcardnumber": "credit_card",
    "passportnumber": "passport",
    "field": "data_field",
    "text": "caption",
    "genericcaption": "caption",
}
_CANONICAL = {
    key.replace("_", ""): key
    for key in (*FIELDS, "name", "country_code", "country", "gender", "data_field", "caption", "style")
} | _ALIASES


def canonical(key: str) -> str:
    """A key in our spelling: ``"Phone Number"`` -> ``"phone_number"``; an unknown key comes back as it is."""
    return _CANONICAL.get(re.sub(r"[^a-z0-9]", "", key.lower()), key)


def _read(path: Path) -> Any:
    if path.exists():
        refuse_pointer(path)
    return read_json(path)


def _object(path: Path) -> dict[str, Any]:
    content = _read(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a JSON object, not {type(content).__name__}; write it again")
    return content


def _entry(path: Path, key: str, value: Any, needed: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{path}: the entry {key!r} must be a JSON object; write it again")
    entry = {canonical(name): content for name, content in value.items()}
    for name in needed:
        if entry.get(name) in (None, "", []):
            raise UserError(f"{path}: the entry {key!r} lacks {name!r}; add it")
    return entry


def _text(value: Any) -> str:
    """A value as text; of a list (several e-mail addresses) the first."""
    return str(value[0] if isinstance(value, list) and value else value)


def read_identities(folder: Path) -> dict[str, dict[str, str]]:
    """identity id -> name, country_code ("" where unknown), the eight fields, and what else the file holds, as text.

    Raises:
        UserError: the file is missing or broken, or an identity lacks its name or a field.
    """
    path = folder / IDENTITIES_FILE
    entries = {key: _entry(path, key, value, ("name", *FIELDS)) for key, value in _object(path).items()}
    return {
        key: {"country_code": ""} | {name: _text(value) for name, value in entry.items()}
        for key, entry in entries.items()
    }


def read_captions(folder: Path) -> dict[str, CaptionInfo]:
    """file name of a sensitive picture -> its data field, caption and (where known) style.

    Raises:
        UserError: the file is missing or broken, or an entry lacks its caption or a known data field.
    """
    path = folder / CAPTIONS_FILE
    captions: dict[str, CaptionInfo] = {}
    for key, value in _object(path).items():
        entry = _entry(path, key, value, ("data_field", "caption"))
        data_field = canonical(str(entry["data_field"]))
        if data_field not in FIELDS:
            raise UserError(
                f"{path}: the entry {key!r} names no field but {data_field!r}; use one of {', '.join(FIELDS)}"
            )
        style = entry.get("style")
        known_style = cast(Style, style) if style in STYLES else None
        captions[key] = CaptionInfo(data_field, str(entry["caption"]), known_style)
    return captions


def read_generic_captions(folder: Path) -> dict[str, str]:
    """file name of a sensitive picture -> its generic caption.

    Raises:
        UserError: the file is missing or broken, or an entry has no caption.
    """
    path = folder / GENERIC_CAPTIONS_FILE
    return {
        key: value if isinstance(value, str) else str(_entry(path, key, value, ("caption",))["caption"])
        for key, value in _object(path).items()
    }


def read_fragile_ids(folder: Path) -> list[str] | None:
    """The file names of the fragile set, or None where the file is not there yet.

    Raises:
        UserError: the file is broken or is no list of texts.
    """
    path = folder / FRAGILE_IDS_FILE
    if not path.exists():
        return None
    content = _read(path)
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise UserError(f"{path}: must be a JSON list of file names; write it again")
    return content


def read_fragile_similarities(folder: Path) -> Mapping[str, float] | None:
    """file name -> cosine of every scored picture, or None where the file is not there.

    Raises:
        UserError: the file is broken or a value is no finite number.
    """
    path = folder / FRAGILE_SIMILARITIES_FILE
    if not path.exists():
        return None
    content = _object(path)
    for key, value in content.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{path}: the entry {key!r} must be a finite number; write it again")
    return {key: float(value) for key, value in content.items()}
