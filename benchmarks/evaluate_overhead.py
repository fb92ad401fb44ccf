"""evaluate_overhead: wall of ``evaluate`` / wall of the bare encoder over the same pictures and captions.

The bare forward takes tensors that are decoded and tokenised beforehand, in batches of the same size; ``evaluate`` runs
without its cache. Aim: <= 1.10 with ViT-B/16, <= 1.5 with the model of ``mini``. A third argument limits the rows.

    .venv/bin/python benchmarks/evaluate_overhead.py salmubench-demo/models/compromised salmubench-demo/data
"""

import sys
import time

import numpy as np
import torch
from torch import Tensor

from salmubench import evaluate, load_benchmark, load_encoder
from salmubench.dataset.pictures import decode_picture
from salmubench.evaluation.metric import Pictures, Skip, Texts, configure, metrics
from salmubench.evaluation.sampling import sample

ROUNDS = 3


def main() -> None:
    checkpoint, data, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None
    encoder, benchmark, options = load_encoder(checkpoint), load_benchmark(data), configure(None)
    if limit is not None:
        benchmark = sample(benchmark, limit, seed=42)
    values = [
        value
        for key in metrics
        if not isinstance(inputs := metrics[key].inputs(benchmark, options[key]), Skip)
        for value in inputs.values()
    ]
    index = np.unique(np.concatenate([value.index for value in values if isinstance(value, Pictures)]))
    texts = sorted({text for value in values if isinstance(value, Texts) for text in value.text})
    pictures = torch.stack(
        [encoder.preprocess(decode_picture(content, "a picture")) for content in benchmark.pictures.stream(index)]
    )
    tokens = encoder.tokenizer(texts)

    def bare(tower: str, inputs: Tensor) -> None:
        encode, size = getattr(encoder.model, tower), encoder.batch_size("auto", len(inputs))
        for start in range(0, len(inputs), size):
            encode(inputs[start : start + size].to(encoder.device), normalize=True)

    ratios = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        with torch.inference_mode():
            bare("encode_image", pictures)
            bare("encode_text", tokens)
        alone = time.perf_counter() - started
        started = time.perf_counter()
        evaluate(checkpoint, data, limit=limit, cache=False)
        ratios.append((time.perf_counter() - started) / alone)
        print(f"bare: {alone:.1f} s, ratio: {ratios[-1]:.3f}")
    print(f"pictures: {len(pictures)}, captions: {len(texts)}, threads: {torch.get_num_threads()}")
    print(f"evaluate_overhead: {np.median(ratios):.3f}")


if __name__ == "__main__":
    main()
