"""A small world, models of noise and an explorer on it: what the explorer's tests share."""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from encoders_world import checkpoint
from reports_world import make_data
from salmubench.atomic import write_json
from salmubench.dataset.store import load_benchmark
from salmubench.encoders.checkpoint import load_encoder
from salmubench.reports.explorer.answers import Explorer
from salmubench.reports.explorer.app import make_app
from salmubench.reports.explorer.columns import columns


def run_folder(folder: Path, number: int, budget: float, start: str, seed: int = 42) -> Path:
    """A checkpoint with the record of an unlearning run beside it."""
    checkpoint(folder, number)
    record = {"method": "delete", "budget": budget, "model_sha256": start, "seed": seed}
    write_json(folder / "record.json", record)
    return folder


def make_models(folder: Path) -> list[Path]:
    """compromised, clean, and one method at two budgets, the larger first."""
    bounds = [checkpoint(folder / name, seed) for seed, name in enumerate(("compromised", "clean"))]
    start = load_encoder(bounds[0], device="cpu").weights_sha256
    runs = [run_folder(folder / f"delete-{budget}x", 5 + budget, budget, start) for budget in (2, 1)]
    return [*bounds, *runs]


def open_world(folder: Path, **changed: Any) -> tuple[Explorer, list[dict[str, Any]]]:
    """An explorer on four models and eight people."""
    data = make_data(folder / "data", people=8, pictures=12, long_side=64)
    models = make_models(folder / "models")
    encoders = [load_encoder(path, device="cpu") for path in models]
    return Explorer(encoders, load_benchmark(data), **changed), columns([str(path) for path in models], encoders)


def picture(width: int = 60, height: int = 50, kind: str = "PNG") -> bytes:
    """An encoded picture of noise."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(3).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@contextmanager
def served(explorer: Explorer, shown: list[dict[str, Any]], **options: Any) -> Iterator[str]:
    """The explorer behind a real server on a free port of loopback; yields its address."""
    config = uvicorn.Config(make_app(explorer, shown, **options), port=0, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
