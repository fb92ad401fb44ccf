"""Methods that are more than a loss, on a real tiny model: what they publish against a transcription of the formula."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from commands import python
from salmubench.encoders.checkpoint import load_encoder
from salmubench.errors import UserError
from salmubench.progress import silent
from salmubench.unlearning.data import ForgetRetain
from salmubench.unlearning.features import FeatureSource
from salmubench.unlearning.method import Step, clip_loss, methods
from salmubench.unlearning.methods.munba import bargain
from salmubench.unlearning.methods.slug import front
from salmubench.unlearning.methods.ssd import dampen
from salmubench.unlearning.plan import make_plan
from salmubench.unlearning.run import unlearn
from unlearning_world import FORGET, SMALL, products
from unlearning_world import world_folder as world_folder
from unlearning_world import world_model as world_model

torch.set_num_threads(1)
Weights = dict[str, Tensor]


def weights(checkpoint: Path) -> Weights:
    return {name: weight.detach() for name, weight in load_encoder(checkpoint, device="cpu").model.named_parameters()}


def first_pass(
    folder: Path, model: Path, tmp: Path, loss: Callable[[Step], Tensor], budget: float = 1
) -> tuple[list[Weights], list[Step]]:
    """The gradient of ``loss`` at the original on each batch of the first pass, by plain ``backward``."""
    encoder, data = load_encoder(model, device="cpu"), ForgetRetain(folder)
    plan = make_plan(data.size("forget"), data.size("retain"), budget=budget, batch_size=6, seed=42)
    source = FeatureSource(data, plan, ("forget", "retain"), encoder, steps=len(plan), scratch=tmp, progress=silent)
    gradients, steps = [], []
    for number in range(plan.first_pass):
        encoder.model.zero_grad()
        steps.append(source.encode(encoder.model, source.inputs(number)))
        loss(steps[-1]).backward(retain_graph=True)
        gradients.append({n: (w.grad if w.grad is not None else torch.zeros_like(w)).clone()
                          for n, w in encoder.model.named_parameters()})  # fmt: skip
    return gradients, steps


def test_task_arithmetic_goes_back_what_fine_tuning_on_forget_went_forth(
    folder: Path, model: Path, tmp_path: Path
) -> None:
    before = weights(model)
    once, twice = (
        weights(unlearn("task-arithmetic", model, folder, tmp_path / scale, options={"scale": scale}, **SMALL))
        for scale in ("1", "2.5")
    )
    for name, weight in before.items():
        torch.testing.assert_close(twice[name] - weight, 2.5 * (once[name] - weight), rtol=1e-4, atol=1e-6)
    fine_tuned = {name: 2 * before[name] - weight for name, weight in once.items()}
    plain = weights(unlearn("negative-gradient", model, folder, tmp_path / "ascent", **SMALL))
    moved = [(fine_tuned[name] - before[name]).flatten() for name in before]
    back = [(plain[name] - before[name]).flatten() for name in before]
    assert torch.cosine_similarity(torch.cat(moved), torch.cat(back), dim=0) < -0.5


def test_salun_moves_the_salient_weights_alone(folder: Path, model: Path, tmp_path: Path) -> None:
    gradients, _ = first_pass(folder, model, tmp_path, lambda step: clip_loss(step.forget))
    sums = {name: torch.stack([part[name] for part in gradients]).sum(dim=0).abs() for name in gradients[0]}
    reached = torch.cat([size[size > 0] for size in sums.values()]).sort(descending=True).values
    cut = reached[round(0.25 * len(reached)) - 1]
    before = weights(model)
    for base in ("descent-to-delete", "shuffled-captions"):
        options = {"base": base, "share": "0.25"}
        after = weights(unlearn("salun", model, folder, tmp_path / base, budget=2, options=options, **SMALL))
        moved = torch.cat([(before[name] != after[name]).flatten() for name in before])
        salient = torch.cat([(sums[name] >= cut).flatten() for name in before])
        assert not (moved & ~salient).any(), "not even decay or published noise moves what is held"
        assert (moved & salient).sum() > 0.9 * salient.sum()
    record = json.loads((tmp_path / "shuffled-captions" / "record.json").read_text())
    assert (record["steps"], record["batches_looked_at"]) == (8, 4)
    seen = pq.read_table(tmp_path / "shuffled-captions" / "rows.parquet").to_pydict()
    assert seen["count"] == [3] * FORGET, "two passes of training and one for the mask"


@pytest.mark.parametrize("base", ["salun", "ssd", "slug"])
def test_salun_refuses_what_takes_no_steps(base: str, folder: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--set base={base}: salun masks a method that takes steps"):
        unlearn("salun", model, folder, tmp_path / "out", options={"base": base}, **SMALL)
    with pytest.raises(UserError, match="did you mean 'delete'"):
        unlearn("salun", model, folder, tmp_path / "out", options={"base": "delet"}, **SMALL)


def test_ssd_dampens_by_the_papers_formula(folder: Path, model: Path, tmp_path: Path) -> None:
    importances = []
    for part in (lambda step: clip_loss(step.forget), lambda step: clip_loss(step.retain)):
        gradients, _ = first_pass(folder, model, tmp_path, part, budget=3)
        importances.append({n: torch.stack([g[n] ** 2 for g in gradients]).mean(dim=0) for n in gradients[0]})
    before = weights(model)
    out = unlearn("ssd", model, folder, tmp_path / "out", budget=3, options={"alpha": "3", "dampening": ".5"}, **SMALL)
    after, dampened = weights(out), 0
    for name, weight in before.items():
        forget, retain = importances[0][name], importances[1][name]
        expected = weight.clone()
        for place in torch.nonzero(forget > 3 * retain) if weight.ndim else []:
            here = tuple(place.tolist())
            expected[here] *= min(float(0.5 * retain[here] / forget[here]), 1)
            dampened += 1
        noise = torch.maximum(forget, retain) < 1e-12  # a key's bias has no gradient but what rounding makes
        torch.testing.assert_close(after[name][~noise], expected[~noise], rtol=1e-3, atol=1e-7)
    assert dampened > 100
    record = json.loads((out / "record.json").read_text())
    assert (record["steps"], record["batches_looked_at"], record["rows"]["forget"]) == (0, 4, FORGET)
    counts = pq.read_table(out / "rows.parquet").to_pydict()["count"]
    assert counts[:FORGET] == [1] * FORGET, "a budget of 3 is not used up"
    assert sum(counts) == 2 * FORGET


@given(values=st.lists(st.tuples(*[st.floats(1e-6, 1)] * 3), min_size=1, max_size=9), alpha=st.floats(1, 9))
def test_dampening_never_grows_a_weight(values: list[tuple[float, float, float]], alpha: float) -> None:
    weight, forget, retain = (torch.tensor(column) for column in zip(*values, strict=True))
    edited = weight.clone()
    dampen(edited, forget, retain, alpha=alpha, dampening=2)
    assert (edited <= weight).all()
    assert torch.equal(edited[forget <= alpha * retain], weight[forget <= alpha * retain])


def test_slug_moves_one_layer_along_its_forget_gradient_just_far_enough(
    folder: Path, model: Path, tmp_path: Path
) -> None:
    forget, steps = first_pass(folder, model, tmp_path, lambda step: step.forget.similarity.diagonal().mean())
    retain, _ = first_pass(folder, model, tmp_path, lambda step: clip_loss(step.retain))
    f, r = ({n: torch.stack([g[n] for g in part]).sum(dim=0) for n in part[0]} for part in (forget, retain))
    out = unlearn("slug", model, folder, tmp_path / "out", **SMALL)
    before, after = weights(model), weights(out)
    (moved,) = [name for name in before if not torch.equal(before[name], after[name])]
    step = (before[moved] - after[moved]).flatten()
    assert torch.cosine_similarity(step, f[moved].flatten(), dim=0) > 0.9999
    assert step.norm() <= before[moved].norm() * 1.0001
    for name, weight in before.items():  # nobody is more important and less aligned
        if weight.ndim > 1 and "embedding" not in name and f[name].any():
            more = f[name].norm() / weight.norm() > 1.001 * f[moved].norm() / before[moved].norm()
            angles = [torch.cosine_similarity(f[n].flatten(), r[n].flatten(), dim=0).abs() for n in (name, moved)]
            assert not (more and angles[0] < 0.999 * angles[1])
    wrong = torch.stack([s.forget.similarity[:, s.permutation].diagonal().mean() for s in steps]).mean()
    encoder = load_encoder(out, device="cpu")
    data = ForgetRetain(folder)
    plan = make_plan(data.size("forget"), data.size("retain"), budget=1, batch_size=6, seed=42)
    source = FeatureSource(data, plan, ("forget",), encoder, steps=len(plan), scratch=tmp_path, progress=silent)
    cosines = [source.encode(encoder.model, source.inputs(n)).forget.similarity.diagonal().mean() for n in range(4)]
    assert torch.stack(cosines).mean() <= wrong + 1e-5


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_the_front_is_what_nobody_beats(points: list[tuple[int, int]]) -> None:
    named = {str(number): (float(x), float(y)) for number, (x, y) in enumerate(points)}
    found = front(named)
    for name, (x, y) in named.items():
        beaten = any((a > x and b <= y) or (a >= x and b < y) for a, b in named.values())
        assert (name in found) == (not beaten)


@given(norms=st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)), cosine=st.floats(-0.95, 1))
def test_the_bargain_solves_the_nash_equation(norms: tuple[float, float], cosine: float) -> None:
    f, r, product = torch.tensor([norms[0] ** 2, norms[1] ** 2, cosine * norms[0] * norms[1]], dtype=torch.float64)
    a, b = bargain(f, r, product, 0.01)
    torch.testing.assert_close(torch.stack([f * a + product * b, product * a + r * b]), torch.stack([1 / a, 1 / b]))
    opposed = bargain(f, r, -(f * r).sqrt(), 0.01)
    assert all(bool(weight.isfinite()) for weight in opposed)


KILLED = """
    import os, signal, sys
    from contextlib import contextmanager
    import torch
    import salmubench.unlearning.run as run
    torch.set_num_threads(1)
    method, scope, model, data, out, moment = sys.argv[1:]

    def die(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def progress(description, total):
        calls = 0
        def advance(count):
            nonlocal calls
            calls += 1
            if description.startswith(moment) and calls == 3:
                die()
        yield advance

    if moment == "publish":
        run.save_checkpoint = die
    run.unlearn(method, model, data, out, budget=2, scope=scope, batch_size=6, learning_rate=1e-3, device="cpu",
                checkpoint_seconds=0, progress=progress)
"""


@pytest.mark.parametrize(
    ("method", "scope", "moment"),
    [
        ("salun", "last-1", "looking"),
        ("salun", "full", "unlearning"),
        ("slug", "full", "publish"),
        ("task-arithmetic", "lora-2", "publish"),
    ],
)
def test_killed_anywhere_they_end_with_the_same_bytes(
    method: str, scope: str, moment: str, folder: Path, model: Path, tmp_path: Path
) -> None:
    killed = python(KILLED, method, scope, model, folder, tmp_path / "out", moment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "out" / "record.json").exists()
    resumed, whole = (
        unlearn(method, model, folder, tmp_path / name, budget=2, scope=scope, **SMALL) for name in ("out", "whole")
    )
    assert products(resumed) == products(whole)


def test_a_hook_gets_forget_and_retain_only_and_all_of_it_is_recorded(
    folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``start`` reads, even by many broken-off looks, stands in rows.parquet; no way leads to another set."""
    read: list[Any] = []
    inputs = FeatureSource.inputs
    monkeypatch.setattr(FeatureSource, "inputs", lambda source, step: read.append(step) or inputs(source, step))
    out = unlearn("slug", model, folder, tmp_path / "out", **SMALL)
    assert len(read) == json.loads((out / "record.json").read_text())["batches_looked_at"] > 4
    seen = pq.read_table(out / "rows.parquet").to_pydict()
    assert set(seen["set"]) == {"forget", "retain"}
    assert not [name for name in seen["file_name"] if "holdout" in name]
    plan = make_plan(FORGET, 20, budget=1, batch_size=6, seed=42)
    counts = [count for name, count in zip(seen["set"], seen["count"], strict=True) if name == "forget"]
    assert counts == plan.consumed("forget", read)[1].tolist()
    step = Step({}, torch.arange(2), 0.0)
    assert not [name for name in vars(methods["slug"].build) if "data" in name or "path" in name]
    assert not hasattr(step, "holdout")
