"""Stage 5 of the five: captions that tell a fact of a person, and captions that tell only what a picture shows."""

import itertools
import re
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeVar

import numpy as np

from salmubench.dataset.schema import STYLES, Field, Style
from salmubench.errors import UserError
from salmubench.personas.grammar import (
    ARTICLE_FREE,
    BACKGROUND_PREPOSITIONS,
    CLOTHING_VERBS,
    FIELD_GRAMMARS,
    FRAMES,
    ICON_PATTERNS,
    LOOKS_VERBS,
    PORTRAIT_OPENINGS,
)
from salmubench.personas.identities import Persona
from salmubench.seeds import generator

Item = TypeVar("Item")

_LOOKS = ("hair", "glasses", "facial_hair", "skin")
_MOST_LOOKS = 2
_TRAITS_TOLD = (2, 3)
"""Of looks, clothing, expression and background: fewer would tell nobody apart, more would not fit 48 tokens."""
_SCENE_FIRST_SHARE = 0.3


def sensitive_captions(persona: Persona, fields: Sequence[Field], *, seed: int) -> list[tuple[str, Style]]:
    """One caption and its style for each entry of ``fields``.

    Each holds the full name and the fact letter for letter, without a final full stop. Entries that repeat a field get
    another template each, the five styles in turn.

    Raises:
        UserError: a field is repeated more often than it has templates.
    """
    templates = {field: _shuffled_templates(field, seed, persona.identity_id) for field in dict.fromkeys(fields)}
    captions = []
    for field in fields:
        if not templates[field]:
            raise UserError(
                f"the grammar has no further caption for the {field} of identity {persona.identity_id}: "
                "ask for fewer pictures a person"
            )
        template, style = templates[field].popleft()
        captions.append((fill(template, persona.name, persona.value(field)), style))
    return captions


@cache
def sensitive_templates(field: Field, style: Style) -> tuple[tuple[str, ...], ...]:
    """The templates of a field in a style, those that one pattern of the grammar unfolds to in one group."""
    grammar = FIELD_GRAMMARS[field]
    own: Mapping[Style, tuple[str, ...]] = {"plain": grammar.plain, "inverted": grammar.inverted}
    return tuple(unfold(pattern, field) for pattern in (*own.get(style, ()), *FRAMES[style]))


def unfold(pattern: str, field: Field) -> tuple[str, ...]:
    """All templates of a sensitive pattern, the field's own words in place of its nouns, sources and labels."""
    for mark in ("noun", "source", "label"):
        pattern = pattern.replace(f"<{mark}>", getattr(FIELD_GRAMMARS[field], mark))
    return tuple(template[:1].upper() + template[1:] for template in expand(pattern))


def expand(pattern: str) -> list[str]:
    """All wordings of a pattern: ``expand("a [b|c]")`` is ``["a b", "a c"]``."""
    pieces = re.split(r"\[([^\]]*)\]", pattern)
    choices = [piece.split("|") if place % 2 else [piece] for place, piece in enumerate(pieces)]
    return ["".join(words) for words in itertools.product(*choices)]


def _shuffled_templates(field: Field, seed: int, identity: str) -> deque[tuple[str, Style]]:
    """Every template once: styles in turn and, within a style, patterns in turn, so that neighbours differ most."""
    rng = generator(seed, "captions", identity, field)
    by_style = []
    for style in _shuffled(STYLES, rng):
        groups = [_shuffled(group, rng) for group in _shuffled(sensitive_templates(field, style), rng)]
        by_style.append([(template, style) for template in _in_turn(groups)])
    return deque(_in_turn(by_style))


def _shuffled(items: Sequence[Item], rng: np.random.Generator) -> list[Item]:
    return [items[place] for place in rng.permutation(len(items))]


def _in_turn(queues: Sequence[Sequence[Item]]) -> list[Item]:
    """The queues' first items, then their second ones, and so on; a queue that has run out is passed over."""
    longest = max(map(len, queues))
    return [queue[place] for place in range(longest) for queue in queues if place < len(queue)]


def fill(template: str, name: str, value: str) -> str:
    """A template of the grammar with a person's name and fact in place of its marks."""
    indefinite = article(value)
    return template.format(
        name=name, value=value, a_value=f"{indefinite} {value}", A_value=f"{indefinite.capitalize()} {value}"
    )


def article(noun: str) -> str:
    """ "a" or "an", as the noun sounds."""
    return "an" if re.match(r"(?!uni|eu|one|us[ae])[aeiou]|x-", noun, re.IGNORECASE) else "a"


def generic_caption(traits: Mapping[str, str], *, seed: int, key: str) -> str:
    """A caption of a portrait from what it shows: no name, no fact.

    Which traits it tells, in which order and words, is drawn; ``gender`` is always among them.

    Args:
        traits: ``gender`` ("woman") and any of ``hair``, ``glasses``, ``facial_hair``, ``skin``, ``clothing`` and
            ``background`` (noun phrases: "curly black hair", "a red hoodie") and ``expression`` ("smiling gently").
        seed: the world's seed.
        key: the picture's name.
    """
    rng = generator(seed, "generic caption", key)
    looks = _shuffled([traits[trait] for trait in _LOOKS if traits.get(trait)], rng)[: rng.integers(1, _MOST_LOOKS + 1)]
    phrases = {
        "looks": f"{_pick(LOOKS_VERBS, rng)} {' and '.join(looks)}" if looks else "",
        "clothing": f"{_pick(CLOTHING_VERBS, rng)} {traits['clothing']}" if traits.get("clothing") else "",
        "expression": traits.get("expression", ""),
        "background": f"{_pick(BACKGROUND_PREPOSITIONS, rng)} {traits['background']}"
        if traits.get("background")
        else "",
    }
    known = [kind for kind, phrase in phrases.items() if phrase]
    told = _shuffled(known, rng)[: rng.choice(_TRAITS_TOLD)]
    scene = phrases["background"] if "background" in told else ""
    clauses = [phrases[kind] for kind in told if kind != "background"]

    person = f"{_pick(PORTRAIT_OPENINGS, rng)} {article(traits['gender'])} {traits['gender']}".strip()
    caption = ", ".join([" ".join([person, *clauses[:1]]), *clauses[1:]])
    if scene:
        caption = f"{scene}, {caption}" if rng.random() < _SCENE_FIRST_SHARE else f"{caption}, {scene}"
    return caption[0].upper() + caption[1:]


def icon_caption(name: str, *, seed: int, key: str) -> str:
    """A caption of an icon's rendering: its class's name ("red apple") in many wordings, the bare name among them.

    It tells nothing but the class. A caption that also tells the background lets a contrastive model match the pairs
    without learning the classes.

    Args:
        name: the class's name.
        seed: the world's seed.
        key: names the rendering among those of the class.
    """
    rng = generator(seed, "icon caption", name, key)
    bare = name in ARTICLE_FREE or re.search(r"[^suio]s$", name)  # a plural: jeans; not glass, bus, tennis, rhinoceros
    return _pick(ICON_PATTERNS, rng).format(name=name, a_name=name if bare else f"{article(name)} {name}")


def _pick(patterns: Sequence[str], rng: np.random.Generator) -> str:
    """A pattern, then one of its wordings: a long alternation must not crowd the other patterns out."""
    wordings = expand(patterns[int(rng.integers(len(patterns)))])
    return wordings[int(rng.integers(len(wordings)))]
