"""The two ways in which a command may end badly.

Both carry one sentence that names the file, row or flag, and the mend. The command line prints that sentence and exits
with the class's code; anything else that escapes is a defect of ours and exits with 1.
"""

import errno


class UserError(Exception):
    """What was asked for cannot be done as asked: a wrong flag, a missing file, data that break the contract."""

    exit_code = 2


class RunError(Exception):
    """What was asked for was right, but the run failed: a full disk, weights that became NaN."""

    exit_code = 1


def explain(error: Exception) -> tuple[str, int]:
    """What went wrong as one line, and the exit code."""
    if isinstance(error, (UserError, RunError)):
        words, code = str(error), error.exit_code
    elif hasattr(error, "format_message"):  # typer's own: an unknown verb or flag, a value that does not fit
        words, code = f"{error.format_message().rstrip('.')}; see --help", 2
    elif isinstance(error, OSError) and (error.filename is not None or error.errno == errno.ENOSPC):
        where = "the disk" if error.filename is None else error.filename
        words, code = f"{where}: {error.strerror}; mend the path, its rights or its disk and run again", 1
    else:
        words, code = f"{type(error).__name__}: {error} (a defect of ours; --debug shows where)", 1
    return printable(words), code


def printable(words: str) -> str:
    """Text as one line without control characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
