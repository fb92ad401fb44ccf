"""The package clip_benchmark itself, on the same shards and checkpoint: GenKnow and retrieval are its numbers."""

import os
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch

from salmubench.encoders.checkpoint import save_checkpoint
from salmubench.evaluation.protocol import evaluate
from salmubench.presets import Preset

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not (ROOT / ".venv-clip-benchmark").exists(), reason="run `make .venv-clip-benchmark` first")
def test_zero_shot_and_retrieval_equal_clip_benchmarks(world: Path, micro: Preset, tmp_path: Path) -> None:
    """The benchmark stops where one of its seven numbers differs by more than 1e-4."""
    torch.manual_seed(3)
    model_cfg = micro.pretraining.model
    save_checkpoint(open_clip.CLIP(**model_cfg), {"model_cfg": model_cfg, "preprocess_cfg": {}}, tmp_path / "model")
    command = [sys.executable, ROOT / "benchmarks" / "evaluate_vs_clip_benchmark.py", tmp_path / "model", world, "1"]
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    printed = dict(line.split(": ") for line in result.stdout.splitlines())
    general = evaluate(tmp_path / "model", world, device="cpu").metrics["GenKnow"].value
    assert float(printed["acc1"]) == pytest.approx(general, abs=1e-4)
    assert 0 < float(printed["acc1"]) < 1
    for side in ("text", "image"):
        recall = [float(printed[f"{side}_retrieval_recall@{k}"]) for k in (1, 5, 10)]
        assert 0 < recall[1] < recall[2] < 1
