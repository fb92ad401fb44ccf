"""A step cut into forward passes, or among processes, has the loss and the gradient of the whole batch."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from commands import python
from salmubench.encoders.checkpoint import load_encoder
from salmubench.errors import RunError, UserError
from salmubench.progress import Advance, silent
from salmubench.unlearning.data import ForgetRetain
from salmubench.unlearning.features import FeatureSource
from salmubench.unlearning.method import Step, methods, trained_weights
from salmubench.unlearning.plan import make_plan
from salmubench.unlearning.run import unlearn
from salmubench.unlearning.split import Split
from unlearning_world import SMALL, products, write_data
from unlearning_world import world_folder as world_folder
from unlearning_world import world_model as world_model

torch.set_num_threads(1)
BATCH = 64


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose forget set is one step of 64 pairs."""
    return write_data(tmp_path_factory.mktemp("split") / "data", forget=BATCH, synthetic=BATCH)


def gradients(name: str, data: Path, model: Path, scratch: Path, chunks: int) -> tuple[float, list[Tensor]]:
    """A method's loss on its first step, and every gradient that it asks for on the way there or leads to."""
    encoder, pairs, entry = load_encoder(model, device="cpu"), ForgetRetain(data), methods[name]
    built = entry.build(entry.parse({}))
    plan = make_plan(pairs.size("forget"), pairs.size("retain"), budget=1, batch_size=BATCH, seed=42)
    source = FeatureSource(
        pairs, plan, built.needs, encoder, steps=1, scratch=scratch, progress=silent, split=Split(chunks)
    )
    asked: list[Tensor] = []
    whole = Step.gradient
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "gradient", lambda step, loss: asked.extend(found := whole(step, loss)) or found)
        source.write(built, pairs, encoder, silent)
        source.start(built, encoder.model, silent)
        if not built.trains:
            return 0.0, asked
        loss = built.loss(source.encode(encoder.model, source.inputs(0)))
    loss.backward()
    weights = trained_weights(encoder.model).values()
    return loss.item(), [*asked, *(weight.grad for weight in weights if weight.grad is not None)]


@pytest.mark.parametrize("name", list(methods))
def test_four_times_sixteen_pairs_are_sixty_four(name: str, wide: Path, model: Path, tmp_path: Path) -> None:
    whole, parts = (gradients(name, wide, model, tmp_path, chunks) for chunks in (1, 4))
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    expected, found = (torch.cat([part.flatten() for part in side[1]]).double() for side in (whole, parts))
    assert expected.norm() > 1e-4
    assert (found - expected).norm() <= 1e-5 * expected.norm()


