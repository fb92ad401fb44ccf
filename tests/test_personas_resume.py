"""SIGKILL at several moments, then the same build: the same bytes, and no whole file is written twice."""

import time
from pathlib import Path

import pytest

from commands import python, started

SCRIPT = """
import sys
from pathlib import Path
from conftest import MICRO
from salmubench.dataset import retain, write
from salmubench.personas.build import build
write.ROWS_PER_FILE, retain.PER_SHARD = 8, 7  # as many files as a large world has
build(MICRO, Path(sys.argv[1]), workers=1)
"""


def build(out: Path) -> None:
    assert python(SCRIPT, out).returncode == 0


def whole_files(out: Path) -> dict[str, tuple[int, int]]:
    paths = [path for path in out.rglob("*") if path.suffix in (".parquet", ".tar") and ".tmp-" not in str(path)]
    return {str(path.relative_to(out)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def content(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "data"
    build(out)
    return content(out)


def test_kills_at_many_moments_cost_the_file_in_hand_alone(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "data"
    seen: dict[str, tuple[int, int]] = {}
    moments = (1, 4, 9, 15, 21, 25)
    for files in moments:
        process = started(SCRIPT, out)
        deadline = time.monotonic() + 120
        while process.is_alive() and len(whole_files(out)) < files:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        process.join()
        found = whole_files(out)
        assert seen.items() <= found.items()
        seen = found
    assert len(seen) >= moments[-1]
    build(out)
    assert seen.items() <= whole_files(out).items()
    assert content(out) == undisturbed
