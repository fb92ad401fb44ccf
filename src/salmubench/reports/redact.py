"""What a page may show of a person: values masked unless asked for, and every string made plain before it is drawn."""

import re
import unicodedata
from collections.abc import Mapping
from functools import cached_property

from salmubench.dataset.schema import SENSITIVE_SPLITS
from salmubench.dataset.store import Benchmark

HIDDEN = "•"
MOST_MARKS = 4
"""Marks upon one letter; no language piles up more."""
SPELT = {"emails": "e-mail", "iban": "IBAN"}
"""Fields whose name is not simply read with spaces."""


def plain(text: str, limit: int = 400) -> str:
    """A string from outside as one line of visible text, at most ``limit`` letters.

    It has no control or direction marks, and few marks on one letter: a pile of them covers the lines above and below.
    """
    kept, marks = [], 0
    for letter in text:
        kind = unicodedata.category(letter)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if letter.isspace() or (kind[0] != "C" and marks <= MOST_MARKS):
            kept.append(letter)
    line = " ".join("".join(kept).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def spelt(field: str) -> str:
    """A field's name for people, e.g. ``phone number``."""
    return SPELT.get(field, field.replace("_", " "))


def mask(value: str) -> str:
    """Hides a value but for its head and, where it is long, its last sign: ``+237 57•••••7``.

    Separators stay, so that a reader sees that it is a telephone number or an address; three signs or fewer all go.
    """
    signs = [index for index, letter in enumerate(value) if letter.isalnum()]
    if len(signs) <= 3:
        return HIDDEN * len(value)
    shown = min(5, len(signs) // 3 + 1) if any(letter.isdigit() for letter in value) else 1
    kept = {*signs[:shown], *(signs[-1:] if len(signs) >= 9 else ())}
    return "".join(HIDDEN if index in signs and index not in kept else letter for index, letter in enumerate(value))


class Redactor:
    """Shows a benchmark's captions and values as the reader may see them.

    Args:
        benchmark: the data set that the strings come from.
        show_values: leave the values readable.
    """

    def __init__(self, benchmark: Benchmark, *, show_values: bool = False) -> None:
        self.benchmark = benchmark
        self.show_values = show_values

    @cached_property
    def _value_of(self) -> Mapping[str, str | None]:
        """The value that a text of the data set tells; None for the texts that tell nobody's."""
        values: dict[str, str | None] = {}
        for name, pairs in self.benchmark.sets.items():
            if name not in SENSITIVE_SPLITS:
                values |= dict.fromkeys(pairs.text)
        for name in SENSITIVE_SPLITS:
            pairs = self.benchmark.sets[name]
            for text, identity, file_name in zip(pairs.text, pairs.identity_id, pairs.file_name, strict=True):
                values[text] = self.benchmark.identities[str(identity)][self.benchmark.captions[file_name].data_field]
        return values

    def value(self, value: str) -> str:
        """A person's fact."""
        return plain(value if self.show_values else mask(value))

    def caption(self, text: str) -> str:
        """A caption with the value inside it masked; all of it where nobody can tell what in it is private."""
        if self.show_values:
            return plain(text)
        if text not in self._value_of:
            return plain(mask(text))
        value = self._value_of[text]
        if value is None:
            return plain(text)
        masked, found = re.subn(re.escape(value), lambda match: mask(match[0]), text, flags=re.IGNORECASE)
        return plain(masked if value and found else mask(text))
