"""evaluate_vs_clip_benchmark: wall of clip_benchmark / ours for zero-shot classification and retrieval, equal numbers.

Both take the same general-knowledge shards, the forget pairs (theirs written as shards beforehand) and the same
checkpoint, and start as new processes with the same threads, no embedding cached. Timed from the first line after the
imports to the last number: loading the model, reading, encoding, ranking. Aim: >= 1 with ViT-B/16, >= 2 with the model
of ``mini``.
`make .venv-clip-benchmark` makes the environment that clip_benchmark needs.

    .venv/bin/python benchmarks/evaluate_vs_clip_benchmark.py MODEL DATA [ROUNDS]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

CLIP_BENCHMARK = Path(__file__).parents[1] / ".venv-clip-benchmark" / "bin" / "python"
RECALL = (1, 5, 10)
BATCH, SHARDS, ROUNDS = 64, 4, 3
"""Its own batch size; ours is ``auto``."""


def ours(model: str, data: str) -> dict[str, float]:
    """GenKnow as ``evaluate`` computes it, and recall from the kernel behind RetFail."""
    import numpy as np

    from salmubench import load_benchmark, load_encoder
    from salmubench.encoders.embeddings import embed
    from salmubench.evaluation.metric import metrics
    from salmubench.evaluation.similarity import exact_ranks

    list(metrics)  # their modules import scikit-learn; imports are not timed
    started = time.perf_counter()
    encoder, benchmark = load_encoder(model), load_benchmark(data)
    forget, asked = distinct(benchmark.sets["forget"]), dict(metrics["GenKnow"].inputs(benchmark))
    index = np.concatenate([forget.picture, asked["picture"].index])
    (embeddings,) = embed([encoder], benchmark, index, (*forget.text, *asked["prompt"].text))
    asked["picture"] = embeddings.of_pictures(asked["picture"].index)
    asked["prompt"] = embeddings.of_texts(asked["prompt"].text)
    numbers = {"acc1": metrics["GenKnow"](**asked).value}
    picture, text, row = (
        embeddings.of_pictures(forget.picture),
        embeddings.of_texts(forget.text),
        np.arange(len(forget)),
    )
    for name, queries, targets in (("text", picture, text), ("image", text, picture)):
        rank, _ = exact_ranks(queries, targets, targets, row, row)
        numbers |= {f"{name}_retrieval_recall@{k}": float((rank <= k).mean()) for k in RECALL}
    return numbers | {"seconds": time.perf_counter() - started}


def theirs(model: str, general_knowledge: str, retrieval: str) -> dict[str, float]:
    """The calls of clip_benchmark's command ``eval``, which imports packages that neither task needs."""
    from clip_benchmark.datasets.builder import build_dataset
    from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
    from clip_benchmark.models import load_clip
    from torch.utils.data import DataLoader

    started = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, transform, tokenizer = load_clip("open_clip", f"local-dir:{model}", "", "", device)
    network.eval()

    def loader(task: str, root: str) -> Any:
        dataset = build_dataset("wds/ours", root=root, transform=transform, split="test", task=task)
        shards = int((Path(root) / "test" / "nshards.txt").read_text())
        workers = min(len(os.sched_getaffinity(0)), shards)  # a worker without a shard is an error of webdataset
        return DataLoader(dataset.batched(BATCH), batch_size=None, num_workers=workers if workers > 1 else 0)

    zeroshot = loader("zeroshot_classification", general_knowledge)
    numbers = zeroshot_classification.evaluate(
        network, zeroshot, tokenizer, zeroshot.dataset.classes, zeroshot.dataset.templates, device, amp=False
    )
    pairs = loader("zeroshot_retrieval", retrieval)
    numbers |= zeroshot_retrieval.evaluate(network, pairs, tokenizer, device, amp=False, recall_k_list=list(RECALL))
    return numbers | {"seconds": time.perf_counter() - started}


def distinct(pairs: Any) -> Any:
    """The first row of each caption: clip_benchmark orders equal captions as its sort happens to, we let them tie."""
    first = {text: row for row, text in reversed(list(enumerate(pairs.text)))}
    return pairs.take(pairs.name, sorted(first.values()))


def write_retrieval(data: str, folder: Path) -> None:
    """The forget pairs as a retrieval set in clip_benchmark's layout."""
    from salmubench import load_benchmark
    from salmubench.dataset.retain import CaptionedPicture, write_shards

    benchmark = load_benchmark(data)
    forget = distinct(benchmark.sets["forget"])
    contents = (benchmark.pictures.read(int(number)) for number in forget.picture)
    pairs = (CaptionedPicture(f"{row:07d}", *pair) for row, pair in enumerate(zip(contents, forget.text, strict=True)))
    for number, shard in enumerate(write_shards(folder / "test", pairs, pairs_per_shard=-(-len(forget) // SHARDS))):
        shard.rename(shard.with_name(f"{number}.tar"))
    (folder / "test" / "nshards.txt").write_text(f"{number + 1}\n")
    (folder / "dataset_type.txt").write_text("retrieval\n")


def run(python: str | Path, side: str, *arguments: str | Path) -> dict[str, float]:
    command = [python, __file__, side, *arguments]
    result = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    model, data, rounds = *sys.argv[1:3], int((*sys.argv, ROUNDS)[3])
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        write_retrieval(data, Path(folder))
        for _ in range(rounds):  # side by side, so that a noisy machine slows both
            mine = run(sys.executable, "ours", model, data)
            other = run(CLIP_BENCHMARK, "theirs", model, Path(data) / "general_knowledge", folder)
            seconds = other.pop("seconds"), mine.pop("seconds")
            print(f"seconds: {seconds[0]:.2f} theirs, {seconds[1]:.2f} ours")
            ratios.append(seconds[0] / seconds[1])
            for name, value in mine.items():
                assert abs(value - other[name]) <= 1e-4, f"{name}: ours {value}, clip_benchmark's {other[name]}"
    for name, value in mine.items():
        print(f"{name}: {value:.6f}")
    print(f"threads: {torch.get_num_threads()}")
    print(f"evaluate_vs_clip_benchmark: {sorted(ratios)[len(ratios) // 2]:.3f}")


if __name__ == "__main__":
    if sys.argv[1] in ("ours", "theirs"):
        print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
    else:
        main()
