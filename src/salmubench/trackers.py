"""Which tracker shows a run live: the user's choice, checked, or TensorBoard where it is installed."""

from collections.abc import Sequence

from salmubench.errors import UserError

NONE = "none"
FOLDER = "tracker"
"""Of TensorBoard's and MLflow's files, in a run's folder."""
PROJECT = "salmubench"


def choose_tracker(name: str | None, offered: Sequence[str]) -> str | None:
    """The tracker to use, or None for no tracker.

    Args:
        name: as the user asked for it; None takes the first of ``offered`` where it is installed.
        offered: names that the engine knows, the default first.

    Raises:
        UserError: there is no such tracker, or its package is not installed.
    """
    from accelerate.tracking import get_available_trackers

    installed = {str(tracker) for tracker in get_available_trackers()}
    if name is None:
        return offered[0] if offered[0] in installed else None
    if name == NONE:
        return None
    if name not in offered:
        raise UserError(f"--tracker {name}: there is no such tracker; choose from {', '.join((*offered, NONE))}")
    if name not in installed:
        raise UserError(f"--tracker {name}: its package is not installed; pip install {name}")
    return name
