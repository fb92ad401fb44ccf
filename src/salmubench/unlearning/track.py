"""Loss and learning rate of a run, live, in the tracker that its user has: one of those that accelerate speaks to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration

from salmubench.trackers import FOLDER, PROJECT
from salmubench.unlearning.record import Settings

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")


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
        accelerator.end_training()
