"""CLIPErase: forgetting, retention and consistency modules."""

from torch import Tensor

from salmubench.unlearning.method import (
    Method,
    RetainOptions,
    Step,
    clip_loss,
    embedding_mse,
    erasure,
    method,
    similarity_mse,
)

CITATION = "CLIPErase, Yang et al. (arXiv 2410.23330)"


@method(
    "cliperase",
    summary="forget cosines to 0; retain cosines and embeddings kept at the original's",
    citation=CITATION,
    options=RetainOptions,
)
class CLIPErase(Method[RetainOptions]):
    """Minimises MSE(S_u(Df), 0) + retain [MSE(S_u(Dr), S_o(Dr)) + MSE of both unimodal embeddings on Dr].

    The cosine terms are over the whole matrix and retain is 1, as the SALMUBench authors run it
    (github.com/lluisgomez/MultiDelete).
    """

    needs = ("forget", "retain", "retain_original")

    def loss(self, step: Step) -> Tensor:
        retention = similarity_mse(step.retain.similarity, step.retain_original.similarity)
        consistency = embedding_mse(step.retain, step.retain_original)
        return erasure(step.forget) + self.options.retain * (retention + consistency)


@method(
    "cliperase-ce",
    summary="cliperase with CLIP's own cross-entropy on retain pairs in place of their kept cosines",
    citation=CITATION,
    options=RetainOptions,
    variant_of="cliperase",
)
class CLIPEraseCE(Method[RetainOptions]):
    """Minimises MSE(S_u(Df), 0) + retain [CLIP(Dr) + MSE of both unimodal embeddings on Dr].

    The retention module trains on Dr with the contrastive cross-entropy of CLIP's own training, rather than holding
    its cosines. Forgetting and consistency are those of ``cliperase``.
    """

    needs = ("forget", "retain", "retain_original")

    def loss(self, step: Step) -> Tensor:
        consistency = embedding_mse(step.retain, step.retain_original)
        return erasure(step.forget) + self.options.retain * (clip_loss(step.retain) + consistency)
