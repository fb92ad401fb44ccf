"""Negative Gradient: climb the loss that the model was trained with."""

from torch import Tensor

from salmubench.unlearning.method import Method, NoOptions, Step, clip_loss, method


@method(
    "negative-gradient",
    summary="minus the CLIP loss on forget pairs (gradient ascent)",
    citation="Golatkar et al., Eternal Sunshine of the Spotless Net (arXiv 1911.04933)",
)
class NegativeGradient(Method[NoOptions]):
    """Minimises -CLIP(Df)."""

    needs = ("forget",)

    def loss(self, step: Step) -> Tensor:
        return -clip_loss(step.forget)
