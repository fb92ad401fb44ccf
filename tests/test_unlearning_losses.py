"""Each loss against a plain transcription of its formula (value and gradient), and the registry's contract."""

import dataclasses
import inspect
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from salmubench.errors import UserError
from salmubench.unlearning.method import SEEN, Features, Method, MethodEntry, Need, Step, TextFeatures, methods
from salmubench.unlearning.methods.descent_to_delete import noise_scale

PAPER = (
    "finetuning",
    "negative-gradient",
    "shuffled-captions",
    "direct-similarity-minimization",
    "generic-captions",
    "vlunlearn",
    "cliperase",
    "delete",
    "descent-to-delete",
)
NEEDS = tuple(SEEN)


def random_step(batch: int, width: int, seed: int) -> tuple[Step, dict[str, Tensor]]:
    """A step of random unit features in float64, and the leaves that gradients are taken by."""
    generator = torch.Generator().manual_seed(seed)
    leaves = {"log_scale": torch.tensor(1.3, dtype=torch.float64, requires_grad=True)}
    for name in ("forget", "generic", "retain"):
        for tower in ("image", "text"):
            leaves[f"{name}.{tower}"] = torch.randn(
                batch, width, generator=generator, dtype=torch.float64
            ).requires_grad_()
    leaves["generic.image"] = leaves["forget.image"]
    features: dict[Need, Features] = {}
    for need in NEEDS:
        if need == "texts":
            continue
        if need.endswith("_original"):
            image, text = (torch.randn(batch, width, generator=generator, dtype=torch.float64) for _ in range(2))
            scale = torch.tensor(5.0, dtype=torch.float64)
        else:
            image, text, scale = leaves[f"{need}.image"], leaves[f"{need}.text"], leaves["log_scale"].exp()
        features[need] = Features(nn.functional.normalize(image, dim=-1), nn.functional.normalize(text, dim=-1), scale)
    leaves["texts"], target = (
        torch.randn(batch, width, generator=generator, dtype=torch.float64).requires_grad_(live)
        for live in (True, False)
    )
    texts = TextFeatures(
        *(nn.functional.normalize(x, dim=-1) for x in (leaves["texts"], target)), torch.arange(batch) % 2 > 0
    )
    shift = torch.roll(torch.arange(batch), 1)
    return Step(features, shift, 0.5, list(leaves.values()), texts=texts), leaves


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([x * y for x, y in zip(a, b, strict=True)]).sum()


def clip(images: list[Tensor], texts: list[Tensor], scale: Tensor) -> Tensor:
    """-1/2b sum_i [log softmax_j(scale <x_i, t_j>)_i + log softmax_j(scale <x_j, t_i>)_i]."""
    total, count = torch.zeros((), dtype=torch.float64), len(images)
    for i in range(count):
        own = scale * cosine(images[i], texts[i])
        by_image = sum((torch.exp(scale * cosine(images[i], text)) for text in texts), torch.zeros(()))
        by_text = sum((torch.exp(scale * cosine(image, texts[i])) for image in images), torch.zeros(()))
        total = total - (own - torch.log(by_image)) / 2 - (own - torch.log(by_text)) / 2
    return total / count


