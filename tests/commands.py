"""Commands and scripts in processes of their own, forked from one that has imported all: a start is paid for once."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = ["salmubench.cli", "salmubench.unlearning.run", "salmubench.evaluation.protocol", "pytest"]
COMMAND_LINE = "from salmubench.__main__ import main; main()"


def salmubench(*words: object, timeout: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs ``salmubench WORDS`` as a shell would, its output piped and its environment this one's with ``environment``.

    Raises:
        subprocess.TimeoutExpired: it had to be ended after ``timeout`` seconds.
    """
    return python(COMMAND_LINE, *words, timeout=timeout, **environment)


def python(
    script: str, *arguments: object, timeout: float = 600, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs ``python -c SCRIPT ARGUMENTS`` in the same way; modules beside the tests are found."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("out", "err")]
        process = started(script, *arguments, outputs=outputs, **environment)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(script, timeout)
        return subprocess.CompletedProcess(script, process.exitcode, *(path.read_text() for path in outputs))


def started(
    script: str, *arguments: object, outputs: Sequence[Path] = (Path(os.devnull),) * 2, **environment: str
) -> BaseProcess:
    """Starts it and does not wait; what it says on stdout and stderr goes to ``outputs``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    words = ["-c", *map(str, arguments)]
    process = context.Process(
        target=_run, args=(textwrap.dedent(script), words, outputs, {**os.environ, **environment})
    )
    process.start()
    return process


def _run(script: str, words: list[str], outputs: Sequence[Path], environment: dict[str, str]) -> None:
    for number, path in enumerate([os.devnull, *outputs]):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    exec(compile(script, "-c", "exec"), {"__name__": "__main__"})
