"""The two ways in which a command may end badly.

Both carry one sentence that names the file, row or flag, and the mend. The command line prints that sentence and exits
with the class's code; anything else that escapes is a defect of ours and exits with 1.
"""


class UserError(Exception):
    """What was asked for cannot be done as asked: a wrong flag, a missing file, data that break the contract."""

    exit_code = 2


class RunError(Exception):
    """What was asked for was right, but the run failed: a full disk, weights that became NaN."""

    exit_code = 1
