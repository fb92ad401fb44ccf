"""The one loop: what it writes, that it resumes to the same bytes, that it stops where weights break."""

import json
import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import salmubench.unlearning.methods as methods_package
from commands import python
from salmubench.encoders.checkpoint import load_encoder
from salmubench.errors import RunError, UserError
from salmubench.progress import Advance
from salmubench.unlearning.method import methods
from salmubench.unlearning.run import unlearn
from unlearning_world import FORGET, SMALL, products, rows
from unlearning_world import world_folder as world_folder
from unlearning_world import world_model as world_model

torch.set_num_threads(1)


@pytest.mark.parametrize("name", list(methods))
def test_every_method_runs_and_records_what_it_saw(name: str, folder: Path, model: Path, tmp_path: Path) -> None:
    out = unlearn(name, model, folder, tmp_path / "out", budget=1, **SMALL)
    record = json.loads((out / "record.json").read_text())
    entry = methods[name]
    built = entry.build(entry.parse({}))
    sets = {"retain" if need.startswith("retain") else "forget" for need in built.needs}
    sets |= {"retain"} if "texts" in built.needs else set()
    steps = 4 if built.trains else 0
    assert (record["schema"], record["method"], record["scope"], record["steps"]) == (1, name, "full", steps)
    assert record["summary"] == entry.summary
    seen = pq.read_table(out / record["rows_file"]).to_pydict()
    assert set(seen["set"]) == sets
    if record["batches_looked_at"] % 4 == 0:  # whole passes
        assert sum(seen["count"]) == FORGET * len(sets) * (steps + record["batches_looked_at"]) / 4
    if "forget" in sets:
        assert sum(where == "forget" for where in seen["set"]) == record["rows"]["forget"] == FORGET
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(steps))
    assert all(math.isfinite(line["loss"]) and 0 <= line["data_wait"] <= 1 for line in log)
    assert all(line["pairs_per_second"] > 0 and line["peak_memory_mb"] > 50 for line in log)
    assert (record["run"]["pairs_per_second"] is not None) == built.trains
    assert (record["run"]["seconds"] > record["run"]["preparing_seconds"] > 0) == built.trains
    before, after = load_encoder(model, device="cpu").model, load_encoder(out, device="cpu").model
    for (key, old), new in zip(before.state_dict().items(), after.state_dict().values(), strict=True):
        statistics = key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert torch.equal(old, new) or not statistics, f"{key}: batch statistics must not move"
    moved = [key for key, old in before.state_dict().items() if not torch.equal(old, after.state_dict()[key])]
    assert moved
    if name == "stranger":
        assert not any(key.startswith("visual.") for key in moved)
    elif built.trains and name != "salun":
        assert {"visual.conv1.weight", "token_embedding.weight"} <= set(moved)
    assert not (out / "state.pt").exists()


def test_a_loss_that_is_minimised_falls(folder: Path, model: Path, tmp_path: Path) -> None:
    """Direct Similarity Minimization pushes its own pairs apart: the loop steps in the right direction."""
    out = unlearn("direct-similarity-minimization", model, folder, tmp_path / "out", budget=6, **SMALL)
    losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.3


def test_learning_rate_warms_up_then_falls_as_a_cosine(folder: Path, model: Path, tmp_path: Path) -> None:
    out = unlearn("finetuning", model, folder, tmp_path / "out", budget=2.5, warmup_share=0.3, **SMALL)
    rates = [json.loads(line)["learning_rate"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert len(rates) == 10
    assert rates[:3] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3])
    assert rates[3:] == pytest.approx([1e-3 * (1 + math.cos(math.pi * k / 7)) / 2 for k in range(7)])


def test_two_runs_give_the_same_bytes_and_a_seed_another(folder: Path, model: Path, tmp_path: Path) -> None:
    for name in ("vlunlearn", "descent-to-delete"):
        first, second = (unlearn(name, model, folder, tmp_path / f"{name}{n}", **SMALL) for n in range(2))
        assert products(first) == products(second)
    other = unlearn("vlunlearn", model, folder, tmp_path / "other", seed=43, **SMALL)
    weights = "open_clip_model.safetensors"
    assert products(other)[weights] != products(tmp_path / "vlunlearn0")[weights]


