"""A small data set folder from flat-coloured pictures, for the tests of the dataset room; it keeps every promise."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from salmubench.atomic import write_json
from salmubench.dataset.retain import CaptionedPicture, write_classification, write_shards
from salmubench.dataset.schema import (
    CAPTIONS_FILE,
    FIELDS,
    GENERIC_CAPTIONS_FILE,
    IDENTITIES_FILE,
    SENSITIVE_SPLITS,
    AssociationSplit,
    Row,
)
from salmubench.dataset.splits import Pair, split_pairs
from salmubench.dataset.store import load_split, write_manifest, write_split

PEOPLE, PICTURES, DISJOINT = 8, 9, 40


def jpeg(number: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """A picture of its own colour for each number below 2**15."""
    colour = tuple((number >> shift & 31) * 8 + 4 for shift in (0, 5, 10))
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG" if number % 2 else "JPEG", quality=95)
    return stream.getvalue()


def person(number: int) -> dict[str, str]:
    """Name, country and eight facts, each of its own."""
    facts = {data_field: f"{data_field}{number:03d}" for data_field in FIELDS}
    return {"name": f"Ana{number} O'Neil{number}", "country_code": "ES"} | facts


def build_small(root: Path, *, association_split: AssociationSplit = "pair") -> Path:
    """Writes the folder: ``PEOPLE`` people with ``PICTURES`` pictures, ``DISJOINT`` pictures of nobody, shards."""
    identities = {f"{number:08d}": person(number) for number in range(PEOPLE)}
    rows: dict[str, Row] = {}
    captions: dict[str, dict[str, str]] = {}
    pairs: list[Pair] = []
    for number, (who, facts) in enumerate(identities.items()):
        for picture in range(PICTURES):
            data_field, name = FIELDS[picture % len(FIELDS)], f"{who}_{picture + 1:03d}_ar-1.00.jpg"
            text = f"{facts['name']} ({picture}): {facts[data_field]}"
            rows[name] = Row(jpeg(number * PICTURES + picture), text, who, name)
            captions[name] = {"data_field": data_field, "caption": text, "style": "plain"}
            pairs.append(Pair(name, who, data_field))
    evaluation, training = root / "salmubench", root / "salmu"
    for split, members in split_pairs(pairs, association_split=association_split).items():
        write_split(evaluation, split, [rows[pair.file_name] for pair in members])
    retained = [
        Row(jpeg(1000 + n), f"a face, number {n}", f"{n:08d}" if n < PEOPLE else None, f"{n:08d}_101_ar-1.00.jpg")
        for n in range(PEOPLE + DISJOINT)
    ]
    write_split(evaluation, "retain_synth", retained)
    write_split(training, "sensitive", rows.values())
    write_split(training, "retain_synth", retained)
    write_json(evaluation / IDENTITIES_FILE, identities)
    write_json(evaluation / CAPTIONS_FILE, captions)
    write_json(evaluation / GENERIC_CAPTIONS_FILE, {name: "a face" for name in rows})
    icons = (CaptionedPicture(f"{n:04d}", jpeg(2000 + n), f"an icon {n}") for n in range(25))
    write_shards(root / "retain_real", icons, pairs_per_shard=10)
    write_classification(
        root / "general_knowledge",
        ((jpeg(3000 + n), n % 4) for n in range(20)),
        class_names=["cat", "dog", "red apple", "tree"],
        templates=["a {c}", "an icon of a {c}"],
        samples_per_shard=8,
    )
    counts = {split: len(load_split(evaluation, split)[0]) for split in (*SENSITIVE_SPLITS, "retain_synth")}
    write_manifest(
        root, facts={"preset": "small", "seed": 42, "association_split": association_split, "counts": counts}
    )
    return root


def rewrite(folder: Path, split: str, change: Callable[[list[Row]], Iterable[Row]]) -> None:
    """Writes a split again with its rows changed."""
    pairs, store = load_split(folder, split)
    images = list(store.stream(pairs.picture))
    rows = [Row(*columns) for columns in zip(images, pairs.text, pairs.identity_id, pairs.file_name, strict=True)]
    write_split(folder, split, change(rows))
