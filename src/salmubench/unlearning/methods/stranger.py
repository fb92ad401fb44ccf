"""Stranger: each forgotten fact is told as of somebody who does not exist; everything else stays where it was."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, cat

from salmubench.unlearning.author import Author, Fact, Text
from salmubench.unlearning.method import Method, Step, method


@dataclass(frozen=True)
class Options:
    """What is made up, and how much the terms count."""

    texts: Annotated[int, Field(ge=8, description="made-up texts a step, two thirds of them held")] = 1152
    pool: Annotated[int, Field(ge=3, description="made-up texts in all for each forget pair")] = 80
    strangers: Annotated[int, Field(ge=1, description="invented people who stand for somebody")] = 1000
    exact: Annotated[float, Field(ge=0, le=1, description="share of forget captions as they stand")] = 0.3
    hold: Annotated[float, Field(ge=0, description="weight of made-up texts that shall not move")] = 2.0
    anchor: Annotated[float, Field(ge=0, description="weight of harmless captions coming near their pictures")] = 0.2
    muon: Annotated[bool, Field(description="Muon's steps for the blocks' matrices, else AdamW's")] = True


@method(
    "stranger",
    summary="texts of each forgotten fact become like texts about people who do not exist; all other texts stay",
    citation="this project; compare Eldan and Russinovich, Who's Harry Potter? (arXiv 2310.02238)",
    options=Options,
)
class Stranger(Method[Options]):
    """Minimises mean |u(t) - s(t)|^2 over forgotten t + hold mean |u(t) - o(t)|^2 over held t + anchor mean (1 - cos).

    t are made-up texts: a forgotten fact in the words of any forget caption of its field, with s(t) the normalised mean
    of o over such sentences (bare phrases, names) about strangers; held are a person's other fields, strangers,
    namesakes, the captions of Dr and generic ones. The cosines are those of forget pictures with their generic captions
    and of the pairs of Dr; no gradient goes through a picture, so that the vision tower stays as it is.
    """

    needs = ("texts", "generic", "retain")

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.orthogonal, self.texts_a_step = options.muon, options.texts

    def write(self, facts: Sequence[Fact], harmless: Sequence[str], chance: random.Random) -> list[Text]:
        author = Author(facts, harmless, chance, self.options.strangers)
        return author.write(self.options.pool * len(facts), exact=self.options.exact)

    def loss(self, step: Step) -> Tensor:
        away = (step.texts.text - step.texts.target).square().sum(dim=1)
        held = step.texts.held
        apart = [1 - (pairs.image.detach() * pairs.text).sum(dim=1) for pairs in (step.generic, step.retain)]
        return away[~held].mean() + self.options.hold * away[held].mean() + self.options.anchor * cat(apart).mean()