def test_a_finished_run_is_reused_and_another_is_not_overwritten(folder: Path, model: Path, tmp_path: Path) -> None:
    out = unlearn("delete", model, folder, tmp_path / "out", **SMALL)
    stamp = (out / "record.json").stat().st_mtime_ns
    assert unlearn("delete", model, folder, out, options={"retain": "1"}, **SMALL) == out
    assert (out / "record.json").stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match=r"budget 1, not 2; give another --out"):
        unlearn("delete", model, folder, out, budget=2, **SMALL)
    with pytest.raises(UserError, match=r"method 'delete', not 'delete-kl'"):
        unlearn("delete-kl", model, folder, out, **SMALL)
    with pytest.raises(UserError, match=r"scope 'full', not 'vision'"):
        unlearn("delete", model, folder, out, scope="vision", **SMALL)
    with pytest.raises(UserError, match="would overwrite"):
        unlearn("delete", model, folder, model, **SMALL)
    whole = products(out)
    (out / "open_clip_model.safetensors").write_bytes(b"cut")
    assert products(unlearn("delete", model, folder, out, **SMALL)) == whole


def test_bf16_and_then_fp32_in_one_process(folder: Path, model: Path, tmp_path: Path) -> None:
    half = unlearn("cliperase", model, folder, tmp_path / "half", precision="bf16", **SMALL)
    full = unlearn("cliperase", model, folder, tmp_path / "full", **SMALL)
    losses = [
        [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()] for out in (half, full)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.1)
    assert losses[0] != losses[1]
    assert load_encoder(half, device="cpu").model.visual.conv1.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learning_rate": 0}, "--learning-rate 0"),
        ({"learning_rate": 1e39}, "--learning-rate 1e\\+39"),
        ({"warmup_share": 1.5}, "--warmup-share 1.5"),
        ({"weight_decay": -1}, "--weight-decay -1"),
        ({"precision": "fp8"}, "--precision fp8.*fp32, bf16"),
        ({"device": "tpu"}, "--device tpu"),
        ({"budget": 0}, "--budget 0"),
        ({"method": "cliperaze"}, "did you mean 'cliperase'"),
        ({"data": "/nowhere"}, "/nowhere"),
        ({"model": "/nowhere"}, "/nowhere"),
    ],
)
def test_mistakes_are_named(changed: dict[str, Any], message: str, folder: Path, model: Path, tmp_path: Path) -> None:
    wanted = {"method": "finetuning", "model": model, "data": folder, "out": tmp_path / "out"} | SMALL | changed
    with pytest.raises(UserError, match=message):
        unlearn(**wanted)
    assert not (tmp_path / "out" / "record.json").exists()


INTERRUPTED = """
    import os, signal, sys
    from contextlib import contextmanager
    import torch
    import salmubench.unlearning.run as run
    torch.set_num_threads(1)
    model, data, out, moment = sys.argv[1:]

    def die(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def progress(description, total):
        steps = 0
        def advance(count):
            nonlocal steps
            steps += description.startswith("unlearning")
            if moment == "step" and steps == 8:
                die()
        yield advance

    if moment == "finish":
        run.write_rows = die
    run.unlearn("vlunlearn", model, data, out, budget=3, batch_size=6, learning_rate=1e-3, device="cpu",
                checkpoint_seconds=0, progress=progress)
"""