class Noisy(nn.Module):
    """Two towers with dropout; remembers how many pairs each pass took, and what it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.word, self.drop = nn.Linear(12, 5), nn.Embedding(50, 5), nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.passes: list[tuple[Tensor, ...]] = []

    def forward(self, pictures: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.drop(self.picture(pictures.flatten(1))), self.drop(self.word(tokens).sum(dim=1))
        self.passes.append(tuple(part.detach().clone() for part in found))
        return *found, self.scale.exp()


@given(size=st.integers(5, 13), chunks=st.integers(2, 5))
def test_each_part_is_encoded_twice_with_the_same_random_numbers(size: int, chunks: int) -> None:
    model, generator = Noisy(), torch.Generator().manual_seed(size)
    pictures = {name: torch.randn(size, 3, 2, 2, generator=generator) for name in ("forget", "retain")}
    captions = {name: torch.randint(50, (size, 4), generator=generator) for name in ("forget", "generic", "retain")}
    images, texts, scale = Split(chunks).encode(model, pictures, captions, size)
    assert (list(images), list(texts)) == (list(pictures), list(captions))
    assert {len(part) for part in (*images.values(), *texts.values())} == {size}
    (scale * (images["forget"] @ texts["generic"].T) ** 2 + images["retain"] @ texts["retain"].T).sum().backward()
    assert len(model.passes) == 2 * chunks
    assert max(len(image) for image, _ in model.passes) <= 2 * -(-size // chunks)
    for first, again in zip(model.passes[:chunks], reversed(model.passes[chunks:]), strict=True):
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])


@given(size=st.integers(1, 40), processes=st.integers(1, 9))
def test_shares_are_a_batch_cut_as_evenly_as_it_goes(size: int, processes: int) -> None:
    shares = [Split(1, number, processes).share(size) for number in range(processes)]
    expected = [part.tolist() for part in torch.arange(size).tensor_split(processes)]
    assert [list(range(size))[share] for share in shares] == expected


@pytest.mark.parametrize("chunks", [0, 7])
def test_more_parts_than_pairs_are_refused(chunks: int, folder: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--chunks {chunks}: "):
        unlearn("finetuning", model, folder, tmp_path / "out", chunks=chunks, **SMALL)
    assert not (tmp_path / "out").exists()


FORKS = """
    import json, os, signal, socket, sys, torch
    import salmubench.unlearning.run as run
    torch.set_num_threads(1)
    step = run.Loop._step

    def watched(loop, log):
        out, rank = loop.out, os.environ["RANK"]
        if loop.totals.step == 0:
            keep = lambda *_: torch.save([weight.grad for weight in loop.trained], f"{out}.{rank}.gradient")
            hook = loop.optimizer.optimizer.register_step_pre_hook(keep)
        step(loop, log)
        if loop.totals.step == 1:
            hook.remove()
        if loop.totals.step >= 3 and os.environ["KILLED"] == rank:  # 4 where the one before wrote its 3rd
            os.kill(os.getpid(), signal.SIGKILL)
        if loop.totals.step == loop.steps:
            torch.save(loop.bare.state_dict(), f"{out}.{rank}.weights")

    def fork(rank, processes, killed, port, arguments):
        child = os.fork()
        if child == 0:
            os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{processes}", "KILLED": killed,
                           "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
            try:
                run.unlearn(**arguments, budget=1.5, batch_size=6, learning_rate=1e-3, device="cpu",
                            checkpoint_seconds=0, tracker="none")
            except BaseException as error:
                print(rank, repr(error), file=sys.stderr)
                os._exit(1)
            os._exit(0)
        return child

    run.Loop._step = watched
    for processes, killed, arguments in json.loads(sys.argv[1]):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        left = {fork(rank, processes, killed, port, arguments) for rank in range(processes)}
        died = False
        while left:  # as torchrun: one that fails takes the others with it
            child, status = os.wait()
            left.discard(child)
            assert killed or status == 0, (arguments, status)
            died = died or os.WIFSIGNALED(status)
            for other in left if status else ():
                os.kill(other, signal.SIGKILL)
        assert died == bool(killed)
"""
METHODS = {"cliperase-ce": 1, "munba": 2}
"""And the chunks of each process."""


@pytest.fixture(scope="module")
def runs(folder: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs in one and in two gloo processes, forked from one that has imported all; named method-processes."""
    root = tmp_path_factory.mktemp("runs")
    jobs: list[tuple[int, str, dict[str, Any]]] = []
    for method, chunks in METHODS.items():
        common = {"method": method, "model": str(model), "data": str(folder)}
        jobs += [(n, "", common | {"out": str(root / f"{method}-{n}"), "chunks": chunks ** (n - 1)}) for n in (1, 2)]
    jobs += [(2, killed, common | {"out": str(root / "killed"), "chunks": chunks}) for killed in ("1", "0", "")]
    done = python(FORKS, json.dumps(jobs))
    assert done.returncode == 0, done.stderr
    return root


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", list(METHODS))
def test_two_processes_are_one(method: str, runs: Path) -> None:
    """The first gradient, all losses and the rows are those of one process; both end with the same weights."""
    one, two = runs / f"{method}-1", runs / f"{method}-2"
    assert losses(two) == pytest.approx(losses(one), rel=2e-5)
    expected, *found = (
        torch.cat([part.flatten() for part in torch.load(f"{out}.gradient") if part is not None]).double()
        for out in (f"{one}.0", f"{two}.0", f"{two}.1")
    )
    assert (found[0] - expected).norm() <= 1e-5 * expected.norm()
    assert torch.equal(*found)
    weights = [torch.load(f"{two}.{rank}.weights") for rank in (0, 1)]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
    assert pq.read_table(one / "rows.parquet") == pq.read_table(two / "rows.parquet")
    record = json.loads((two / "record.json").read_text())
    assert (record["processes"], record["chunks"]) == (2, METHODS[method])


