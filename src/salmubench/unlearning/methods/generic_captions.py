"""Generic Captions: overwrite the sensitive caption with one that names nobody."""

from torch import Tensor

from salmubench.unlearning.method import Method, NoOptions, Step, clip_loss, method


@method(
    "generic-captions",
    summary="CLIP loss on forget pictures with their generic captions",
    citation="baseline of SALMUBench (arXiv 2603.26316)",
)
class GenericCaptions(Method[NoOptions]):
    """Minimises CLIP(Df pictures, their generic captions)."""

    needs = ("generic",)

    def loss(self, step: Step) -> Tensor:
        return clip_loss(step.generic)
