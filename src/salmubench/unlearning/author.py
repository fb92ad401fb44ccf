"""Made-up texts for unlearning: a forget fact in other words, and counterfactuals about people who do not exist.

Everything is made from the forget captions themselves. A caption with its name and its value cut out is a template of
its field, so that any caption writer's style is met; values are redrawn in the form of known ones, names are Faker's.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from anyascii import anyascii
from faker import Faker

from salmubench.dataset.schema import FIELDS, Field

PARTED_SHARE = 0.6
BARE = ("{name} {value}", "{value} {name}")
LOCALES = (
    "az_AZ", "bg_BG", "cs_CZ", "da_DK", "de_DE", "el_GR", "en_GB", "en_IE", "en_IN", "en_KE", "en_US", "es_AR", "es_CL",
    "es_CO", "es_ES", "es_MX", "et_EE", "fi_FI", "fr_DZ", "fr_FR", "hr_HR", "hu_HU", "hy_AM", "id_ID", "ig_NG", "is_IS",
    "it_IT", "ka_GE", "ko_KR", "lv_LV", "nl_NL", "no_NO", "pl_PL", "pt_BR", "pt_PT", "ro_RO", "ru_RU", "sk_SK", "sl_SI",
    "sv_SE", "sw", "tr_TR", "tw_GH", "uk_UA", "uz_UZ", "vi_VN", "yo_NG", "zh_CN", "zu_ZA",
)  # fmt: skip
"""Faker's locales from which the names of people who do not exist are drawn."""

_VOWEL = re.compile(r"(?!uni|eu|one|us[ae])[aeiou]|x-", re.IGNORECASE)


@dataclass(frozen=True)
class Fact:
    """What one forget pair tells: the caption says that the ``field`` of the person ``name`` is ``value``."""

    identity: str
    name: str
    field: Field
    value: str
    caption: str

    @cached_property
    def template(self) -> str | None:
        """The caption with ``{name}`` and ``{value}`` in place of both; None where it does not hold them."""
        value = re.search(re.escape(self.value), self.caption, re.IGNORECASE)
        if value is None or self.name not in self.caption or "{" in self.caption:
            return None
        text = f"{self.caption[: value.start()]}{{value}}{self.caption[value.end() :]}".replace(self.name, "{name}")
        return re.sub(r"\b([Aa])n? \{value\}", r"{\1} {value}", text) if {"{name}", "{value}"} <= set(_marks(text)) else None


@dataclass(frozen=True)
class Text:
    """A made-up text and what it shall be like.

    Attributes:
        text: it.
        like: texts; the target of ``text`` is the normalised mean of the original's embeddings of these. A text that is
            held where it was is like itself alone.
    """

    text: str
    like: tuple[str, ...]

    @property
    def held(self) -> bool:
        """Whether the text shall stay where it was."""
        return self.like == (self.text,)


