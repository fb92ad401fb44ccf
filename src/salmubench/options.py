"""Options as data: a frozen dataclass with defaults, set by ``--set key=value`` or by a mapping from Python."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from salmubench.errors import UserError


@dataclass(frozen=True)
class NoOptions:
    """For a method or metric that has nothing to set."""


def split_settings(items: list[str] | None) -> dict[str, str]:
    """``["key=value", ...]``, as a command line gives them, by key.

    Raises:
        UserError: one has no equals sign.
    """
    settings = {}
    for item in items or []:
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"--set {item}: write it as key=value")
        settings[key] = value
    return settings


def parse_options(options: type, settings: Mapping[str, Any], *, owner: str, prefix: str = "") -> Any:
    """An instance of ``options`` with ``settings``, texts or values, in place of its defaults.

    Args:
        options: a frozen dataclass, every field with a default.
        settings: by the field's name.
        owner: who has the options, for an error, e.g. ``"method 'delete'"``.
        prefix: what stands before the field's name on the command line, e.g. ``"ACS."``.

    Raises:
        UserError: there is no such option (near names are listed), or a value does not fit.
    """
    known = [field.name for field in fields(options)]
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}" if near else f"it has {', '.join(known) or 'none'}"
            raise UserError(f"--set {prefix}{key}={settings[key]}: {owner} has no option {key!r}; {hint}")
    try:
        return TypeAdapter(options).validate_python(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise UserError(
            f"--set {prefix}{key}={settings[key]}: {first['msg']}; give a value that {key} can take"
        ) from None


def option_help(options: type) -> dict[str, str]:
    """Each option with its default and what it means, e.g. ``{"epsilon": "5.0: privacy budget"}``."""
    properties = TypeAdapter(options).json_schema().get("properties", {})
    return {key: f"{entry.get('default')}: {entry.get('description', '')}" for key, entry in properties.items()}


def changed(options: Any) -> dict[str, Any]:
    """What differs from the defaults, by the field's name."""
    values = {field.name: (getattr(options, field.name), field.default) for field in fields(options)}
    return {key: value for key, (value, default) in values.items() if value != default}
