"""The training state on disk: written atomically, loaded without running code, resumed to the same bytes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from salmubench.atomic import replacing, write_text
from salmubench.errors import RunError, UserError
from salmubench.unlearning.record import Settings

STATE_FILE = "state.pt"
LOG_FILE = "log.jsonl"


def save_state(
    out: Path, settings: Settings, step: int, seconds: float, model: nn.Module, optimizer: Optimizer
) -> None:
    """Writes what the run needs to go on after ``step`` steps; rows, permutations and rate follow from the seed."""
    state = {
        "settings": json.dumps(asdict(settings)),
        "step": step,
        "seconds": seconds,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with replacing(out / STATE_FILE) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's own word for a full disk
            raise RunError(f"{out / STATE_FILE}: could not be written; free some space and run again") from error


def load_state(out: Path, settings: Settings, model: nn.Module, optimizer: Optimizer) -> tuple[int, float]:
    """Takes up an interrupted run where there is one.

    Returns:
        Steps done and seconds spent so far; (0, 0) for a new run.

    Raises:
        UserError: the state is of a run with other settings, or is damaged.
    """
    path = out / STATE_FILE
    if not path.exists():
        return 0, 0.0
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = json.loads(state["settings"])
    except Exception as error:  # whatever torch makes of a broken file: struct.error, zip, pickle and type errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a training state ({reason}); remove it to start the run over") from error
    settings.require_same(found, out)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["seconds"])


def trim_log(out: Path, step: int) -> None:
    """Drops the log's lines from ``step`` on: those steps are done again."""
    path = out / LOG_FILE
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:step] if path.exists() else []
    write_text(path, "".join(lines))