@pytest.mark.parametrize(("moment", "saved"), [("step", 6), ("finish", 11)])
def test_killed_run_resumes_to_the_same_bytes(
    moment: str, saved: int, folder: Path, model: Path, tmp_path: Path
) -> None:
    killed = python(INTERRUPTED, model, folder, tmp_path / "out", moment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert torch.load(tmp_path / "out" / "state.pt", weights_only=True)["step"] == saved
    assert not (tmp_path / "out" / "record.json").exists()
    with pytest.raises(UserError, match="seed 42, not 43"):
        unlearn("vlunlearn", model, folder, tmp_path / "out", budget=3, seed=43, **SMALL)
    (tmp_path / "out" / "state.pt.tmp-1-00").write_bytes(b"half a state")
    shown: list[int] = []

    @contextmanager
    def progress(description: str, total: int) -> Iterator[Advance]:
        yield lambda count: shown.append(count) if description.startswith("unlearning") else None

    resumed = unlearn("vlunlearn", model, folder, tmp_path / "out", budget=3, progress=progress, **SMALL)
    whole = unlearn("vlunlearn", model, folder, tmp_path / "whole", budget=3, **SMALL)
    assert products(resumed) == products(whole)
    assert len(shown) == 1 + 12 - saved
    assert sorted(path.name for path in resumed.iterdir()) == sorted(path.name for path in whole.iterdir())
    logs = [[json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()] for out in (resumed, whole)]
    first, second = ([(line["step"], line["loss"]) for line in log] for log in logs)
    assert first == second


EXTRA = '''
"""A method in a file of its own."""

from pathlib import Path

from torch import Tensor

from salmubench.dataset.store import load_benchmark, load_split
from salmubench.encoders.checkpoint import load_encoder
from salmubench.unlearning.method import Method, NoOptions, Step, method


@method("{name}", summary="goes wrong", citation="none")
class Extra(Method[NoOptions]):
    """For a test."""

    needs = ("forget",)

    def loss(self, step: Step) -> Tensor:
        loss = step.forget.similarity.mean()
        return {loss}
'''


@pytest.fixture
def extra(folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Methods, each in a file of its own; nothing else is told of them."""
    losses = {
        "nan-loss": 'loss * (float("nan") if step.progress >= 0.5 else 1.0)',
        "nan-gradient": "(loss * 0).sqrt()",
        "opens-a-holdout": f'loss + len(load_split(Path("{folder}/salmubench"), "holdout_identity")[0])',
        "opens-all": f'loss + len(load_benchmark("{folder}").sets["holdout_association"])',
        "opens-clean": f'loss + load_encoder("{model}").model.logit_scale',
    }
    modules = {name: name.replace("-", "_") for name in losses}
    (tmp_path / "extra").mkdir()
    for name, loss in losses.items():
        (tmp_path / "extra" / f"{modules[name]}.py").write_text(EXTRA.format(name=name, loss=loss))
    monkeypatch.setattr(methods_package, "__path__", [*methods_package.__path__, str(tmp_path / "extra")])
    monkeypatch.setattr(methods, "_loaded", False)
    yield losses
    for name, module in modules.items():
        methods._entries.pop(name, None)
        sys.modules.pop(f"salmubench.unlearning.methods.{module}", None)


def test_a_new_file_is_a_new_method_and_nan_stops_with_the_last_good_state(
    extra: dict[str, str], folder: Path, model: Path, tmp_path: Path
) -> None:
    assert set(extra) < set(methods.names())
    out = tmp_path / "out"
    with pytest.raises(RunError, match=r"the loss became nan at step 4 of 8; .*state\.pt; lower --learning-rate"):
        unlearn("nan-loss", model, folder, out, budget=2, checkpoint_seconds=0, **SMALL)
    state = torch.load(out / "state.pt", weights_only=True)
    assert state["step"] == 4
    assert all(bool(value.isfinite().all()) for value in state["model"].values())
    assert not (out / "record.json").exists()


@pytest.mark.parametrize("name", ["opens-a-holdout", "opens-all", "opens-clean"])
def test_a_method_that_opens_a_holdout_or_clean_by_itself_raises(
    name: str, extra: dict[str, str], folder: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="may open no data and no checkpoint by itself"):
        unlearn(name, model, folder, tmp_path / "out", **SMALL)
    assert not (tmp_path / "out" / "record.json").exists()
    assert load_encoder(model).weights_sha256  # open again afterwards


@pytest.mark.parametrize(
    ("seconds", "budget", "message"),
    [
        (
            0,
            1,
            "a weight became infinite or NaN at step 1 of 4; no state had been saved yet",
        ),  # before a state is saved
        (120, 1, "the loss became nan at step 1 of 4"),  # at the next step
        (120, 0.2, "a weight became infinite or NaN at step 1 of 1"),  # before the result is
    ],
)
def test_broken_weights_are_never_saved(
    seconds: float, budget: float, message: str, extra: dict[str, str], folder: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(RunError, match=message):
        unlearn("nan-gradient", model, folder, out, budget=budget, checkpoint_seconds=seconds, **SMALL)
    assert not (out / "state.pt").exists()
    assert not (out / "open_clip_model.safetensors").exists()


@pytest.mark.parametrize("content", [b"PK damaged", b"junk", b""])
def test_a_damaged_state_is_refused(content: bytes, folder: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "state.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"state\.pt: not a training state .*remove it"):
        unlearn("finetuning", model, folder, tmp_path / "out", **SMALL)


def test_a_damaged_record_is_refused(folder: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "record.json").write_text("[]")
    with pytest.raises(UserError, match=r"record\.json: not the record of an unlearning run"):
        unlearn("finetuning", model, folder, tmp_path / "out", **SMALL)


def test_published_noise_leaves_the_model_usable(folder: Path, model: Path, tmp_path: Path) -> None:
    noisy = unlearn("descent-to-delete", model, folder, tmp_path / "noisy", **SMALL)
    plain = unlearn("finetuning", model, folder, tmp_path / "plain", **SMALL)
    texts = [row.text for row in rows("forget", FORGET)]
    embedded = [load_encoder(path, device="cpu").encode_texts(texts) for path in (noisy, plain)]
    cosines = (embedded[0] * embedded[1]).sum(axis=1)
    assert 0.97 < cosines.min() < 0.999999
