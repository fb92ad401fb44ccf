"""Proves a data set folder: runs every promise and names the first offender of each that is broken."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from salmubench.dataset.promises import PROMISES, Promise
from salmubench.dataset.store import locate
from salmubench.dataset.subject import NothingToCheck, Subject, open_subject
from salmubench.errors import UserError
from salmubench.progress import Progress, silent

State = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One promise and what became of it.

    Attributes:
        name: short name, e.g. ``"halves"``.
        promise: what must hold, in words.
        state: passed; failed; or skipped, where the folder has nothing to check.
        finding: the first offender, or why it was skipped; empty if passed.
    """

    name: str
    promise: str
    state: State
    finding: str = ""

    @property
    def passed(self) -> bool:
        """Whether the promise is kept, or speaks of nothing that the folder has."""
        return self.state != "failed"


@dataclass(frozen=True)
class CheckReport:
    """All checks of the evaluation folder ``root`` and, where there is one, of the data set folder around it."""

    root: Path
    entries: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that have failed."""
        return tuple(check for check in self.entries if not check.passed)

    @property
    def passed(self) -> bool:
        """Whether no check has failed."""
        return not self.failures


def check(data: str | Path, *, progress: Progress = silent) -> CheckReport:
    """Checks a data set folder, or an evaluation folder by itself; reads every file and decodes every picture.

    Raises:
        UserError: there is no data set at ``data``.
    """
    root, _, _ = locate(data)
    layout = "splits, columns and side files are there and whole"
    try:
        subject = open_subject(data, progress)
    except UserError as error:
        rest = (Check(name, words, "skipped", "the folder does not open") for name, (words, _) in PROMISES.items())
        return CheckReport(root, (Check("layout", layout, "failed", str(error)), *rest))
    judged = (_judge(name, words, promise, subject) for name, (words, promise) in PROMISES.items())
    return CheckReport(root, (Check("layout", layout, "passed"), *judged))


def _judge(name: str, words: str, promise: Promise, subject: Subject) -> Check:
    try:
        offender = next(promise(subject), None)
    except NothingToCheck as nothing:
        return Check(name, words, "skipped", str(nothing))
    except UserError as error:
        offender = str(error)
    return Check(name, words, "passed") if offender is None else Check(name, words, "failed", offender)
