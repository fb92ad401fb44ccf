"""Negative Preference Optimisation: a gradient ascent that slows down where a pair is already forgotten."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from salmubench.unlearning.method import Features, Method, Step, clip_loss, method


@dataclass(frozen=True)
class NPOOptions:
    """Sharpness and weight of the retain term."""

    beta: Annotated[float, Field(gt=0, description="inverse temperature; towards 0 it becomes gradient ascent")] = 0.1
    retain: Annotated[float, Field(ge=0, description="weight of the CLIP loss on retain pairs")] = 1.0


def log_match(features: Features) -> Tensor:
    """log p(true caption | picture, batch), then log p(true picture | caption, batch), shape (2b,)."""
    logits = features.logit_scale * features.similarity
    return torch.cat([logits.log_softmax(dim=1).diagonal(), logits.log_softmax(dim=0).diagonal()])


@method(
    "npo",
    summary="true forget matches made less probable than the original's, gently once they are; CLIP on retain",
    citation="Negative Preference Optimization, Zhang et al. (arXiv 2404.05868)",
    options=NPOOptions,
)
class NPO(Method[NPOOptions]):
    """Minimises -(2/beta) mean log sigmoid(-beta log(p_u / p_o)) over Df + retain * CLIP(Dr).

    The paper's p is a language model's probability of an answer; a dual encoder's is contrastive, the softmax
    probability of a pair's true match within its batch, in both directions. With retain this is the paper's NPO+RT.
    """

    needs = ("forget", "forget_original", "retain")

    def loss(self, step: Step) -> Tensor:
        beta = self.options.beta
        ratio = log_match(step.forget) - log_match(step.forget_original)
        return -2 / beta * logsigmoid(-beta * ratio).mean() + self.options.retain * clip_loss(step.retain)
