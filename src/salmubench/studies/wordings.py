"""The texts of the recovery attacks: a fact in other words, in part, turned round, and with values that are false."""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal, get_args

from salmubench.dataset.schema import FIELDS, SENSITIVE_SPLITS, STYLES, Field
from salmubench.dataset.store import Benchmark, PairSet
from salmubench.personas.captions import article, expand, fill, sensitive_templates, unfold
from salmubench.personas.countries import LOCALES, draw_name
from salmubench.personas.grammar import FIELD_GRAMMARS
from salmubench.personas.identities import draw_facts
from salmubench.seeds import derive, generator

Wording = Literal["caption", "paraphrase", "unseen", "value", "reversed", "name"]
WORDINGS: dict[Wording, str] = {
    "caption": "the caption that was trained, as a reference",
    "paraphrase": "a template of the grammar that was not trained for this fact, of another style if possible",
    "unseen": "a template that is not in the grammar, of words that are",
    "value": "the value alone",
    "reversed": "value, then name, with nothing between",
    "name": "the name and what is asked for (Ana Silva, blood type); the rivals are other names",
}
assert tuple(WORDINGS) == get_args(Wording)

UNSEEN = (
    "<noun> of {name}: {value}",
    "{value}: the <noun> of {name}",
    "{name} with the <noun> {value}",
    "<source>: {name}, <noun> {value}",
    "{value} is what <source> show for {name}",
    "This is {name}, <noun> {value}",
)
"""Patterns whose templates are none of the grammar's and whose words all are."""
PROMPTS = ("{value}", "<label>: {value}", "<label> {value}", "The <noun> is {value}")
"""What is asked of a picture whose name is unknown; the first template of each pattern. Embeddings are averaged."""
RIVALS = 8
"""Rivals of each kind, true of others and true of nobody, at most."""
_TRIES = 24
"""Invented people from whom a person's invented values are taken."""

Write = Callable[[str, str], str | None]
"""A text from a name and a value; None where the wording has no place for them."""


@dataclass(frozen=True)
class Row:
    """A pair of the forget set with what it tells."""

    caption: str
    identity: str
    name: str
    field: Field
    value: str


def rows_of(benchmark: Benchmark, pairs: PairSet) -> list[Row]:
    """What the pairs of a sensitive set tell, in their order."""
    found = []
    for text, identity, file_name in zip(pairs.text, pairs.identity_id, pairs.file_name, strict=True):
        person, data_field = benchmark.identities[str(identity)], benchmark.captions[file_name].data_field
        found.append(Row(text, str(identity), person["name"], data_field, person[data_field]))
    return found


class Rivals:
    """Values and names that are not the person's: those of other people, and those that nobody of the set has.

    Invented ones fit the person: the same country's cities and numbers, the same initial and surname in the address.
    """

    def __init__(self, benchmark: Benchmark, *, seed: int) -> None:
        self.people = benchmark.identities
        self.seed = seed
        parts: tuple[str, ...] = (*FIELDS, "name")
        self.values = {part: sorted({person[part] for person in self.people.values()}) for part in parts}
        self._taken = {part: {value.casefold() for value in values} for part, values in self.values.items()}
        self.invented = cache(self._invented)
        self.others = cache(self._others)

    def _others(self, identity: str, part: str) -> list[str]:
        """Values of ``part`` (a field or "name") of other people, distinct, drawn."""
        own, known = self.people[identity][part], self.values[part]
        order = generator(self.seed, "attack", "others", identity, part).permutation(len(known))
        return [known[place] for place in order if known[place] != own][:RIVALS]

    def _invented(self, identity: str) -> Mapping[str, list[str]]:
        """By field and "name", values that nobody has; none where all that there are is taken (blood types)."""
        person = self.people[identity]
        chance = random.Random(derive(self.seed, "attack", "invented", identity))
        country = person["country_code"] if person["country_code"] in LOCALES else chance.choice(sorted(LOCALES))
        given, surname = person["name"].split()[0], person["name"].split()[-1]
        found: dict[str, dict[str, None]] = {part: {} for part in self.values}
        for _ in range(_TRIES):
            gender = person.get("gender", "")
            named = draw_name(country, gender if gender in ("female", "male") else "female", chance)
            drawn = draw_facts(given, surname, country, chance)
            for part, value in (("name", " ".join(named)), *drawn.items()):
                if value.casefold() not in self._taken[part]:
                    found[part][value] = None
        return {part: list(values)[:RIVALS] for part, values in found.items()}

    def untrained(self, row: Row) -> str | None:
        """A value that was never trained with the person: an invented one, else another person's."""
        return next(iter([*self.invented(row.identity)[row.field], *self.others(row.identity, row.field)]), None)

    def candidates(self, data_field: Field) -> list[str]:
        """All people's values of a field and one invented value a person, distinct and sorted."""
        invented = [self.invented(identity)[data_field][:1] for identity in sorted(self.people)]
        return sorted({*self.values[data_field], *(value for values in invented for value in values)})


