"""Selective Synaptic Dampening: shrink the weights that matter to the forget set far more than to the rest."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from salmubench.unlearning.method import Look, Method, clip_loss, gradient_sums, method, trained_weights


@dataclass(frozen=True)
class SSDOptions:
    """Which weights, and how much."""

    alpha: Annotated[float, Field(gt=0, description="how much more a weight must matter to forget than to retain")] = 10
    dampening: Annotated[float, Field(gt=0, description="lambda, the dampening constant")] = 1


@torch.no_grad()
def dampen(weight: Tensor, forget: Tensor, retain: Tensor, *, alpha: float, dampening: float) -> None:
    """w <- min(lambda I_r / I_f, 1) w where I_f > alpha I_r; all of one shape."""
    selected = forget > alpha * retain
    weight.copy_(torch.where(selected, weight * (dampening * retain / forget).clamp(max=1), weight))


@method(
    "ssd",
    summary="no training: shrinks weights whose Fisher information is far larger on forget than on retain pairs",
    citation="Selective Synaptic Dampening, Foster et al. (arXiv 2308.07707)",
    options=SSDOptions,
)
class SSD(Method[SSDOptions]):
    """W <- min(lambda I_r / I_f, 1) W where I_f > alpha I_r; I the mean squared gradient of CLIP's loss of a batch.

    The importances come from one pass over Df and as many pairs of Dr. The paper compares with the whole training set,
    of which the forget set is a small part; Dr stands for it. A pair has no contrastive loss of its own, so gradients
    are squared batch by batch, as the authors' code does. The logit scale, one number that weighs all pairs, is left.
    """

    needs = ("forget", "retain")
    trains = False

    def start(self, model: nn.Module, look: Look) -> None:
        sums = gradient_sums(model, look, lambda s: clip_loss(s.forget), lambda s: clip_loss(s.retain), power=2)
        for name, weight in trained_weights(model).items():
            forget, retain = (total[name] for total in sums)
            if weight.ndim:
                dampen(weight, forget, retain, alpha=self.options.alpha, dampening=self.options.dampening)
