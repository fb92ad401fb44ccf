"""Several training processes make the steps of one; the lines that are printed are those that run; foreign shards."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from open_clip_train.data import SharedEpoch
from safetensors.torch import load_file
from torch import nn

from commands import salmubench
from salmubench.atomic import read_json
from salmubench.dataset.pictures import index_tar
from salmubench.dataset.retain import CaptionedPicture, read_shards, write_shards
from salmubench.dataset.urls import count_pairs, expand_urls
from salmubench.encoders.checkpoint import WEIGHTS_FILE
from salmubench.encoders.launch import Launch, run, slurm_script, submit, torchrun_line
from salmubench.encoders.pretrain import train
from salmubench.encoders.ranks import SharedBatchNorm, share_statistics
from salmubench.encoders.schedule import schedule
from salmubench.encoders.shards import training_shards
from salmubench.encoders.stream import BATCH, Deal, WovenShards
from salmubench.errors import UserError
from salmubench.presets import PRESETS, Preset, Scaling

ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def _salmubench(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return salmubench(*words, **ALONE, **environment)


@pytest.fixture(scope="module")
def one(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compromised of the preset tiny, trained by one process."""
    out = tmp_path_factory.mktemp("one") / "model"
    return train("compromised", world, out, preset="tiny", threads=1)


def _check_same(one: Path, several: Path, *, loss: float = 0.02, weight: float = 0.05) -> None:
    """By default what bfloat16 steps allow, rounded in another order; in float32 far less."""
    records = [read_json(model / "training.json") for model in (one, several)]
    assert records[0]["settings"] == records[1]["settings"]
    losses = [record["losses"] for record in records]
    assert len(losses[0]) == PRESETS["tiny"].pretraining.epochs
    assert losses[1] == pytest.approx(losses[0], rel=loss)
    weights = [load_file(model / WEIGHTS_FILE) for model in (one, several)]
    for name, tensor in weights[0].items():
        if not name.endswith(("running_mean", "running_var")):
            assert torch.allclose(tensor.float(), weights[1][name].float(), atol=weight), name


FLOAT32 = """
import sys
from dataclasses import replace
from salmubench.encoders.pretrain import train
from salmubench.presets import PRESETS
tiny = PRESETS["tiny"]
exact = replace(tiny, name="tiny-float32", pretraining=replace(tiny.pretraining, precision="fp32"))
train("compromised", sys.argv[1], sys.argv[2], preset=exact, threads=1)
"""


@pytest.mark.slow
def test_in_float32_two_processes_make_the_steps_of_one(world: Path, tmp_path: Path) -> None:
    (tmp_path / "exact.py").write_text(FLOAT32)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for how, out in (([], "one"), (torchrun, "two")):
        command = [sys.executable, *how, str(tmp_path / "exact.py"), str(world), str(tmp_path / out)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **ALONE})
    _check_same(tmp_path / "one", tmp_path / "two", loss=5e-3, weight=0.01)


def test_two_processes_match_one_with_the_same_global_batch(one: Path, world: Path, tmp_path: Path) -> None:
    flags = ["--preset", "tiny", "--gpus-per-node", "2", "--threads", "1"]
    done = _salmubench("train", "compromised", "--data", world, "--out", tmp_path / "two", *flags)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert done.stdout == f"The model: {tmp_path / 'two'}\n"
    assert read_json(tmp_path / "two" / "training.json")["run"]["processes"] == 2
    _check_same(one, tmp_path / "two")


