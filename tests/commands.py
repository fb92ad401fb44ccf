"""The command line in a process of its own, forked from one that has imported it: a start's seconds are paid once."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from salmubench.__main__ import main


def salmubench(*words: object, timeout: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs ``salmubench WORDS`` as a shell would, its output piped and its environment this one's with ``environment``.

    Raises:
        subprocess.TimeoutExpired: it had to be ended after ``timeout`` seconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["salmubench.cli", "salmubench.unlearning.run", "salmubench.evaluation.protocol"])
    arguments = [str(word) for word in words]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("out", "err")]
        process = context.Process(target=_run, args=(arguments, paths, {**os.environ, **environment}))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, timeout)
        return subprocess.CompletedProcess(arguments, process.exitcode, *(path.read_text() for path in paths))


def _run(arguments: list[str], paths: list[Path], environment: dict[str, str]) -> None:
    for number, path in enumerate([os.devnull, *paths]):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["salmubench", *arguments]
    main()
