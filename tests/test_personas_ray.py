"""The same build on Ray: two workers, one of them killed half-way, give the bytes of one process."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from salmubench.errors import UserError
from salmubench.personas.build import build
from salmubench.presets import Preset


@pytest.mark.slow
def test_ray_gives_the_same_bytes_though_a_worker_is_killed(world: Path, micro: Preset, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the extra `scale` is not installed; `make test-ray` does it")
    psutil = pytest.importorskip("psutil")
    killed: list[int] = []

    def kill_one() -> None:
        deadline = time.monotonic() + 240
        while not killed and time.monotonic() < deadline:
            for process in psutil.Process().children(recursive=True):
                if process.name().startswith("ray::_draw"):
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    return
            time.sleep(0.005)

    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    watcher = threading.Thread(target=kill_one, daemon=True)
    watcher.start()
    out = build(micro, tmp_path / "data", seed=42, ray="auto")
    watcher.join(timeout=1)
    assert killed
    assert ray.is_initialized()  # as before the build
    ray.shutdown()
    files = [path.relative_to(world) for path in sorted(world.rglob("*")) if path.is_file()]
    assert [path.relative_to(out) for path in sorted(out.rglob("*")) if path.is_file()] == files
    assert all((out / path).read_bytes() == (world / path).read_bytes() for path in files)


def test_without_ray_the_mend_is_named(micro: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray is not installed; pip install 'salmubench\[scale\]'"):
        build(micro, tmp_path / "data", ray="auto")
