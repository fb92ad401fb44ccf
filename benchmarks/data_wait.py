"""data_wait: share of the encoding time that the model waits for pictures and captions. Aim: <= 0.03.

.venv/bin/python benchmarks/data_wait.py salmubench-demo/models/compromised salmubench-demo/data
"""

import sys

import numpy as np

from salmubench import evaluate

ROUNDS = 3


def main() -> None:
    checkpoint, data = sys.argv[1:3]
    limit = int(sys.argv[3]) if len(sys.argv) > 3 else None
    runs = [evaluate(checkpoint, data, limit=limit, cache=False).provenance.run for _ in range(ROUNDS)]
    for name in ("pictures_per_second", "captions_per_second"):
        print(f"{name}: {np.median([run[name] for run in runs]):.1f}")
    print(f"data_wait: {np.median([run['data_wait_share'] for run in runs]):.4f}")


if __name__ == "__main__":
    main()