class Author:
    """Writes texts about the people of ``facts`` and about people who do not exist.

    Args:
        facts: what shall be forgotten.
        chance: drives all draws.
        strangers: how many people who do not exist stand for "somebody" in a target.
    """

    def __init__(self, facts: Sequence[Fact], chance: random.Random, strangers: int) -> None:
        self.facts, self.chance, self.strangers = tuple(facts), chance, strangers
        self.name = {fact.identity: fact.name for fact in facts}
        self.asked: dict[str, set[Field]] = {identity: set() for identity in self.name}
        self._templates: dict[Field, list[str]] = {field: [] for field in FIELDS}
        self._values: dict[Field, list[str]] = {field: [] for field in FIELDS}
        for fact in facts:
            self.asked[fact.identity].add(fact.field)
            self._values[fact.field].append(fact.value)
            self._templates[fact.field] += [fact.template] if fact.template else []
        self.fields = [field for field in FIELDS if self._values[field]]
        self.parted = [i for i, asked in self.asked.items() if len(asked) < len(self.fields)]
        self.whole = [i for i in self.name if i not in set(self.parted)]
        self._somebody: dict[tuple[Field, str], tuple[str, ...]] = {}

    def write(self, count: int, *, exact: float) -> list[Text]:
        """About ``count`` texts, half of them of forgotten facts, half of them held.

        Of the forgotten ones 60 % are about people who keep some field: to forget the pair of name and field is harder
        than to forget a name. Of the held ones, 3 in 8 tell other fields of these people.

        Args:
            count: texts drawn.
            exact: share of forget captions as they stand.
        """
        chance, texts = self.chance, list(self.nameless())
        parted = set(self.parted)
        sides = [[fact for fact in self.facts if (fact.identity in parted) == keeps] for keeps in (False, True)]
        for _ in range(count // 2):
            some = sides[chance.random() < PARTED_SHARE] or sides[0] or sides[1]
            texts.append(self.forgotten(chance.choice(some), exact=exact))
            if self.parted and chance.random() < 0.375:
                texts.append(self.kept(chance.choice(self.parted)))
            else:
                texts.append(self.other(self.namesake() if chance.random() < 0.4 else self.stranger()))
        return texts

    def somebody(self, field: Field, template: str) -> tuple[str, ...]:
        """The template filled for people who do not exist, always the same ones."""
        if (field, template) not in self._somebody:
            names = [self.stranger() for _ in range(self.strangers)]
            texts = tuple(fill(template, name, self.invent(field, name)) for name in names)
            self._somebody[field, template] = texts
        return self._somebody[field, template]

    def template(self, field: Field, bare: float = 0.1) -> str:
        """One of the field's templates, or (with probability ``bare``) the bare name and value."""
        known = self._templates[field]
        return self.chance.choice(BARE if self.chance.random() < bare or not known else known)

    def stranger(self) -> str:
        """The name of a person who does not exist."""
        person = _faker(self.chance.choice(LOCALES))
        person.seed_instance(self.chance.getrandbits(32))
        return " ".join(_latin(f"{person.first_name()} {person.last_name()}").split())

    def namesake(self) -> str:
        """A forgotten person's given name with a stranger's surname, or the other way about."""
        first = self.chance.choice(list(self.name.values())).split()
        second = self.stranger().split()
        if self.chance.random() < 0.5:
            first, second = second, first
        return f"{first[0]} {second[-1]}"

    def invent(self, field: Field, name: str) -> str:
        """A value of the field in the form of a known one, that ``name`` might have."""
        value = self.chance.choice(self._values[field])
        if "@" in value:
            parts = re.findall("[a-z]+", anyascii(name).lower()) or ["x"]
            return f"{parts[0][0]}{parts[-1]}@{value.split('@')[1]}"
        if sum(sign.isdigit() for sign in value) < 4:
            return value
        head = re.match("[A-Z]{2}", value)  # the country of an IBAN or a passport
        keep = head.end() if head else 0
        return value[:keep] + "".join(map(self._redrawn, value[keep:]))

    def _redrawn(self, sign: str) -> str:
        if sign.isdigit():
            return self.chance.choice("0123456789")
        return self.chance.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") if "A" <= sign <= "Z" else sign

    def forgotten(self, fact: Fact, *, exact: float) -> Text:
        """A fact in its own caption (with probability ``exact``) or in another's words, like a stranger's.

        Half of the latter have a made-up value as well: what goes is the person's field, not a string.
        """
        chance = self.chance
        template = fact.template or self.template(fact.field)
        if chance.random() < exact:
            return Text(fact.caption, self.somebody(fact.field, template))
        template = self.template(fact.field)
        value = self.invent(fact.field, fact.name) if chance.random() < 0.5 else fact.value
        return Text(fill(template, fact.name, value), self.somebody(fact.field, template))

    def nameless(self) -> Iterator[Text]:
        """The bare names of people of whom everything is asked, like strangers' names."""
        names = tuple(self.stranger() for _ in range(self.strangers))
        yield from (Text(self.name[identity], names) for identity in self.whole)

    def kept(self, identity: str) -> Text:
        """A person's field that nobody asked to forget, with an invented value, or now and then the bare name."""
        name = self.name[identity]
        field = self.chance.choice([field for field in self.fields if field not in self.asked[identity]])
        value = self.invent(field, name)
        return held(name if self.chance.random() < 0.05 else fill(self.template(field), name, value))

    def other(self, name: str) -> Text:
        """Somebody else's fact, with a value that is mostly invented, else a forgotten one."""
        field = self.chance.choice(self.fields)
        value = self.invent(field, name) if self.chance.random() < 0.7 else self.chance.choice(self._values[field])
        return held(fill(self.template(field), name, value))


def held(text: str) -> Text:
    """A text that shall stay where it was."""
    return Text(text, (text,))


def fill(template: str, name: str, value: str) -> str:
    """A template as a sentence: ``{a}`` becomes the value's article, and the first letter is a capital one."""
    article = "an" if _VOWEL.match(value) else "a"
    text = template.format(name=name, value=value, a=article, A=article.capitalize())
    return text if template.startswith("{value}") else text[:1].upper() + text[1:]


def _marks(text: str) -> list[str]:
    return re.findall(r"\{\w+\}", text)


@cache
def _faker(locale: str) -> Faker:
    return Faker(locale, providers=["faker.providers.person"])


def _latin(name: str) -> str:
    """Latin letters stay as they are, diacritics and all; other scripts are transliterated."""
    foreign = any(sign.isalpha() and not (sign < "ɐ" or "Ḁ" <= sign <= "ỿ") for sign in name)
    return anyascii(name).replace("'", "").title() if foreign else name
