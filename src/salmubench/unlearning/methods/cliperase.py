"""CLIPErase: forgetting, retention and consistency modules."""

import torch
from torch import Tensor

from salmubench.unlearning.method import Method, NoOptions, Step, embedding_mse, method, similarity_mse


@method(
    "cliperase",
    summary="forget cosines to 0; retain cosines and embeddings kept at the original's",
    citation="CLIPErase, Yang et al. (arXiv 2410.23330)",
)
class CLIPErase(Method[NoOptions]):
    """Minimises MSE(S_u(Df), 0) + MSE(S_u(Dr), S_o(Dr)) + MSE of both unimodal embeddings on Dr, weights 1.

    The cosine terms are over the whole matrix, as the SALMUBench authors run it (github.com/lluisgomez/MultiDelete).
    """

    needs = ("forget", "retain", "retain_original")

    def loss(self, step: Step) -> Tensor:
        similarity = step.forget.similarity
        forgetting = similarity_mse(similarity, torch.zeros_like(similarity))
        retention = similarity_mse(step.retain.similarity, step.retain_original.similarity)
        return forgetting + retention + embedding_mse(step.retain, step.retain_original)
