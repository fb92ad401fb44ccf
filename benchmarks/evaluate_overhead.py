"""evaluate_overhead: wall of ``evaluate`` / wall of the bare encoder over the same pictures and captions.

The bare forward takes tensors that are decoded and tokenised beforehand. Aim: <= 1.5 with the model of ``mini``.

    .venv/bin/python benchmarks/evaluate_overhead.py salmubench-demo/models/compromised salmubench-demo/data
"""

import sys
import time

import numpy as np
import torch

from salmubench import evaluate, load_benchmark, load_encoder
from salmubench.dataset.pictures import decode_picture
from salmubench.evaluation.metric import Pictures, Skip, Texts, metrics

BATCH, ROUNDS = 256, 3


def main() -> None:
    checkpoint, data = sys.argv[1:3]
    encoder, benchmark = load_encoder(checkpoint), load_benchmark(data)
    values = [
        value
        for key in metrics
        if not isinstance(inputs := metrics[key].inputs(benchmark), Skip)
        for value in inputs.values()
    ]
    index = np.unique(np.concatenate([value.index for value in values if isinstance(value, Pictures)]))
    texts = sorted({text for value in values if isinstance(value, Texts) for text in value.text})
    pictures = torch.stack(
        [encoder.preprocess(decode_picture(content, "a picture")) for content in benchmark.pictures.stream(index)]
    )
    tokens = encoder.tokenizer(texts)
    ratios = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        with torch.inference_mode():
            for start in range(0, len(pictures), BATCH):
                encoder.model.encode_image(pictures[start : start + BATCH].to(encoder.device), normalize=True)
            for start in range(0, len(tokens), BATCH):
                encoder.model.encode_text(tokens[start : start + BATCH].to(encoder.device), normalize=True)
        bare = time.perf_counter() - started
        started = time.perf_counter()
        evaluate(checkpoint, data)
        ratios.append((time.perf_counter() - started) / bare)
    print(f"pictures: {len(pictures)}, captions: {len(texts)}, threads: {torch.get_num_threads()}")
    print(f"evaluate_overhead: {np.median(ratios):.3f}")


if __name__ == "__main__":
    main()
