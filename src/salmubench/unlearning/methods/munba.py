"""MUNBa: forgetting and preserving as two players who bargain over the direction of each step."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from salmubench.unlearning.method import Method, Step, clip_loss, method


@dataclass(frozen=True)
class MUNBaOptions:
    """Where no bargain is struck."""

    opposed: Annotated[
        float, Field(gt=0, lt=1, description="floor of 1 + cos of the gradients' angle: opposed players do not explode")
    ] = 0.01


def bargain(forget: Tensor, preserve: Tensor, product: Tensor, opposed: float) -> tuple[Tensor, Tensor]:
    """The Nash bargaining solution for two: weights a > 0 with G^T G a = 1/a, G the two gradients as columns.

    Solved in closed form: a_i = 1 / (|g_i| sqrt(1 + cos)), so that both players gain alike.

    Args:
        forget: squared norm of the forgetting player's gradient.
        preserve: of the preserving player's.
        product: the inner product of both.
        opposed: floor of 1 + cos.
    """
    shared = (1 + product / (forget * preserve).sqrt()).clamp(min=opposed).sqrt()
    return 1 / (forget.sqrt() * shared), 1 / (preserve.sqrt() * shared)


@method(
    "munba",
    summary="CLIP loss up on forget pairs, down on retain pairs, weighed by Nash bargaining of both gradients",
    citation="MUNBa, Wu and Harandi (arXiv 2411.15537)",
    options=MUNBaOptions,
)
class MUNBa(Method[MUNBaOptions]):
    """Steps along a_f grad(-CLIP(Df)) + a_r grad CLIP(Dr), (a_f, a_r) the bargaining solution at each step.

    Both players use CLIP's own loss, as a dual encoder has no labels to relabel. The weights are constants of the step,
    which costs two backward passes more than a plain sum.
    """

    needs = ("forget", "retain")

    def loss(self, step: Step) -> Tensor:
        players = -clip_loss(step.forget), clip_loss(step.retain)
        f, r = (torch.cat([part.flatten() for part in step.gradient(player)]) for player in players)
        a_f, a_r = bargain(f @ f, r @ r, f @ r, self.options.opposed)
        return a_f * players[0] + a_r * players[1]
