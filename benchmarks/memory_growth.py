"""memory_growth: peak memory of a whole ``salmubench evaluate`` at 60,000 rows / at 6,000 rows. Aim: <= 1.3.

It makes its own data, small noisy pictures with a caption each, and a small model with embeddings of 512 numbers as
ViT-B/16 has them. Each measurement is a process of its own.

    .venv/bin/python benchmarks/memory_growth.py FOLDER
"""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
from PIL import Image

from salmubench.atomic import write_json
from salmubench.dataset.schema import (
    CAPTIONS_FILE,
    FIELDS,
    FRAGILE_IDS_FILE,
    GENERIC_CAPTIONS_FILE,
    IDENTITIES_FILE,
    Row,
)
from salmubench.dataset.store import write_split
from salmubench.encoders.checkpoint import save_checkpoint

ROWS = (6_000, 60_000)
SHARES = {"forget": 4, "holdout_association": 2, "holdout_identity": 2, "retain_synth": 2}
PERSON_ROWS = 50
MODEL = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


def rows(split: str, count: int) -> Iterator[Row]:
    rng = np.random.default_rng(len(split))
    for number in range(count):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(stream, "PNG", compress_level=1)
        who = (
            f"{split}-{number // PERSON_ROWS}" if split != "holdout_association" else f"forget-{number // PERSON_ROWS}"
        )
        name = f"{split}-{number:06d}.png"
        yield Row(stream.getvalue(), f"The city of {who} is number {number}", None if "retain" in split else who, name)


def write_data(folder: Path, total: int) -> None:
    identities, captions = {}, {}
    for split, share in SHARES.items():
        count = total * share // sum(SHARES.values())
        write_split(folder, split, rows(split, count))
        for row in rows(split, count) if split != "retain_synth" else ():
            identities[row.identity_id] = {"name": f"Person {row.identity_id}"} | dict.fromkeys(FIELDS, "a value")
            captions[row.file_name] = {"data_field": "city", "caption": row.text}
    write_json(folder / IDENTITIES_FILE, identities)
    write_json(folder / CAPTIONS_FILE, captions)
    write_json(folder / GENERIC_CAPTIONS_FILE, {})
    write_json(folder / FRAGILE_IDS_FILE, [f"retain_synth-{number:06d}.png" for number in range(100)])


def peak(model: Path, data: Path, out: Path) -> int:
    command = ["evaluate", str(model), "--data", str(data), "--out", str(out), "--no-cache", "--device", "cpu"]
    subprocess.run([sys.executable, "-c", "from salmubench.cli import main; main()", *command], check=True)
    return int(json.loads(out.read_text())["provenance"]["run"]["peak_memory_bytes"])


def main() -> None:
    folder = Path(sys.argv[1])
    save_checkpoint(open_clip.CLIP(**MODEL), {"model_cfg": MODEL, "preprocess_cfg": {}}, folder / "model")
    peaks = []
    for total in ROWS:
        data = folder / f"{total}"
        if not (data / FRAGILE_IDS_FILE).is_file():
            write_data(data, total)
        peaks.append(peak(folder / "model", data, folder / f"{total}.json"))
        print(f"rows: {total}, peak: {peaks[-1] / 1e6:.0f} MB", flush=True)
    print(f"memory_growth: {peaks[1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
