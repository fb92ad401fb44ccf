"""Shuffled Captions: teach every forget picture somebody else's caption."""

from dataclasses import replace

from torch import Tensor

from salmubench.unlearning.method import Method, NoOptions, Step, clip_loss, method


@method(
    "shuffled-captions",
    summary="CLIP loss on forget pictures with permuted captions of the batch",
    citation="random labels, Golatkar et al. (arXiv 1911.04933), as adapted by SALMUBench (arXiv 2603.26316)",
)
class ShuffledCaptions(Method[NoOptions]):
    """Minimises CLIP(Df pictures, permuted Df captions)."""

    needs = ("forget",)

    def loss(self, step: Step) -> Tensor:
        return clip_loss(replace(step.forget, text=step.forget.text[step.permutation]))
