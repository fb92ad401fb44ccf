"""Seconds from a request to the whole answer of the explorer, over loopback, after its start: aim under 0.3 at mini.

`python benchmarks/explore_latency.py DATA MODEL [MODEL ...]`
"""

import http.client
import io
import json
import sys
import threading
import time
from urllib.parse import quote

import numpy as np
import uvicorn
from PIL import Image

from salmubench.dataset.store import load_benchmark
from salmubench.encoders.cache import EmbeddingCache
from salmubench.encoders.checkpoint import load_encoder
from salmubench.reports.explorer.answers import Explorer
from salmubench.reports.explorer.app import make_app
from salmubench.reports.explorer.columns import columns

REPEATS = 40


def photograph() -> bytes:
    """A JPEG as a telephone makes it, 12 million pixels."""
    coarse = np.random.default_rng(1).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((4000, 3000), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
    return stream.getvalue()


def main(data: str, *models: str) -> None:
    started = time.perf_counter()
    encoders = [load_encoder(model) for model in models]
    explorer = Explorer(encoders, load_benchmark(data), cache=EmbeddingCache())
    app = make_app(explorer, columns(models, encoders))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    print(f"load: {time.perf_counter() - started:.2f}")
    connection = http.client.HTTPConnection("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])

    def ask(path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "image/jpeg"} if body else {}
        connection.request("POST" if body else "GET", path, body, headers)
        response = connection.getresponse()
        content = response.read()
        assert response.status == 200, content
        return content

    people = json.loads(ask("/world"))["people"]
    small = ask(f"/picture/{explorer.first}")
    large = photograph()
    chosen = np.random.default_rng(2).choice(explorer.faces.index, REPEATS)
    kinds = {
        "face": [(f"/face/{number}", None) for number in chosen],
        "name": [(f"/name?text={quote(people[n % len(people)]['name'])}", None) for n in range(REPEATS)],
        "picture": [(f"/picture/{number}", None) for number in chosen],
        "upload_small": [("/upload", small)] * REPEATS,
        "upload_12_megapixels": [("/upload", large)] * (REPEATS // 4),
    }
    for kind, requests in kinds.items():
        seconds = []
        for path, body in requests:
            begun = time.perf_counter()
            ask(path, body)
            seconds.append(time.perf_counter() - begun)
        print(f"{kind}: median {np.median(seconds):.4f}, worst {max(seconds):.4f}")
    server.should_exit = True
    thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
