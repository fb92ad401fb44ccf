"""SalUn: any method's steps, but only on the weights that matter most to the forget set."""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from salmubench.errors import UserError
from salmubench.unlearning.method import Look, Method, Step, clip_loss, gradient_sums, method, methods, trained_weights


@dataclass(frozen=True)
class SalUnOptions:
    """What is masked."""

    base: Annotated[str, Field(description="the method whose steps are masked")] = "shuffled-captions"
    share: Annotated[float, Field(gt=0, le=1, description="share of the reached weights that stay trainable")] = 0.5


SUMMARY = "a base method's steps, on the half of the weights with the largest forget gradient alone"


@method("salun", summary=SUMMARY, citation="SalUn, Fan et al. (arXiv 2310.12508)", options=SalUnOptions)
class SalUn(Method[SalUnOptions]):
    """After each step W <- m W + (1 - m) W_o, m = 1 where |grad CLIP(Df)| at W_o is among the largest.

    The gradient is summed over the first pass over Df. The paper's base is random labels: shuffled captions here. The
    share is of the weights that the pass reaches at all, for most token embeddings have no gradient.
    """

    def __init__(self, options: SalUnOptions) -> None:
        super().__init__(options)
        entry = methods[options.base]
        if not entry.build.trains or entry.build is SalUn:
            raise UserError(f"--set base={options.base}: salun masks a method that takes steps; choose another")
        self.base: Method[Any] = entry.build(entry.parse({}))
        self.needs = tuple(dict.fromkeys(("forget", *self.base.needs)))

    def start(self, model: nn.Module, look: Look) -> None:
        self.base.start(model, look)
        (sums,) = gradient_sums(model, look, lambda step: clip_loss(step.forget))
        sizes = torch.cat([total.abs().flatten() for total in sums.values()])
        cut = sizes.topk(max(1, round(self.options.share * int(sizes.count_nonzero())))).values[-1]
        self.held = {n: (sums[n].abs() < cut, w.detach().clone()) for n, w in trained_weights(model).items()}

    def loss(self, step: Step) -> Tensor:
        return self.base.loss(step)

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        self.base.after_step(model)
        for name, (mask, original) in self.held.items():
            model.get_parameter(name)[mask] = original[mask]

    def finish(self, model: nn.Module, generator: torch.Generator) -> None:
        self.base.finish(model, generator)
        self.after_step(model)
