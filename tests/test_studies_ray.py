"""A sweep on a real local Ray cluster of two workers: the local results, though a worker is killed in mid-run."""

import os
import signal
import threading
import time
from pathlib import Path

import open_clip
import pandas as pd
import pytest
import torch

from salmubench.encoders.checkpoint import save_checkpoint
from salmubench.presets import Preset
from salmubench.studies.study import Study
from salmubench.studies.sweep import sweep

TAKEN = ["seconds", "peak_memory_mb", "checkpoint"]


@pytest.mark.slow
def test_ray_gives_the_local_results_though_a_worker_is_killed(world: Path, micro: Preset, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the extra `scale` is not installed; `make test-ray` does it")
    psutil = pytest.importorskip("psutil")
    torch.manual_seed(0)
    config = micro.pretraining.model
    model = tmp_path / "compromised"
    save_checkpoint(open_clip.CLIP(**config), {"model_cfg": config, "preprocess_cfg": {"size": 32}}, model)
    study = Study(preset="tiny", data=str(world), models={"m": str(model)}, methods=["delete", "finetuning"],
                  seeds=[1, 2])  # fmt: skip
    local = sweep(study, tmp_path / "local", threads=1)
    killed: list[str] = []

    def kill_one() -> None:
        """Kills one worker as soon as its run has begun to train."""
        deadline = time.monotonic() + 240
        while not killed and time.monotonic() < deadline:
            if begun := list((tmp_path / "ray").glob("runs/*/log.jsonl")):
                for process in psutil.Process().children(recursive=True):
                    if process.name().startswith("ray::_on_worker"):  # not an agent, with which the node would go
                        os.kill(process.pid, signal.SIGKILL)
                        killed.append(begun[0].parent.name)
                        return
            time.sleep(0.01)

    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    watcher = threading.Thread(target=kill_one, daemon=True)
    watcher.start()
    there = sweep(study, tmp_path / "ray", ray="auto", threads=1)
    watcher.join(timeout=1)
    assert killed
    assert ray.is_initialized()  # as before the sweep
    ray.shutdown()
    assert not there.failed
    assert local.results is not None
    assert there.results is not None
    pd.testing.assert_frame_equal(
        pd.read_parquet(there.results).drop(columns=TAKEN), pd.read_parquet(local.results).drop(columns=TAKEN)
    )