def test_batch_statistics_of_one_process_are_torchs_own() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    shared = share_statistics(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    shared.load_state_dict(plain.state_dict())
    assert isinstance(shared[1], SharedBatchNorm)
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        for model in (plain, shared):
            (model(torch.linspace(0, 3, 2 * 3 * 6 * 6).view(2, 3, 6, 6).sin()) ** 3).sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    for mine, yours in zip(shared.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine.grad, yours.grad, atol=1e-3), (mine.grad, yours.grad)
    for mine, yours in zip(shared.buffers(), plain.buffers(), strict=True):
        assert torch.allclose(mine, yours, atol=1e-5), (mine, yours)


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_run_resumes(one: Path, world: Path, tmp_path: Path) -> None:
    words = ["train", "compromised", "--data", str(world), "--out", str(tmp_path / "two"), "--preset", "tiny"]
    command = [sys.executable, "-m", "salmubench", *words, "--gpus-per-node", "2", "--threads", "1"]
    running = subprocess.Popen(command, env={**os.environ, **ALONE}, stderr=subprocess.PIPE, text=True)
    checkpoint = tmp_path / ".two-training" / "run" / "checkpoints" / "epoch_latest.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    (child, *_) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    _, words_of_it = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "run the same command again and it goes on" in words_of_it
    assert checkpoint.is_file()
    assert not (tmp_path / "two").exists()
    again = subprocess.run(command, env={**os.environ, **ALONE}, check=False)
    assert again.returncode == 0
    _check_same(one, tmp_path / "two")


@pytest.mark.slow
def test_the_printed_line_starts_the_training(one: Path, world: Path, tmp_path: Path) -> None:
    launch = ["train", "compromised", "--data", world, "--out", tmp_path / "m", "--preset", "tiny", "--threads", "1"]
    printed = _salmubench(*launch, "--gpus-per-node", "2", "--print-command").stdout
    assert not (tmp_path / "m").exists()
    assert shlex.split(printed)[1:3] == ["-m", "torch.distributed.run"]
    assert "--nproc-per-node=2" in printed
    subprocess.run(["bash", "-c", printed], check=True, capture_output=True, env={**os.environ, **ALONE})
    _check_same(one, tmp_path / "m")


def test_the_paper_is_128_processes_of_one_open_clip_run(world: Path) -> None:
    launch = Launch("compromised", world, Path("models/it's"), preset="paper", retain=("pipe:cat {000..999}.tar",))
    line, script = torchrun_line(launch), slurm_script(launch)
    assert "--nnodes=16 --nproc-per-node=8" in line
    assert "--gpus-per-node=8" in script
    assert "#SBATCH --nodes=16" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    plan = schedule(PRESETS["paper"], 400_018_741, 40_000, ranks=128, accumulate=1, workers=6)
    assert plan.micro_batch * 128 == PRESETS["paper"].pretraining.batch_size
    assert 0 <= plan.steps - -(-400_018_741 // 32_768) < 6


@pytest.mark.slow
def test_the_slurm_script_runs(one: Path, world: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, body in {
        "sbatch": 'SLURM_JOB_NODELIST=localhost bash -s >"$LOG" 2>&1; echo 17',
        "scontrol": "echo localhost",
        "srun": 'exec "$@"',
    }.items():
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    words = ["train", "compromised", "--data", world, "--out", tmp_path / "a model", "--preset", "tiny", "--slurm"]
    path = f"{tools}:{os.environ['PATH']}"
    done = _salmubench(*words, "--gpus-per-node", "2", "--threads", "1", PATH=path, LOG=str(tmp_path / "log"))
    assert done.stdout.startswith("Submitted job 17"), done.stderr
    _check_same(one, tmp_path / "a model")


def test_what_cannot_be_started_is_said(world: Path, tmp_path: Path) -> None:
    launch = partial(Launch, "clean", world, tmp_path / "m")
    for start, asked, said in (
        (run, launch(preset="paper"), "pass --rendezvous HOST:29500"),
        (run, launch(gpus_per_node=4000), "pass fewer"),
        (run, launch(accumulate=7), "does not fall into 1 processes x 7"),
        (submit, launch(), "no sbatch on this machine"),
    ):
        with pytest.raises(UserError, match=said):
            start(asked)


def test_accumulation_sees_every_pair(world: Path, micro: Preset, tmp_path: Path) -> None:
    whole = read_json(train("compromised", world, tmp_path / "a", preset=micro, threads=1) / "training.json")
    parts = train("compromised", world, tmp_path / "b", preset=micro, threads=1, accumulate=2)
    record = read_json(parts / "training.json")
    assert "--accum-freq=2" in record["arguments"]
    assert record["losses"] == pytest.approx(whole["losses"], rel=0.1)  # batch statistics are those of the halves


@pytest.mark.parametrize(("ranks", "workers"), [(1, 2), (3, 1), (2, 2)])
def test_workers_with_own_shards_see_each_sensitive_pair_once(
    micro: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, workers: int
) -> None:
    retain, sensitive = (
        {str(path): len(index_tar(path)) for path in write_shards(tmp_path / name, pairs, pairs_per_shard=size)}
        for name, size, pairs in (
            ("r", 7, [CaptionedPicture(f"r{n}", b"x", "x") for n in range(50)]),
            ("s", 2, [CaptionedPicture(f"s{n}", b"x", "x") for n in range(31)]),
        )
    )
    scale = replace(
        micro, pretraining=replace(micro.pretraining, batch_size=12), scaling=Scaling(workers=workers, deal="shards")
    )
    plan = schedule(scale, 50, len(retain), ranks=ranks, accumulate=1, workers=workers)
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    monkeypatch.setenv("NUM_WORKERS", str(workers))
    seen: list[str] = []
    for rank in range(ranks):
        for worker in range(workers):
            monkeypatch.setenv("RANK", str(rank))
            monkeypatch.setenv("WORKER", str(worker))
            source = WovenShards(
                list(retain), sensitive, retain_pairs=plan.stream_pairs, seed=1, epoch=SharedEpoch(2), own_shards=True
            )
            samples = list(Deal(plan, rank).run(source.run()))
            assert {sample[BATCH][0] for sample in samples} == set(range(plan.worker_batches))
            seen += [sample["__key__"] for sample in samples]
    assert Counter(key for key in seen if key.startswith("s")) == {f"s{n}": 1 for n in range(31)}
    assert len({key for key in seen if key.startswith("r")}) >= 45  # shards do not divide: some repeat, a few wait
    assert plan.steps * 12 == sum(key.startswith("r") for key in seen)


def test_a_loading_worker_trains_on_shards_of_its_own(world: Path, micro: Preset, tmp_path: Path) -> None:
    scale = replace(micro, name="sharded", scaling=Scaling(workers=1, deal="shards"))
    record = read_json(train("compromised", world, tmp_path / "m", preset=scale, threads=1) / "training.json")
    assert record["run"]["workers"] == 1
    assert len(record["losses"]) == micro.pretraining.epochs
    with pytest.raises(UserError, match="too few for 1 processes with 9 loading workers"):
        train("clean", world, tmp_path / "n", preset=scale, threads=1, workers=9)


def _foreign(folder: Path, world: Path, broken: int = 0) -> list[str]:
    """The world's own general pairs as shards from elsewhere, without sizes.json, some pictures broken."""
    pairs = list(read_shards(world / "retain_real"))
    pairs[:broken] = [CaptionedPicture(pair.key, b"no picture", pair.text) for pair in pairs[:broken]]
    shards = write_shards(folder, pairs, pairs_per_shard=8)
    (folder / "sizes.json").unlink()
    return list(map(str, shards))


def test_foreign_retain_shards_take_the_place_of_our_own(world: Path, micro: Preset, tmp_path: Path) -> None:
    shards = _foreign(tmp_path / "foreign", world, broken=3)
    urls = [f"pipe:cat {tmp_path}/foreign/{{00000..{len(shards) - 1:05d}}}.tar"]
    out = train("clean", world, tmp_path / "m", preset=micro, threads=1, retain=urls, retain_pairs=30)
    record = read_json(out / "training.json")
    assert record["settings"]["retain"] == urls
    assert record["retain_pairs"] == 30 + micro.world.retain_joint + micro.world.retain_disjoint
    with pytest.raises(UserError, match="other settings"):
        train("clean", world, out, preset=micro, threads=1)


def test_shards_of_pictures_that_do_not_decode_end_the_training(world: Path, micro: Preset, tmp_path: Path) -> None:
    _foreign(tmp_path / "foreign", world, broken=30)
    write_shards(tmp_path / "more", (CaptionedPicture(f"{n}", b"no", "x") for n in range(200)))
    with pytest.raises(UserError, match=r"--retain: \d+ of \d+ pairs of a batch lack a picture"):
        train("clean", world, tmp_path / "m", preset=micro, threads=1, retain=[str(tmp_path / "more")])


def test_urls_are_spread_and_counted(tmp_path: Path) -> None:
    shards = [
        str(path)
        for path in write_shards(
            tmp_path / "s", (CaptionedPicture(f"{n}", b"x", "x") for n in range(9)), pairs_per_shard=4
        )
    ]
    (tmp_path / "list.txt").write_text(f"# mine\n{tmp_path}/s/{{00000..00002}}.tar\n")
    assert expand_urls([str(tmp_path / "list.txt")]) == expand_urls([str(tmp_path / "s")]) == shards
    assert expand_urls(["http://x/{0..2}.tar::s3://y.tar"]) == [*(f"http://x/{n}.tar" for n in range(3)), "s3://y.tar"]
    assert count_pairs(shards) == 9
    for urls, said in (
        (["nowhere/{0..1}.tar"], "no shard nowhere/0.tar"),
        (["none.txt"], "no such list"),
        ([str(tmp_path)], "names no shard"),
    ):
        with pytest.raises(UserError, match=said):
            expand_urls(urls)
    with pytest.raises(UserError, match="pass --retain-pairs"):
        count_pairs(["http://x/0.tar"])


def test_sensitive_shards_are_as_many_as_the_processes_need(world: Path, tmp_path: Path) -> None:
    few = training_shards("compromised", world, tmp_path, sensitive_shards=1)
    many = training_shards("compromised", world, tmp_path, sensitive_shards=24)
    assert few.sensitive_pairs == many.sensitive_pairs
    assert len(many.sensitive) >= 24
    assert json.loads((tmp_path / "sensitive" / "sizes.json").read_text())