def mean_square(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    return torch.stack([(a - b) ** 2 for a, b in pairs]).mean()


def matrix_term(u: Features, target: Callable[[int, int], Tensor]) -> Tensor:
    """Picture-to-text plus text-to-picture mean squared difference of cosines from ``target(picture, text)``."""
    count = range(len(u.image))
    forward = mean_square([(cosine(u.image[i], u.text[j]), target(i, j)) for i in count for j in count])
    backward = mean_square([(cosine(u.text[j], u.image[i]), target(i, j)) for j in count for i in count])
    return forward + backward


def same_cosines(u: Features, o: Features) -> Tensor:
    return matrix_term(u, lambda i, j: cosine(o.image[i], o.text[j]))


def unimodal(u: Features, o: Features) -> Tensor:
    image = mean_square(list(zip(u.image.flatten(), o.image.flatten(), strict=True)))
    return image + mean_square(list(zip(u.text.flatten(), o.text.flatten(), strict=True)))


def fused(f: Features) -> Tensor:
    rows = [(x + t) / 2 for x, t in zip(f.image, f.text, strict=True)]
    return torch.stack([row / (row**2).sum().sqrt() for row in rows]).flatten()


def finetuning(s: Step) -> Tensor:
    return clip(list(s.retain.image), list(s.retain.text), s.retain.logit_scale)


def negative_gradient(s: Step) -> Tensor:
    return -clip(list(s.forget.image), list(s.forget.text), s.forget.logit_scale)


def shuffled_captions(s: Step) -> Tensor:
    return clip(list(s.forget.image), [s.forget.text[int(k)] for k in s.permutation], s.forget.logit_scale)


def direct(s: Step) -> Tensor:
    return torch.stack([cosine(x, t) for x, t in zip(s.forget.image, s.forget.text, strict=True)]).mean()


def generic_captions(s: Step) -> Tensor:
    return clip(list(s.forget.image), list(s.generic.text), s.forget.logit_scale)


def vlunlearn(s: Step, retain: float = 1) -> Tensor:
    o = s.forget_original
    decoupling = matrix_term(s.forget, lambda i, j: cosine(o.image[i], o.text[int(s.permutation[j])]))
    multimodal = mean_square(list(zip(fused(s.retain), fused(s.retain_original), strict=True)))
    return decoupling + retain * (multimodal + unimodal(s.retain, s.retain_original))


def forgotten(s: Step) -> Tensor:
    zero = torch.zeros((), dtype=torch.float64)
    return matrix_term(s.forget, lambda i, j: zero)


def delete(s: Step, retain: float = 1) -> Tensor:
    return forgotten(s) + retain * same_cosines(s.retain, s.retain_original)


def cliperase(s: Step, retain: float = 1) -> Tensor:
    return delete(s, retain) + retain * unimodal(s.retain, s.retain_original)


def delete_kl(s: Step) -> Tensor:
    """Mean over queries of sum_j p_j log(p_j / q_j), p the teacher's softmax over the wrong matches only."""
    u, o, count = s.forget, s.forget_original, range(len(s.forget.image))
    total = torch.zeros((), dtype=torch.float64)
    for by_picture in (True, False):
        for i in count:
            cell = (
                (lambda f, j, i=i: cosine(f.image[i], f.text[j]))
                if by_picture
                else (lambda f, j, i=i: cosine(f.image[j], f.text[i]))
            )
            teacher = {j: torch.exp(o.logit_scale * cell(o, j)) for j in count if j != i}
            student = torch.stack([torch.exp(u.logit_scale * cell(u, j)) for j in count])
            for j, weight in teacher.items():
                p = weight / sum(teacher.values())
                total = total + p * (torch.log(p) - torch.log(student[j] / student.sum())) / (2 * len(count))
    return total


def cliperase_ce(s: Step, retain: float = 1) -> Tensor:
    return forgotten(s) + retain * (finetuning(s) + unimodal(s.retain, s.retain_original))


def npo(s: Step) -> Tensor:
    """-(2/beta) mean log sigmoid(-beta log(p_u / p_o)) over both directions' true matches, beta .5, + 2 CLIP(Dr)."""

    def probability(f: Features, i: int, by_picture: bool) -> Tensor:
        cells = [(f.image[i], text) if by_picture else (f.image[j], f.text[i]) for j, text in enumerate(f.text)]
        scores = torch.stack([torch.exp(f.logit_scale * cosine(a, b)) for a, b in cells])
        return scores[i] / scores.sum()

    terms = [
        -2 / 0.5 * torch.log(1 / (1 + (probability(s.forget, i, way) / probability(s.forget_original, i, way)) ** 0.5))
        for i in range(len(s.forget.image))
        for way in (True, False)
    ]
    return torch.stack(terms).mean() + 2 * finetuning(s)


def redirection(s: Step) -> Tensor:
    def away(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([1 - cosine(x, y) for x, y in zip(a, b, strict=True)]).mean()

    o, r, scale = s.retain_original, s.retain, s.retain_original.logit_scale
    generic = s.generic_original.text
    redirected = away(s.forget.text, generic) + clip(list(s.forget.image), list(generic), scale)
    kept = away(r.text, o.text) + away(r.image, o.image)
    return redirected + 0.5 * (
        kept + clip(list(r.image), list(o.text), scale) + clip(list(o.image), list(r.text), scale)
    )


def munba(s: Step) -> Tensor:
    """The bargaining problem solved by Newton's method: a > 0 with (G^T G) a = 1 / a."""
    players = [negative_gradient(s), finetuning(s)]
    gradients = [torch.cat([part.flatten() for part in s.gradient(player)]) for player in players]
    gram = torch.stack([torch.stack([x @ y for y in gradients]) for x in gradients])
    a = 1 / gram.diagonal().sqrt()
    for _ in range(60):
        a = a - torch.linalg.solve(gram + torch.diag(1 / a**2), gram @ a - 1 / a)
    return a[0] * players[0] + a[1] * players[1]


def stranger(step: Step) -> Tensor:
    def mean(texts: list[tuple[Tensor, Tensor]]) -> Tensor:
        return torch.stack([((u - v) ** 2).sum() for u, v in texts]).mean()

    texts = list(zip(step.texts.text, step.texts.target, step.texts.held.tolist(), strict=True))
    forgotten, held = ([(u, v) for u, v, kept in texts if kept is side] for side in (False, True))
    pairs = [*zip(step.generic.image, step.generic.text, strict=True)]
    pairs += zip(step.retain.image, step.retain.text, strict=True)
    apart = torch.stack([1 - v.detach() @ t for v, t in pairs]).mean()
    return mean(forgotten) + 2 * mean(held) + 0.2 * apart


FORMULAS: list[tuple[str, dict[str, str], Callable[[Step], Tensor]]] = [
    ("finetuning", {}, finetuning),
    ("negative-gradient", {}, negative_gradient),
    ("shuffled-captions", {}, shuffled_captions),
    ("direct-similarity-minimization", {}, direct),
    ("generic-captions", {}, generic_captions),
    ("vlunlearn", {}, vlunlearn),
    ("cliperase", {}, cliperase),
    ("delete", {}, delete),
    ("delete-kl", {}, delete_kl),
    ("cliperase-ce", {}, cliperase_ce),
    ("vlunlearn", {"retain": "3"}, partial(vlunlearn, retain=3)),
    ("cliperase", {"retain": "3"}, partial(cliperase, retain=3)),
    ("cliperase-ce", {"retain": "0"}, forgotten),
    ("delete", {"retain": "4"}, partial(delete, retain=4)),
    ("descent-to-delete", {}, finetuning),
    ("task-arithmetic", {}, lambda s: -negative_gradient(s)),
    ("salun", {}, shuffled_captions),
    ("salun", {"base": "delete-kl"}, delete_kl),
    ("npo", {"beta": "0.5", "retain": "2"}, npo),
    ("redirection", {"retain": "0.5"}, redirection),
    ("munba", {"opposed": "1e-9"}, munba),
    ("stranger", {"hold": "2"}, stranger),
]


def gradients(loss: Tensor, leaves: dict[str, Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, retain_graph=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves.values(), strict=True)]


@pytest.mark.parametrize(("name", "options", "formula"), FORMULAS, ids=[f"{n}{o or ''}" for n, o, _ in FORMULAS])
@settings(max_examples=8, deadline=None)
@given(batch=st.integers(2, 5), width=st.integers(2, 6), seed=st.integers(0, 2**32))
def test_loss_and_gradient_equal_the_formula(
    name: str, options: dict[str, str], formula: Callable[[Step], Tensor], batch: int, width: int, seed: int
) -> None:
    step, leaves = random_step(batch, width, seed)
    entry = methods[name]
    loss, expected = entry.build(entry.parse(options)).loss(step), formula(step)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-11)
    for found, wanted in zip(gradients(loss, leaves), gradients(expected, leaves), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-10)


def test_the_nine_baselines_are_there_and_each_method_that_trains_has_its_formula() -> None:
    assert set(PAPER) <= set(methods)
    assert {name for name in methods if methods[name].build.trains} == {name for name, _, _ in FORMULAS}


@pytest.mark.parametrize("name", list(methods))
def test_contract(name: str) -> None:
    """What every registered method keeps to, today's and tomorrow's."""
    entry: MethodEntry = methods[name]
    assert entry.summary
    assert entry.citation
    assert "\n" not in entry.summary
    assert entry.options.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.default is not dataclasses.MISSING for field in dataclasses.fields(entry.options))
    built = entry.build(entry.parse({}))
    assert type(built).__doc__
    assert entry.variant_of is None or (entry.variant_of in methods and name.startswith(entry.variant_of))
    assert len(Path(inspect.getfile(type(built))).read_text().splitlines()) < 60
    assert set(built.needs) <= set(NEEDS)
    if not built.trains:
        assert type(built).start is not Method.start
        return
    step, leaves = random_step(4, 6, 7)
    features = {need: step._get(need) for need in built.needs if need != "texts"}
    texts = step.texts if "texts" in built.needs else None
    permitted = Step(features, step.permutation, step.progress, list(leaves.values()), texts=texts)
    loss = built.loss(permitted)
    assert loss.shape == ()
    assert math.isfinite(loss.item())
    assert any(bool(gradient.abs().sum() > 0) for gradient in gradients(loss, leaves))
    assert loss.item() == entry.build(entry.parse({})).loss(permitted).item()


