"""Redirection: send the sensitive caption to where its generic caption lies, hold the rest where it is."""

from torch import Tensor
from torch.nn.functional import cosine_similarity

from salmubench.unlearning.method import Features, Method, RetainOptions, Step, clip_loss, method


def distance(embedding: Tensor, target: Tensor) -> Tensor:
    """1 - mean cosine of rows, both shape (b, d)."""
    return 1 - cosine_similarity(embedding, target).mean()


@method(
    "redirection",
    summary="forget captions and pictures redirected to the original's generic captions; retain embeddings kept",
    citation="Safe-CLIP, Poppi et al. (arXiv 2311.16254)",
    options=RetainOptions,
)
class Redirection(Method[RetainOptions]):
    """Minimises redirection on Df + retain * preservation on Dr, t captions, g generic captions, v pictures.

    Redirection: 1 - cos(t_u, g_o) + CLIP(v_u, g_o). Preservation: 1 - cos(t_u, t_o) + 1 - cos(v_u, v_o) +
    CLIP(v_u, t_o) + CLIP(v_o, t_u), each CLIP with the original's logit scale. Safe-CLIP has a safe caption *and* a
    safe picture for each unsafe pair and redirects each tower to both; a forget picture has no safe counterpart (a
    face is no secret, its tie to a fact is), so the picture terms that would need one are left out.
    """

    needs = ("forget", "generic_original", "retain", "retain_original")

    def loss(self, step: Step) -> Tensor:
        forget, generic, kept, original = step.forget, step.generic_original, step.retain, step.retain_original
        scale = generic.logit_scale
        redirected = distance(forget.text, generic.text) + clip_loss(Features(forget.image, generic.text, scale))
        preserved = distance(kept.text, original.text) + distance(kept.image, original.image)
        preserved = preserved + clip_loss(Features(kept.image, original.text, scale))
        return redirected + self.options.retain * (preserved + clip_loss(Features(original.image, kept.text, scale)))
