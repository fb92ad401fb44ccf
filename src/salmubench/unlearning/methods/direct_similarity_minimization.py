"""Direct Similarity Minimization: push each forget pair apart."""

from torch import Tensor

from salmubench.unlearning.method import Method, NoOptions, Step, method


@method(
    "direct-similarity-minimization",
    summary="mean cosine of the true forget pairs, minimised",
    citation="baseline of SALMUBench (arXiv 2603.26316)",
)
class DirectSimilarityMinimization(Method[NoOptions]):
    """Minimises mean_i S_u(Df)[i, i]. It has no floor above -1, hence its over-correction far below Clean."""

    needs = ("forget",)

    def loss(self, step: Step) -> Tensor:
        return step.forget.similarity.diagonal().mean()
