"""metrics_seconds: all ten metrics with their intervals and break-downs at official size, after encoding. Aim: < 15.

Random unit embeddings stand in for a model's. Everything between them and the report is what ``evaluate`` runs: the
official numbers of rows and people, and ImageNet-1k's 50,000 pictures, 1,000 classes and 80 templates.

    .venv/bin/python benchmarks/metrics_wall.py
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from salmubench.dataset.pictures import PictureStore
from salmubench.dataset.retain import GeneralKnowledge
from salmubench.dataset.schema import FIELDS, CaptionInfo
from salmubench.dataset.splits import fragile_count
from salmubench.dataset.store import Benchmark, PairSet, derive_sets
from salmubench.encoders.embeddings import Embeddings
from salmubench.evaluation import protocol
from salmubench.evaluation.breakdown import entry
from salmubench.evaluation.metric import configure, metrics

HALVED, FORGOTTEN, HELD_OUT = 387, 193, 194
DIMENSION, SEED = 512, 42
PICTURES, CLASSES, TEMPLATES = 50_000, 1000, 80


def official_size() -> Benchmark:
    """No pictures and no real text, but every row, person, caption and class of the official data."""
    ids = [f"{person:08d}" for person in range(HALVED + FORGOTTEN + HELD_OUT)]
    halved, forgotten = ids[:HALVED], ids[HALVED : HALVED + FORGOTTEN]
    start = 0

    def pairs(name: str, owners: list[str | None]) -> PairSet:
        nonlocal start
        picture = np.arange(start, start + len(owners))
        start += len(owners)
        files = tuple(f"{who or 'nobody'}_{number:06d}.jpg" for who, number in zip(owners, picture, strict=True))
        return PairSet(name, picture, tuple(f"caption {number}" for number in picture), tuple(owners), files)

    sets = {
        "forget": pairs("forget", [*spread(halved, 15_126), *spread(forgotten, 15_342)]),
        "holdout_association": pairs("holdout_association", [*spread(halved, 14_943)]),
        "holdout_identity": pairs("holdout_identity", [*spread(ids[HALVED + FORGOTTEN :], 14_642)]),
        "retain_synth": pairs("retain_synth", [*spread(ids, 1000), *[None] * 15_741]),
    }
    sets |= derive_sets(sets)
    disjoint = sets["retain_disjoint"]
    fragile = fragile_count(len(disjoint))
    sets["fragile_set"] = disjoint.subset("fragile_set", (row < fragile for row in range(len(disjoint))))
    names = tuple(f"class {number}" for number in range(CLASSES))
    templates = tuple(f"template {number} of {{c}}" for number in range(TEMPLATES))
    general = GeneralKnowledge(np.arange(start, start + PICTURES), np.arange(PICTURES) % CLASSES, names, templates)
    people = {who: {"name": f"Name {who}", **{field: f"{field} of {who}" for field in FIELDS}} for who in ids}
    captions = {name: CaptionInfo(FIELDS[row % len(FIELDS)], "") for row, name in enumerate(sets["forget"].file_name)}
    return Benchmark(Path("data"), "sha256:0", "pair", PictureStore(()), sets, people, captions, {}, general)


def spread(people: list[str], rows: int) -> Iterator[str]:
    return (people[row % len(people)] for row in range(rows))


def unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    vectors = rng.standard_normal((rows, DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def main() -> None:
    benchmark, chosen, rng = official_size(), configure(None), np.random.default_rng(0)
    wanted = protocol._inputs(benchmark, chosen)
    index, texts = (
        protocol._pictures(wanted),
        {text: row for row, text in enumerate(dict.fromkeys(protocol._texts(wanted)))},
    )
    embeddings = Embeddings(index, unit(rng, len(index)), texts, unit(rng, len(texts)))
    total = 0.0
    for key, inputs in wanted.items():
        started, used = time.perf_counter(), time.process_time()
        (result,) = protocol._measure({key: inputs}, embeddings).values()
        measured = time.perf_counter() - started
        entry(metrics[key].spec, result, chosen[key], benchmark.captions, SEED)
        seconds = time.perf_counter() - started
        total += seconds
        cpu = time.process_time() - used
        print(f"{key:10} {seconds:6.2f} s, of them intervals {seconds - measured:5.2f}; cpu {cpu:6.2f}")
    print(f"cores: {len(os.sched_getaffinity(0))}, load: {os.getloadavg()[0]:.1f}")
    print(f"metrics_seconds: {total:.2f}")


if __name__ == "__main__":
    main()
