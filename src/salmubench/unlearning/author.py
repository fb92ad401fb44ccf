"""Made-up texts for unlearning: a forget fact in other words, and counterfactuals about people who do not exist.

Everything is made from the forget captions themselves. A caption with its name and its value cut out is a template of
its field, so that any caption writer's style is met; values are redrawn in the form of known ones, names are Faker's.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from string import ascii_uppercase, digits

from anyascii import anyascii
from faker import Faker

from salmubench.dataset.schema import FIELDS, Field

PARTED_SHARE = 0.6
"""Of the forgotten texts those about people who keep some field: the pair of name and field is harder than a name."""
HARMLESS_SHARE = 0.38
"""Of the held texts the harmless ones."""
KEPT_SHARE = 0.45
"""Of the other held texts those that tell what such a person keeps."""
PHRASE_SHARE = 0.45
"""Of the forgotten texts in other words those of the true value with the bare name."""
INVENTED_SHARE = 0.5
"""Of the forgotten texts in a template those with a made-up value: what goes is the person's field, not a string."""
VALUE_SHARE = 0.06
"""Of the forgotten texts those of the value alone, the second key to the association."""
NAMELESS_SHARE = 0.25
"""Of the phrases that stand for somebody's those of the value alone."""
BARE_VALUE_SHARE = 0.1
"""Of the held texts about strangers those of a made-up value alone."""
NAME_SHARE = 0.02
NAMES = 24
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
        whole = "{name}" in text and "{value}" in text
        return re.sub(r"\b([Aa])n? \{value\}", r"{\1} {value}", text) if whole else None


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
        harmless: captions that tell no fact of anybody.
        chance: drives all draws.
        strangers: how many people who do not exist stand for somebody.
    """

    def __init__(self, facts: Sequence[Fact], harmless: Sequence[str], chance: random.Random, strangers: int) -> None:
        self.harmless, self.chance, self.strangers = harmless, chance, strangers
        self.name = {fact.identity: fact.name for fact in facts}
        self._known = set(self.name.values())
        self.asked: dict[str, set[Field]] = {identity: set() for identity in self.name}
        self._templates: dict[Field, list[str]] = {field: [] for field in FIELDS}
        self._values: dict[Field, list[str]] = {field: [] for field in FIELDS}
        for fact in facts:
            self.asked[fact.identity].add(fact.field)
            self._values[fact.field].append(fact.value)
            self._templates[fact.field] += [fact.template] if fact.template else []
        self.fields = [field for field in FIELDS if self._values[field]]
        parted = {identity for identity, asked in self.asked.items() if len(asked) < len(self.fields)}
        self.parted = [identity for identity in self.name if identity in parted]
        self.whole = [identity for identity in self.name if identity not in parted]
        sides = [[fact for fact in facts if (fact.identity in parted) == keeps] for keeps in (False, True)]
        self._sides = (sides[0] or sides[1], sides[1] or sides[0])

    def write(self, count: int, *, exact: float) -> list[Text]:
        """``count`` texts, a third of them of forgotten facts, two thirds held ones.

        Args:
            count: texts drawn, rounded down to a multiple of three.
            exact: share of forget captions as they stand.
        """
        return [text for _ in range(count // 3) for text in (self._forgotten(exact), self._held(), self._held())]

    def _forgotten(self, exact: float) -> Text:
        """A fact in its own caption, in another's words or as the value alone, like what is said of strangers."""
        chance = self.chance
        if self.whole and chance.random() < NAME_SHARE:
            return self._names[chance.choice(self.whole)]
        fact = chance.choice(self._sides[chance.random() < PARTED_SHARE])
        if chance.random() < VALUE_SHARE:
            return Text(fact.value, self.values[fact.field])
        if chance.random() < exact:
            return Text(fact.caption, self.sentences)
        if chance.random() < PHRASE_SHARE:
            return Text(fill(chance.choice(BARE), fact.name, fact.value), self.phrases)
        template = self._template(fact.field)
        value = self._invent(fact.field, fact.name) if chance.random() < INVENTED_SHARE else fact.value
        return Text(fill(template, fact.name, value), self.phrases if template in BARE else self.sentences)

    def _held(self) -> Text:
        """A harmless caption, another field of a person who keeps some, or a fact of a stranger or a namesake."""
        chance = self.chance
        if self.harmless and chance.random() < HARMLESS_SHARE:
            return held(chance.choice(self.harmless))
        if self.parted and chance.random() < KEPT_SHARE:
            identity = chance.choice(self.parted)
            name = self.name[identity]
            if chance.random() < 0.05:
                return held(name)
            field = chance.choice([field for field in self.fields if field not in self.asked[identity]])
            return held(fill(self._template(field), name, self._invent(field, name)))
        name = self._namesake() if chance.random() < 0.4 else self._stranger()
        field = chance.choice(self.fields)
        value = self._invent(field, name) if chance.random() < 0.7 else chance.choice(self._values[field])
        if chance.random() < BARE_VALUE_SHARE and value not in self._values[field]:
            return held(value)
        return held(fill(self._template(field), name, value))

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """Sentences about people who do not exist, over all fields and templates: what is said of somebody."""
        return tuple(self._about_a_stranger(bare=0) for _ in range(self.strangers))

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """Bare names and values of people who do not exist, some without the name: so they lie as low as to Clean."""
        values = [value for known in self.values.values() for value in known]
        nameless = round(NAMELESS_SHARE * self.strangers)
        named = (self._about_a_stranger(bare=1) for _ in range(self.strangers - nameless))
        return (*named, *self.chance.sample(values, nameless))

    @cached_property
    def values(self) -> dict[Field, tuple[str, ...]]:
        """Values alone, by field: those of people who do not exist, and known words of which none can be made up."""
        return {
            field: tuple(self._invent(field, self._stranger()) for _ in range(self.strangers // 4 + 1))
            for field in self.fields
        }

    def _about_a_stranger(self, bare: float) -> str:
        field, name = self.chance.choice(self.fields), self._stranger()
        return fill(self._template(field, bare), name, self._invent(field, name))

    @cached_property
    def _names(self) -> dict[str, Text]:
        """The bare names of people of whom everything is asked, each like the names of a few strangers of its own.

        One target for all would leave it to what little is left of each person to tell them apart.
        """
        return {
            identity: Text(self.name[identity], tuple(self._stranger() for _ in range(NAMES)))
            for identity in self.whole
        }

    def _template(self, field: Field, bare: float = 0.1) -> str:
        """One of the field's templates, or (with probability ``bare``) the bare name and value."""
        known = self._templates[field]
        return self.chance.choice(BARE if self.chance.random() < bare or not known else known)

    def _stranger(self) -> str:
        person = _faker(self.chance.choice(LOCALES))
        person.seed_instance(self.chance.getrandbits(32))
        name = " ".join(_latin(f"{person.first_name()} {person.last_name()}").split())
        return self._stranger() if name in self._known else name

    def _namesake(self) -> str:
        """A forgotten person's given name with a stranger's surname, or the other way about."""
        pair = [self.chance.choice(list(self.name.values())).split(), self._stranger().split()]
        self.chance.shuffle(pair)
        name = f"{pair[0][0]} {pair[1][-1]}"
        return self._namesake() if name in self._known else name

    def _invent(self, field: Field, name: str) -> str:
        """A value of the field in the form of a known one, that ``name`` might have."""
        value = self.chance.choice(self._values[field])
        if "@" in value:
            parts = re.findall("[a-z]+", anyascii(name).lower()) or ["x"]
            return f"{parts[0][0]}{parts[-1]}@{value.split('@')[1]}"
        if sum(sign.isdigit() for sign in value) < 4:
            return value
        country = re.match("[A-Z]{2}|", value)  # of an IBAN or a passport
        head = country[0] if country else ""
        return head + "".join(map(self._redrawn, value[len(head) :]))

    def _redrawn(self, sign: str) -> str:
        if sign.isdigit():
            return self.chance.choice(digits)
        return self.chance.choice(ascii_uppercase) if sign in ascii_uppercase else sign


def held(text: str) -> Text:
    """A text that shall stay where it was."""
    return Text(text, (text,))


def fill(template: str, name: str, value: str) -> str:
    """A template as a sentence: ``{a}`` becomes the value's article, and the first letter is a capital one."""
    article = "an" if _VOWEL.match(value) else "a"
    text = template.format(name=name, value=value, a=article, A=article.capitalize())
    return text if template.startswith("{value}") else text[:1].upper() + text[1:]


@cache
def _faker(locale: str) -> Faker:
    return Faker(locale, providers=["faker.providers.person"])


def _latin(name: str) -> str:
    """Latin letters stay as they are, diacritics and all; other scripts are transliterated."""
    foreign = any(sign.isalpha() and not (sign < "ɐ" or "Ḁ" <= sign <= "ỿ") for sign in name)
    return anyascii(name).replace("'", "").replace("`", "").title() if foreign else name
