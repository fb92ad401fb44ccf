"""The whole chain against naive code: one input at a time through the bare open_clip model, then plain Python loops."""

import io
import json
import math
import shutil
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from dataset_small import rewrite
from salmubench.dataset.splits import write_fragile
from salmubench.encoders.checkpoint import save_checkpoint
from salmubench.evaluation.metrics.acs import mismatch
from salmubench.evaluation.protocol import evaluate, score_fragile
from salmubench.presets import Preset
from salmubench.seeds import derive, generator

SPLITS = ("forget", "holdout_association", "holdout_identity", "retain_synth")
Vector = tuple[float, ...]


@pytest.fixture(scope="module")
def model(micro: Preset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    folder, model_cfg = tmp_path_factory.mktemp("naive") / "model", micro.pretraining.model
    save_checkpoint(open_clip.CLIP(**model_cfg), {"model_cfg": model_cfg, "preprocess_cfg": {}}, folder)
    return folder


@pytest.fixture(scope="module")
def folders(world: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same data with its rows as stored and shuffled."""
    root = tmp_path_factory.mktemp("naive_data")
    shutil.copytree(world, root / "stored")
    write_fragile(root / "stored", score_fragile(model, root / "stored", device="cpu"))
    shutil.copytree(root / "stored", root / "shuffled", ignore=shutil.ignore_patterns("manifest.json"))
    for split in SPLITS:
        rng = np.random.default_rng(8)
        rewrite(
            root / "shuffled" / "salmubench", split, lambda rows, rng=rng: [rows[n] for n in rng.permutation(len(rows))]
        )
    return {order: root / order for order in ("stored", "shuffled")}


def towers(model: Path) -> tuple[Callable[[bytes], Vector], Callable[[str], Vector]]:
    network, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{model}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{model}")
    network.eval()

    def picture(content: bytes) -> Vector:
        pixels = preprocess(Image.open(io.BytesIO(content)).convert("RGB"))
        return tuple(network.encode_image(pixels[None], normalize=True)[0].tolist())

    def text(words: str) -> Vector:
        return tuple(network.encode_text(tokenize([words]), normalize=True)[0].tolist())

    return cache(picture), cache(text)


def cosine(a: Vector, b: Vector) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def naive(data: Path, model: Path) -> dict[str, float]:
    """All ten metrics, and the two further numbers, by the definitions of docs/metrics."""
    look, read = torch.no_grad()(towers(model)[0]), torch.no_grad()(towers(model)[1])
    side = {path.stem: json.loads(path.read_text()) for path in (data / "salmubench").glob("*.json")}
    people, captions = side["identities_metadata"], side["sensitive_set_captions_metadata"]
    rows = {}
    for split in SPLITS:
        tables = [pq.read_table(path).to_pylist() for path in (data / "salmubench" / "data").glob(f"{split}-*.parquet")]
        rows[split] = sorted((row for table in tables for row in table), key=lambda row: row["file_name"])
        for row in rows[split]:
            row["picture"], row["embedded"] = look(row["image"]["bytes"]), read(row["text"])
            row["cosine"] = cosine(row["picture"], row["embedded"])
    forget, retain = rows["forget"], rows["retain_synth"]
    forgotten, halved = ({row["identity_id"] for row in rows[name]} for name in ("forget", "holdout_association"))
    disjoint = [row for row in retain if row["identity_id"] is None]
    fragile = set(side["fragile_set_ids"])

    ranks = []
    for row in forget:
        rivals = [other["text"] for other in (*forget, *disjoint) if other["text"] != row["text"]]
        ranks.append(1 + sum(cosine(row["picture"], read(rival)) > row["cosine"] for rival in rivals))
    core = []
    for row in forget:
        person = people[row["identity_id"]]
        name, value = person["name"], person[captions[row["file_name"]]["data_field"]]
        core.append(max(cosine(row["picture"], read(words)) for words in (f"{name} {value}", f"{value} {name}")))
    whole = [row for row in forget if row["identity_id"] not in halved]
    names = sorted({people[row["identity_id"]]["name"] for row in whole})
    found = [max(names, key=lambda name: cosine(row["picture"], read(name))) for row in whole]
    return {
        "RetFail": mean([1 / rank for rank in ranks]),
        "RetFail R@1": mean([float(rank == 1) for rank in ranks]),
        "AssocStr": mean([row["cosine"] for row in forget]),
        "ACS": separability(forget, lambda a, b: [cosine(a, b)]),
        "ACS product": separability(forget, lambda a, b: [x * y for x, y in zip(a, b, strict=True)]),
        "IdZSC": mean(
            [float(name == people[row["identity_id"]]["name"]) for name, row in zip(found, whole, strict=True)]
        ),
        "CoreAssoc": mean(core),
        "GenKnow": zero_shot(data / "general_knowledge", look, read),
        "InterIdSim": mean([row["cosine"] for row in rows["holdout_identity"]]),
        "IntraIdSim": mean([row["cosine"] for row in rows["holdout_association"]]),
        "VisIdInt": mean([row["cosine"] for row in retain if row["identity_id"] in forgotten]),
        "FragSim": mean([row["cosine"] for row in disjoint if row["file_name"] in fragile]),
    }


def separability(forget: list[dict], feature: Callable[[Vector, Vector], Vector]) -> float:  # type: ignore[type-arg]
    """Another solver than ours, on features made pair by pair; the draws are part of the definition."""
    texts = sorted({row["text"] for row in forget})
    wrong = mismatch(np.array([texts.index(row["text"]) for row in forget]), generator(42, "ACS", "permutation"))
    x = [feature(row["picture"], row["embedded"]) for row in forget]
    x += [feature(row["picture"], forget[other]["embedded"]) for row, other in zip(forget, wrong, strict=True)]
    y = [1] * len(forget) + [0] * len(forget)
    train, test = train_test_split(
        range(len(y)), test_size=0.5, stratify=y, random_state=derive(42, "ACS", "split") % 2**32
    )
    fitted = LogisticRegression(tol=1e-10, max_iter=10_000).fit([x[n] for n in train], [y[n] for n in train])
    return mean([float(fitted.predict([x[n]])[0] == y[n]) for n in test])


def zero_shot(folder: Path, look: Callable[[bytes], Vector], read: Callable[[str], Vector]) -> float:
    classes = []
    for name in (folder / "classnames.txt").read_text().splitlines():
        templates = (folder / "zeroshot_classification_templates.txt").read_text().splitlines()
        prompts = [read(template.replace("{c}", name)) for template in templates]
        classes.append(tuple(mean(list(axis)) for axis in zip(*prompts, strict=True)))
    hits = []
    for shard in (folder / "test").glob("*.tar"):
        with tarfile.open(shard) as archive:
            members = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
        for name, content in members.items():
            if name.endswith(".jpg"):
                scores = [cosine(look(content), centre) for centre in classes]
                hits.append(float(scores.index(max(scores)) == int(members[name.replace(".jpg", ".cls")])))
    return mean(hits)


@pytest.fixture(scope="module")
def expected(folders: dict[str, Path], model: Path) -> dict[str, float]:
    return naive(folders["stored"], model)


@pytest.mark.parametrize("order", ["stored", "shuffled"])
@pytest.mark.parametrize("batch_size", [5, 64])
def test_evaluate_is_equal_to_naive_code(
    order: str, batch_size: int, folders: dict[str, Path], model: Path, expected: dict[str, float]
) -> None:
    report = evaluate(model, folders[order], batch_size=batch_size, cache=False, device="cpu")
    found = {key: entry.value for key, entry in report.metrics.items()}
    for key, extra in (("RetFail", "R@1"), ("ACS", "product")):
        found[f"{key} {extra}"] = (report.metrics[key].model_extra or {})[extra]
    assert found == pytest.approx(expected, abs=1e-5)