def test_processes_of_which_one_is_killed_go_on_to_the_same_bytes(runs: Path) -> None:
    """The second is killed in mid-run, then the first, which writes."""
    assert products(runs / "killed") == products(runs / "munba-2")
    assert losses(runs / "killed") == losses(runs / "munba-2")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_parts_of_a_run_give_the_whole_runs_weights(precision: str, folder: Path, model: Path, tmp_path: Path) -> None:
    """Through the public function, in both precisions: the same losses to what rounding leaves."""
    runs = [unlearn("cliperase-ce", model, folder, tmp_path / f"{n}", precision=precision, chunks=n, **SMALL)
            for n in (1, 3)]  # fmt: skip
    assert losses(runs[1]) == pytest.approx(losses(runs[0]), rel=1e-4 if precision == "fp32" else 0.05)
    with pytest.raises(UserError, match="chunks 3, not 1; give another --out"):
        unlearn("cliperase-ce", model, folder, runs[1], precision=precision, **SMALL)


@pytest.mark.slow
def test_the_command_line_under_torchrun(folder: Path, model: Path, tmp_path: Path) -> None:
    # Not vlunlearn: its first gradient by retain tokens is rounding alone, which AdamW makes whole steps of.
    alone = unlearn("cliperase-ce", model, folder, tmp_path / "alone", **SMALL)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "salmubench"]
    command += ["unlearn", "cliperase-ce", "--model", model, "--data", folder, "--out", tmp_path / "two", "--chunks", 2]
    command += ["--batch-size", 6, "--learning-rate", "1e-3", "--device", "cpu"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(alone), rel=1e-4)
    record = json.loads((tmp_path / "two" / "record.json").read_text())
    assert (record["processes"], record["chunks"], record["compiled"]) == (2, 2, False)


class Stopped(Exception):
    """A run is broken off."""


@pytest.mark.slow
def test_a_compiled_run_has_the_same_losses_and_resumes_to_the_same_bytes(
    folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its steps are of 6 and of 5 pairs: each size has a graph of its own, whichever was met first."""
    # Not delete: of its first gradient, equal to 1e-6, some signs are rounding, of which AdamW makes whole steps.
    run = partial(unlearn, "cliperase-ce", model, folder, **SMALL)
    plain, whole = run(tmp_path / "plain"), run(tmp_path / "whole", compiled=True)
    assert losses(whole) == pytest.approx(losses(plain), rel=1e-3)
    assert json.loads((whole / "record.json").read_text())["compiled"] is True

    @contextmanager
    def progress(description: str, total: int) -> Iterator[Advance]:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if description.startswith("unlearning") and 12 < done < total:
                raise Stopped

        yield advance

    with pytest.raises(Stopped):
        run(tmp_path / "again", compiled=True, checkpoint_seconds=0, progress=progress)
    torch.compiler.reset()
    assert products(run(tmp_path / "again", compiled=True)) == products(whole)


@pytest.mark.slow
def test_a_failing_compiler_is_one_sentence(
    folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=broken))
    with pytest.raises(RunError, match=r"--compile: torch\.compile failed .*no compiler here.*; run without it"):
        unlearn("finetuning", model, folder, tmp_path / "out", compiled=True, **SMALL)
    assert not (tmp_path / "out" / "record.json").exists()
