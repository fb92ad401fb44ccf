"""Finetuning: go on training on retain data and hope that the rest fades."""

from torch import Tensor

from salmubench.unlearning.method import Method, NoOptions, Step, clip_loss, method


@method(
    "finetuning",
    summary="CLIP loss on retain pairs; forget pairs are never seen",
    citation="baseline of SALMUBench (arXiv 2603.26316)",
)
class Finetuning(Method[NoOptions]):
    """Minimises CLIP(Dr)."""

    needs = ("retain",)

    def loss(self, step: Step) -> Tensor:
        return clip_loss(step.retain)
