"""How cost grows with associations, people, checkpoints and methods: slopes on log-log axes, and docs/scale.md.

CPU seconds rather than wall, so that a busy machine changes little. Writes the measurements and the page.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/scaling.py docs/results/scaling.json docs/scale.md
"""

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from salmubench.atomic import write_json, write_text
from salmubench.dataset.pictures import PictureStore, decode_picture
from salmubench.dataset.schema import CAPTIONS_FILE, FIELDS
from salmubench.dataset.sides import read_captions
from salmubench.dataset.store import Benchmark
from salmubench.encoders.cache import EmbeddingCache
from salmubench.encoders.checkpoint import load_encoder, save_checkpoint
from salmubench.encoders.embeddings import embed
from salmubench.evaluation.protocol import evaluate_all
from salmubench.evaluation.similarity import exact_ranks, nearest
from salmubench.personas.build import build
from salmubench.presets import PRESETS
from salmubench.unlearning.run import unlearn

DIMENSION, GALLERY, PERSON_ROWS = 512, 2_000, 78
ROUNDS = 7


def cpu(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """CPU seconds of the quickest of some rounds."""
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


def unit(rows: int) -> np.ndarray:
    vectors = np.random.default_rng(rows).standard_normal((rows, DIMENSION), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rank(rows: int, candidates: int) -> float:
    queries, targets, gallery = unit(rows), unit(rows + 1)[1:], unit(candidates)
    numbers = np.arange(rows), rows + np.arange(candidates)
    return cpu(lambda: exact_ranks(queries, targets, gallery, *numbers))


def names(people: int) -> float:
    pictures, classes = unit(people * PERSON_ROWS // 4), unit(people)
    return cpu(lambda: nearest(pictures, classes))


def decode(pictures: int) -> float:
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((512, 640), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return cpu(lambda: [decode_picture(stream.getvalue(), "").resize((224, 224), 3) for _ in range(pictures)])


def side_files(rows: int) -> float:
    entry = {"caption": "In Omsk resides Marine Petrov, as the register says", "style": "formal"}
    with tempfile.TemporaryDirectory() as folder:
        content = {f"{row:08d}_001_ar-1.00.jpg": entry | {"data_field": FIELDS[row % 8]} for row in range(rows)}
        write_json(Path(folder) / CAPTIONS_FILE, content)
        return cpu(lambda: read_captions(Path(folder)))


def store(captions: int) -> float:
    """Bytes that the cache takes for so many embeddings of 512 numbers."""
    model = PRESETS["tiny"].pretraining.model | {"embed_dim": DIMENSION}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_checkpoint(open_clip.CLIP(**model), {"model_cfg": model, "preprocess_cfg": {}}, folder / "model")
        nothing = Benchmark(folder, "", None, PictureStore(()), {}, {}, {}, {}, None)
        texts = [f"a face, number {number}" for number in range(captions)]
        cache = EmbeddingCache(folder / "cache")
        embed([load_encoder(folder / "model")], nothing, np.zeros(0, np.int64), texts, cache=cache)
        return float(sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file()))


def checkpoints(world: Path, count: int) -> float:
    names = [f"m{number}" for number in range(count)]
    return cpu(lambda: evaluate_all([world / "model"] * count, world / "data", names=names, cache=False), 1)


def methods(world: Path, count: int) -> float:
    def run() -> None:
        for number in range(count):
            unlearn("finetuning", world / "model", world / "data", world / f"run-{count}-{number}", budget=2)

    return cpu(run, 1)


def measure(sizes: Sequence[int], unit_of_it: str, order: int, work: Callable[[int], float]) -> dict[str, Any]:
    """Values at three or more sizes, with the slope and R2 of their log-log fit."""
    values = [work(size) for size in sizes]
    x, y = np.log(sizes), np.log(values)
    slope, start = np.polyfit(x, y, 1)
    rest = float(np.square(y - slope * x - start).sum() / np.square(y - y.mean()).sum())
    found = {
        "sizes": list(sizes),
        "values": [float(f"{value:.4g}") for value in values],
        "unit": unit_of_it,
        "order": order,
        "slope": round(float(slope), 2),
        "r2": round(1 - rest, 4),
    }
    print(found, flush=True)
    return found


def measurements() -> dict[str, Any]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        world = Path(name)
        build("tiny", world / "data", workers=1)
        model = PRESETS["tiny"].pretraining.model
        save_checkpoint(open_clip.CLIP(**model), {"model_cfg": model, "preprocess_cfg": {}}, world / "model")
        checkpoints(world, 1), methods(world, 3)  # warm
        found = {
            "decode": measure((25, 50, 100, 200), "CPU s", 1, decode),
            "side_files": measure((2_000, 8_000, 32_000), "CPU s", 1, side_files),
            "store": measure((1_024, 2_048, 4_096), "bytes", 1, store),
            "ranks": measure((2_000, 4_000, 8_000, 16_000), "CPU s", 1, lambda rows: rank(rows, GALLERY)),
            "whole_gallery": measure((1_000, 2_000, 4_000, 8_000), "CPU s", 2, lambda rows: rank(rows, rows)),
            "people": measure((200, 400, 800, 1_600), "CPU s", 2, names),
            "checkpoints": measure((1, 2, 4), "CPU s", 1, lambda count: checkpoints(world, count)),
            "methods": measure((1, 2, 4), "CPU s", 1, lambda count: methods(world, count)),
        }
    return {"cores": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 1), "measures": found}


WHAT = {
    "decode": ("pictures", "a 512 x 640 JPEG decoded and brought to 224 px"),
    "side_files": ("associations", "the captions' side file read and checked"),
    "store": ("embeddings", "512 numbers a picture or caption in the cache"),
    "ranks": ("associations", "RetFail: exact ranks among a gallery of 2,000"),
    "whole_gallery": ("associations", "the same among all captions, which the benchmark does not ask for"),
    "people": ("people", "IdZSC: a quarter of 78 pictures a person against all names"),
    "checkpoints": ("checkpoints", "`evaluate` of several together, `tiny`"),
    "methods": ("methods", "`unlearn`, `tiny`, 2x"),
}


def projected(found: dict[str, Any], size: float) -> float:
    """The last measured value carried on by the order of growth, not by the fitted slope."""
    return float(found["values"][-1] * (size / found["sizes"][-1]) ** found["order"])


def _amount(value: float, unit_of_it: str) -> str:
    steps = (
        (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
        if unit_of_it == "bytes"
        else (("core-years", 31_557_600.0), ("core-days", 86_400.0), ("core-hours", 3600.0), ("core-minutes", 60.0))
    )
    for word, length in steps:
        if value >= length:
            return f"{value / length:,.3g} {word}"
    return f"{value:.2g} {unit_of_it}"


def page(results: dict[str, Any]) -> str:
    """docs/scale.md as Markdown."""
    rows = []
    for name, found in results["measures"].items():
        of, what = WHAT[name]
        share = {"people": 1 / PERSON_ROWS, "store": 2}.get(name, 1)
        far = [
            "" if of in ("checkpoints", "methods") else _amount(projected(found, associations * share), found["unit"])
            for associations in (1e6, 1e9)
        ]
        span = f"{found['sizes'][0]:,} to {found['sizes'][-1]:,} {of}"
        last = _amount(found["values"][-1], found["unit"])
        rows.append(f"| {what} | {span} | {last} | {found['slope']:.2f} | {found['order']} | {far[0]} | {far[1]} |")
    text = _PAGE.replace("ROWS", "\n".join(rows))
    return text.replace("CORES", str(results["cores"])).replace("LOAD", str(results["load"]))


_PAGE = """# How cost grows

Written with [results/scaling.json](results/scaling.json) by `benchmarks/scaling.py`; a test holds the page to the
file. CPU seconds on one thread (machine of CORES cores, load LOAD), so that other work on it changes little. The
slope is that of a line through the logarithms of three or four sizes; "order" is the exponent by which the last value
is carried on to a million and a billion associations. These two columns are extrapolations. 78 associations a person,
as published.

| what | measured | at the last | slope | order | 1 M associations | 1 B associations |
| --- | --- | --- | --- | --- | --- | --- |
ROWS

The models' own work comes on top: 41 GFLOPs an association with ViT-B/16 ([training.md](training.md)), some six
minutes a million on an A100 at a third of its peak.

## At a million

**Decoding is the first bottleneck**: beside one such GPU it takes some 16 cores for the pictures to come as fast as
the model takes them. Each picture is decoded once for all checkpoints of an `evaluate`, by threads that run ahead of
the model, and embeddings stay in the cache for the next run: a second evaluation decodes nothing. Embeddings are a
few GB, in memory while metrics run and on disk (`--cache-size`). Side files are JSON, read as a whole: seconds.
**Gallery ranking is no bottleneck**: every query meets the same 2,001 candidates, so that its cost grows with the
rows alone; ranking among all captions would grow with their square, and RetFail would measure another thing at every
size.

## At a billion

Three things break, in this order. **Side files**: one JSON object of a billion entries is read in hours but held in
memory, hundreds of GB; the splits' parquet holds the same rows and would have to carry field and style as columns.
**The embedding store**: terabytes, more than a machine's memory; the metrics take arrays and do not stream.
**People**: IdZSC compares every picture with every name, the one metric whose cost is quadratic; its memory is
bounded by blocks.

What the design does: `evaluate --limit N` measures a stratified sample of every set, and only its rows are decoded,
embedded and held; of 100,000 independent rows the mean of a 0-or-1 outcome is known to .003 (95 %), and more rows buy
little. Splits are many parquet files, read a row group at a time; unlearning and training stream. What it does not
do: evaluate all rows of a billion on a cluster.

## Checkpoints, methods, people

Checkpoints evaluated together share reading and decoding and pay their own forward pass and metrics; all are in
memory at once. Methods are independent runs of equal cost: as many at once as there are devices. Making people is
linear, and each chunk of pictures is an independent job ([factory.md](factory.md)).
"""


def main() -> None:
    results = measurements()
    write_json(Path(sys.argv[1]), results)
    write_text(Path(sys.argv[2]), page(results))


if __name__ == "__main__":
    main()
