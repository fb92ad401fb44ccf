"""Loss and learning rate of a run, live, in the tracker that its user has: one of those that accelerate speaks to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import ProjectConfiguration

from salmubench.errors import UserError
from salmubench.unlearning.record import Settings

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")
NONE = "none"
FOLDER = "tracker"
"""Of TensorBoard's and MLflow's files, in the run's folder."""
PROJECT = "salmubench"


def choose_tracker(name: str | None) -> str | None:
    """The tracker to use: the one that is named, or TensorBoard where it is installed.

    Raises:
        UserError: there is no such tracker, or its package is not installed.
    """
    installed = {str(tracker) for tracker in get_available_trackers()}
    if name is None:
        return TRACKERS[0] if TRACKERS[0] in installed else None
    if name == NONE:
        return None
    if name not in TRACKERS:
        raise UserError(f"--tracker {name}: there is no such tracker; choose from {', '.join((*TRACKERS, NONE))}")
    if name not in installed:
        raise UserError(f"--tracker {name}: its package is not installed; pip install {name}")
    return name


def project(out: Path) -> ProjectConfiguration:
    """Where a tracker that writes files writes them."""
    return ProjectConfiguration(project_dir=str(out), logging_dir=str(out / FOLDER))


@contextmanager
def tracking(accelerator: Accelerator, settings: Settings) -> Iterator[None]:
    """Opens the accelerator's tracker for one run, and closes it however the run ends."""
    name = f"{settings.method}-{settings.budget:g}x-seed{settings.seed}"
    naming = {"wandb": {"name": name}, "trackio": {"name": name}, "mlflow": {"run_name": name}}
    plain = {key: value for key, value in asdict(settings).items() if isinstance(value, bool | int | float | str)}
    if accelerator.log_with:
        accelerator.init_trackers(PROJECT, config=plain, init_kwargs=naming)
    try:
        yield
    finally:
        for tracker in accelerator.trackers:  # `end_training` would end the processes' ties too
            tracker.finish()
