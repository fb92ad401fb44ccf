"""What this machine can do: its parts, and how long each preset would take on it."""

from collections.abc import Sequence
from dataclasses import dataclass

from salmubench.presets import PRESETS, preset
from salmubench.progress import Progress, silent
from salmubench.studies.forecast import Forecast, forecast
from salmubench.studies.machine import Machine, examine


@dataclass(frozen=True)
class Diagnosis:
    """A machine and its forecasts."""

    machine: Machine
    forecasts: tuple[Forecast, ...]


def doctor(presets: Sequence[str] | None = None, *, trial: bool = True, progress: Progress = silent) -> Diagnosis:
    """Examines this machine and tries each preset's model for a few steps; writes nothing and fetches nothing.

    Args:
        presets: whose times are wanted; all by default.
        trial: whether to measure; without it times are unknown.
        progress: shows the trials.

    Raises:
        UserError: there is no such preset.
    """
    wanted = [preset(name) for name in (presets or PRESETS)]  # says a wrong name before anything is measured
    machine = examine()  # before the trials, which are a load themselves
    return Diagnosis(machine, tuple(forecast(scale, trial=trial, progress=progress) for scale in wanted))
