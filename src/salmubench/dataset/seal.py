"""While a method unlearns, data sets and checkpoints are sealed: what it may see, the loop hands to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from salmubench.errors import UserError

_sealed: ContextVar[bool] = ContextVar("sealed", default=False)


@contextmanager
def sealed() -> Iterator[None]:
    """Makes ``require_open`` raise within; threads of their own are not concerned."""
    before = _sealed.set(True)
    try:
        yield
    finally:
        _sealed.reset(before)


def require_open(what: str) -> None:
    """Called by all that opens a split or a checkpoint.

    Raises:
        UserError: a method is unlearning, and a holdout or Clean could be what is asked for.
    """
    if _sealed.get():
        raise UserError(
            f"{what}: an unlearning method may open no data and no checkpoint by itself; it learns from the forget and "
            "retain pairs and the original that the loop hands to it, or its scores mean nothing"
        )
