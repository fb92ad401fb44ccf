"""Descent-to-Delete: fine-tune on retain data, then publish the weights with calibrated Gaussian noise."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from salmubench.unlearning.method import Method, Step, clip_loss, method, trained_weights


@dataclass(frozen=True)
class DescentToDeleteOptions:
    """The noise scale, see ``noise_scale``."""

    epsilon: Annotated[float, Field(gt=0, description="epsilon of the indistinguishability that is aimed at")] = 5.0
    delta: Annotated[float, Field(gt=0, lt=1, description="its delta")] = 1e-5
    sensitivity: Annotated[
        float, Field(ge=0, description="assumed distance to retrained weights, in each tensor's root mean squares")
    ] = 0.01


def noise_scale(epsilon: float, delta: float, sensitivity: float) -> float:
    """sigma = D / (sqrt 2 (sqrt(log(1/delta) + epsilon) - sqrt(log(1/delta)))): hides a distance of D.

    Theorem 3.1 of arXiv 2007.02923 puts D = 8 L g^I / (m n (1 - g^I)) for an L-Lipschitz, m-strongly convex loss, n
    rows and I steps that contract by g. A CLIP is not convex: nothing bounds D, so no guarantee follows, and D is an
    option. The default (sigma = 1.05 % of a weight's root mean square) leaves a model usable; the SALMUBench authors'
    constants (L 1.001, m .001, g .9995, n 4e8, epsilon 5) give an absolute sigma of .07, larger than a usual weight.
    """
    base = math.log(1 / delta)
    return sensitivity / (math.sqrt(2) * (math.sqrt(base + epsilon) - math.sqrt(base)))


@method(
    "descent-to-delete",
    summary="CLIP loss on retain pairs, then Gaussian noise on the published weights",
    citation="Descent-to-Delete, Neel et al. (arXiv 2007.02923)",
    options=DescentToDeleteOptions,
)
class DescentToDelete(Method[DescentToDeleteOptions]):
    """Minimises CLIP(Dr); at the end adds N(0, (sigma rms(W))^2) to every entry of every trained tensor W.

    sigma = sensitivity / (sqrt 2 (sqrt(log(1/delta) + epsilon) - sqrt(log(1/delta)))), by default 1.05 %.
    """

    needs = ("retain",)

    def loss(self, step: Step) -> Tensor:
        return clip_loss(step.retain)

    @torch.no_grad()
    def finish(self, model: nn.Module, generator: torch.Generator) -> None:
        sigma = noise_scale(self.options.epsilon, self.options.delta, self.options.sensitivity)
        for weight in trained_weights(model).values():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
            weight.add_((sigma * weight.square().mean().sqrt() * noise.to(weight.device)).to(weight.dtype))
