"""VLUnlearn: MultiDelete's three losses, for a dual encoder."""

from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from salmubench.unlearning.method import Features, Method, RetainOptions, Step, embedding_mse, method, similarity_mse


def fused(features: Features) -> Tensor:
    """A dual encoder has no fusion layer; the authors take the normalised mean of both embeddings, shape (b, d)."""
    return normalize((features.image + features.text) / 2, dim=-1)


@method(
    "vlunlearn",
    summary="forget cosines to the original's on permuted captions; retain embeddings, fused and single, kept",
    citation="MultiDelete, Cheng and Amiri (arXiv 2311.12047)",
    options=RetainOptions,
)
class VLUnlearn(Method[RetainOptions]):
    """Minimises MSE(S_u(Df), S_o(Df, permuted)) + retain [MSE(fused_u(Dr), fused_o(Dr)) + unimodal MSEs on Dr].

    The cosine term is over the whole matrix and retain is 1, as the SALMUBench authors run it
    (github.com/lluisgomez/MultiDelete).
    """

    needs = ("forget", "retain", "forget_original", "retain_original")

    def loss(self, step: Step) -> Tensor:
        unassociated = step.forget_original.similarity[:, step.permutation]
        decoupling = similarity_mse(step.forget.similarity, unassociated)
        multimodal = mse_loss(fused(step.retain), fused(step.retain_original))
        return decoupling + self.options.retain * (multimodal + embedding_mse(step.retain, step.retain_original))
