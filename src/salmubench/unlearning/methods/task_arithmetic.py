"""Task arithmetic: learn the forget set even better, then walk the same way backwards."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from salmubench.unlearning.method import Look, Method, Step, clip_loss, method, trained_weights


@dataclass(frozen=True)
class TaskArithmeticOptions:
    """How far back."""

    scale: Annotated[float, Field(gt=0, description="lambda, how much of the task vector is subtracted")] = 1.0


@method(
    "task-arithmetic",
    summary="fine-tunes on forget pairs, then subtracts what that changed from the original",
    citation="Editing models with task arithmetic, Ilharco et al. (arXiv 2212.04089)",
    options=TaskArithmeticOptions,
)
class TaskArithmetic(Method[TaskArithmeticOptions]):
    """Minimises CLIP(Df), which gives W_ft; publishes W = W_o - lambda (W_ft - W_o).

    As in the paper, with CLIP's own loss for the task, since the forget set has no labels. The paper chooses lambda on
    a validation set; here it is an option.
    """

    needs = ("forget",)

    def start(self, model: nn.Module, look: Look) -> None:
        self.original = {name: weight.detach().clone() for name, weight in trained_weights(model).items()}

    def loss(self, step: Step) -> Tensor:
        return clip_loss(step.forget)

    @torch.no_grad()
    def finish(self, model: nn.Module, generator: torch.Generator) -> None:
        for name, weight in trained_weights(model).items():
            original = self.original[name]
            weight.copy_(original - self.options.scale * (weight - original))
