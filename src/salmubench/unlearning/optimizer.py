"""AdamW's parameter groups, and AdamW with Muon's steps for the matrices inside the blocks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from salmubench.unlearning.method import trained_weights

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
"""Coefficients of the quintic iteration that takes all singular values near 1 (kellerjordan.github.io/posts/muon)."""
ITERATIONS = 5
EMBEDDINGS = ("token_embedding", "positional_embedding", "class_embedding", "logit")


def parameter_groups(model: nn.Module, weight_decay: float, *, orthogonal: bool = False) -> list[dict[str, Any]]:
    """AdamW groups as open_clip_train makes them: gains, biases and the logit scale are not decayed.

    Args:
        model: whose trained weights are grouped.
        weight_decay: of the matrices.
        orthogonal: puts plain matrices, embeddings aside, into a group of their own for ``MuonAdamW``.
    """
    trained = trained_weights(model)
    inner = [
        weight
        for name, weight in trained.items()
        if orthogonal and weight.ndim == 2 and not any(part in name for part in EMBEDDINGS)
    ]
    chosen = {id(weight) for weight in inner}
    matrices = [weight for weight in trained.values() if weight.ndim >= 2 and id(weight) not in chosen]
    vectors = [weight for weight in trained.values() if weight.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": vectors, "weight_decay": 0.0},
        {"params": matrices, "weight_decay": weight_decay},
    ]
    return [*groups, {"params": inner, "weight_decay": weight_decay, "orthogonal": True}] if inner else groups


class MuonAdamW(AdamW):
    """AdamW, but for groups marked ``orthogonal``, whose matrices take Muon's steps (arXiv 2502.16982, equation 4).

    W <- (1 - lr wd) W - 0.2 lr sqrt(max(rows, columns)) NS(momentum), so that both kinds share a learning rate.
    One optimiser rather than two: torch has its own Muon since 2.9, for matrices alone.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Steps along the gradients; those of the orthogonal groups are used up before AdamW looks at the rest."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            if not group.get("orthogonal"):
                continue
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(weight)}  # AdamW expects a step
                momentum: Tensor = state["momentum"]
                momentum.lerp_(weight.grad, 1 - MOMENTUM)
                update = orthogonalise(weight.grad.lerp(momentum, MOMENTUM))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-0.2 * group["lr"] * max(weight.shape) ** 0.5)
                weight.grad = None
        super().step()
        return loss


def orthogonalise(matrix: Tensor) -> Tensor:
    """Roughly U V^T of a matrix's singular value decomposition, by Newton-Schulz; shape (n, m) as it came."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
