"""SLUG: one step, along one gradient, of one layer."""

from itertools import islice

import torch
from torch import Tensor, nn

from salmubench.unlearning.method import Look, Method, NoOptions, clip_loss, gradient_sums, method

PROBES, HALVINGS = 4, 8  # batches that judge a step size, and halvings of the interval of step sizes


def front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names of the (importance, alignment) that no other beats by more importance or less alignment at no cost."""
    beats = {n: [a >= x and b <= y and (a, b) != (x, y) for a, b in points.values()] for n, (x, y) in points.items()}
    return [name for name, beaten in beats.items() if not any(beaten)]


def probe(look: Look) -> list[float]:
    """Mean cosine of true forget pairs, that of wrong ones, and CLIP loss on retain, over a few batches."""
    steps = [(step.forget.similarity, step.permutation, clip_loss(step.retain)) for step in islice(look(), PROBES)]
    found = [torch.stack([s.diag().mean(), s[:, order].diag().mean(), retain]) for s, order, retain in steps]
    return [float(value) for value in torch.stack(found).mean(dim=0)]


def shortest(look: Look, weight: nn.Parameter, f: Tensor, target: float) -> tuple[bool, float, float]:
    """The least step along -f at which forget cosines reach ``target``: (did not get there, CLIP on retain, step)."""
    original, low, high = weight.clone(), 0.0, float(weight.norm() / f.norm())
    for _ in range(HALVINGS):
        weight.copy_(original - (low + high) / 2 * f)
        low, high = ((low + high) / 2, high) if probe(look)[0] > target else (low, (low + high) / 2)
    weight.copy_(original - high * f)
    cosine, _, retain = probe(look)
    weight.copy_(original)
    return cosine > target, retain, high


@method("slug", summary="no training: one layer takes one long step", citation="SLUG, Cai et al. (arXiv 2407.11867)")
class SLUG(Method[NoOptions]):
    """One layer's W <- W - s f; f = grad of Df's mean cosine, r = grad CLIP(Dr), each summed over one pass.

    Candidates: the Pareto front of importance |f| / |W| (high) and alignment |cos(f, r)| (low), of matrices alone. s:
    the least, up to |W| / |f|, by bisection, that brings forget cosines down to the original's of wrong pairs. The
    paper judges by zero-shot accuracies; here, of the layers that get there, the least CLIP loss on Dr decides.
    """

    needs = ("forget", "retain")
    trains = False

    @torch.no_grad()
    def start(self, model: nn.Module, look: Look) -> None:
        f, r = gradient_sums(model, look, lambda s: s.forget.similarity.diag().mean(), lambda s: clip_loss(s.retain))
        layers = {n: model.get_parameter(n) for n in f if f[n].ndim > 1 and "embedding" not in n and f[n].any()}
        cosines = {n: torch.cosine_similarity(f[n].flatten(), r[n].flatten(), dim=0).abs() for n in layers}
        points = {n: (float(f[n].norm() / w.norm()), float(cosines[n])) for n, w in layers.items()}
        target = probe(look)[1]
        for _, _, step, best in sorted((*shortest(look, layers[n], f[n], target), n) for n in front(points))[:1]:
            layers[best].sub_(step * f[best])