def test_looking_at_what_was_not_named_says_so() -> None:
    with pytest.raises(LookupError, match=r"step\.retain, which its `needs` does not name"):
        _ = Step({}, torch.arange(2), 0.0).retain
    with pytest.raises(LookupError, match=r"step\.texts, which its `needs` does not name"):
        _ = Step({}, torch.arange(2), 0.0).texts


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("npo", {"bta": "1"}, "no option 'bta'; did you mean 'beta'"),
        ("descent-to-delete", {"epsilon": "-1"}, r"--set epsilon=-1: .*greater than 0"),
        ("descent-to-delete", {"epsilon": "much"}, r"--set epsilon=much: .*number"),
        ("finetuning", {"x": "1"}, "it has none"),
    ],
)
def test_wrong_options_name_the_flag_and_the_mend(name: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        methods[name].parse(options)


def test_options_are_converted_and_explained() -> None:
    entry = methods["descent-to-delete"]
    assert entry.parse({"epsilon": "2", "delta": "1e-6"}).epsilon == 2.0
    assert entry.option_help()["delta"].startswith("1e-05: ")
    with pytest.raises(UserError, match="did you mean 'vlunlearn'"):
        methods["vl-unlearn"]


@given(epsilon=st.floats(0.1, 20), delta=st.floats(1e-12, 0.1), distance=st.floats(1e-4, 10))
def test_noise_scale_solves_the_zcdp_bound(epsilon: float, delta: float, distance: float) -> None:
    """Gaussian noise has rho = D^2 / 2 sigma^2, and rho-zCDP gives epsilon = rho + 2 sqrt(rho log(1/delta))."""
    rho = distance**2 / (2 * noise_scale(epsilon, delta, distance) ** 2)
    assert rho + 2 * math.sqrt(rho * math.log(1 / delta)) == pytest.approx(epsilon, rel=1e-6)


def test_descent_to_delete_noise_is_relative_and_reproducible() -> None:
    entry = methods["descent-to-delete"]
    sigma = noise_scale(5.0, 1e-5, 0.01)
    moved = []
    for seed in (3, 3, 4):
        model = nn.Linear(200, 100)
        with torch.no_grad():
            model.weight.fill_(-0.5)
            model.bias.fill_(0.0)
        model.bias.requires_grad_(False)
        entry.build(entry.parse({})).finish(model, torch.Generator().manual_seed(seed))
        moved.append(model.weight.detach() + 0.5)
        assert model.bias.eq(0).all()
    assert moved[0].std().item() == pytest.approx(0.5 * sigma, rel=0.03)
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])