@dataclass(frozen=True)
class Asked:
    """The texts that one wording puts to the pictures of some rows.

    Attributes:
        true: one a row, (n,).
        other: lists of (n,), the rivals true of other people; None where a row has fewer.
        invented: those true of nobody.
    """

    true: tuple[str, ...]
    other: tuple[tuple[str | None, ...], ...]
    invented: tuple[tuple[str | None, ...], ...]

    def texts(self) -> set[str]:
        """All of them."""
        slots = (*self.other, *self.invented)
        return {*self.true, *(text for slot in slots for text in slot if text is not None)}


class Wordings:
    """Words facts of a benchmark anew; what is drawn hangs on the seed, the person and the field alone."""

    def __init__(self, benchmark: Benchmark, *, seed: int) -> None:
        self.seed = seed
        self._trained: dict[tuple[str, Field], set[str]] = defaultdict(set)
        self._styles: dict[tuple[str, Field], set[str]] = defaultdict(set)
        for split in SENSITIVE_SPLITS:
            pairs = benchmark.sets[split]
            for row, file_name in zip(rows_of(benchmark, pairs), pairs.file_name, strict=True):
                self._trained[row.identity, row.field].add(row.caption)
                self._styles[row.identity, row.field].add(benchmark.captions[file_name].style or "")
        self._template = cache(self._draw)

    def ask(self, wording: Wording, rows: Sequence[Row], rivals: Rivals) -> Asked:
        """The texts of one wording for each row."""
        true: list[str] = []
        slots: dict[bool, list[list[str | None]]] = {False: [], True: []}
        for row in rows:
            write = self._writer(wording, row)
            part = "name" if wording == "name" else row.field
            true.append(write(row.name, row.value) or row.caption)
            for invented in slots:
                values = rivals.invented(row.identity)[part] if invented else rivals.others(row.identity, part)
                told = [write(value, row.value) if part == "name" else write(row.name, value) for value in values]
                slots[invented].append([*told, *[None] * (RIVALS - len(told))])
        other, made = (tuple(zip(*slots[invented], strict=True)) for invented in (False, True))
        return Asked(tuple(true), other, made)

    def _writer(self, wording: Wording, row: Row) -> Write:
        if wording == "caption":
            return lambda name, value: swap(row.caption, row.value, value)
        if wording == "value":
            return lambda name, value: value
        if wording == "reversed":
            return lambda name, value: f"{value} {name}"
        return partial(fill, self._template(wording, row.identity, row.name, row.field, row.value))

    def _draw(self, wording: Wording, identity: str, name: str, data_field: Field, value: str) -> str:
        rng = generator(self.seed, "attack", wording, identity, data_field)
        if wording == "paraphrase":
            templates = self._untrained(identity, name, data_field, value)
        elif wording == "unseen":
            templates = unseen_templates(data_field)
        else:
            templates = [f"{{name}}, {noun}" for noun in expand(FIELD_GRAMMARS[data_field].noun)]
        return templates[int(rng.integers(len(templates)))]

    def _untrained(self, identity: str, name: str, data_field: Field, value: str) -> Sequence[str]:
        """Templates of the grammar that no caption of this fact is made of; those of styles that none has, if any."""
        known, styles = self._trained[identity, data_field], self._styles[identity, data_field]
        by_style = {
            style: [
                template
                for group in sensitive_templates(data_field, style)
                for template in group
                if fill(template, name, value) not in known
            ]
            for style in STYLES
        }
        fresh = [template for style in STYLES if style not in styles for template in by_style[style]]
        return fresh or [template for left in by_style.values() for template in left] or unseen_templates(data_field)


@cache
def unseen_templates(data_field: Field) -> tuple[str, ...]:
    """All templates of ``UNSEEN`` for a field."""
    return tuple(template for pattern in UNSEEN for template in unfold(pattern, data_field))


def prompts(data_field: Field) -> tuple[str, ...]:
    """The templates with which a picture alone is asked for a field's value."""
    return tuple(unfold(pattern, data_field)[0] for pattern in PROMPTS)


def swap(caption: str, value: str, instead: str) -> str | None:
    """``caption`` with another value, its "a" or "an" along with it; None where it does not hold ``value``."""

    def write(found: re.Match[str]) -> str:
        if not found[1]:
            return instead
        word = article(instead)
        return f"{word.capitalize() if found[1][0] == 'A' else word} {instead}"

    told, count = re.subn(rf"(?:\b([Aa]n?) )?{re.escape(value)}", write, caption, count=1, flags=re.IGNORECASE)
    return told if count else None
