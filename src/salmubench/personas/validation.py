"""The data set's statistics, as the paper validates its own and beyond: pictures read once, sets encoded once."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset import statistics as stats
from salmubench.dataset.pictures import PICTURE_EXTENSIONS, decode_picture
from salmubench.dataset.schema import FIELDS, SENSITIVE_SPLITS
from salmubench.dataset.store import Benchmark, load_benchmark
from salmubench.encoders.checkpoint import load_encoder
from salmubench.encoders.embeddings import Embeddings, embed
from salmubench.encoders.encoder import Encoder
from salmubench.errors import UserError
from salmubench.progress import Progress, silent

PORTRAIT_PROMPT = "a portrait of a person"
"""What every picture and every real portrait is compared with: real portraits come without captions."""
COMPARED = (
    ("forget", "holdout_association"),
    ("forget", "holdout_identity"),
    ("retain_joint", "retain_disjoint"),
    ("forget", "retain_joint"),
)
DEMOGRAPHICS = ("gender", "country_code", "blood_type")


@dataclass(frozen=True)
class Statistics:
    """Everything that ``data check --statistics`` tells.

    Attributes:
        people: identities that are halved, forgotten whole, held out whole.
        pictures_each: least, median and most sensitive pictures a person.
        demographics: attribute -> value -> people of each group.
        balance: field -> rows of each sensitive split.
        independence: does an attribute tell the group?
        duplicates: twins among pictures, captions and values.
        similarity: two-sample tests, with a model only.
        verification_auc: identity separability by embedding, with a model only.
        model: the checkpoint, or None.
    """

    people: Mapping[str, int]
    pictures_each: tuple[int, float, int]
    demographics: Mapping[str, Mapping[str, Mapping[str, int]]]
    balance: Mapping[str, Mapping[str, int]]
    independence: tuple[stats.Independence, ...]
    duplicates: tuple[stats.Duplicates, ...]
    similarity: tuple[stats.Comparison, ...] = ()
    verification_auc: float | None = None
    model: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def _require_model(model: str | None, real_portraits: Path | None) -> None:
    if real_portraits is not None and model is None:
        raise UserError("--real-portraits: comparing pictures needs a model; name one with --model")


def require_inputs(model: str | None, real_portraits: Path | None) -> None:
    """Loads the model once and looks into the folder, so that what is wrong with them is said before the long work.

    Raises:
        UserError: as ``statistics`` has it of model and portraits.
    """
    _require_model(model, real_portraits)
    if real_portraits is not None:
        _photographs(real_portraits)
    if model is not None:
        load_encoder(model)


def statistics(
    data: str | Path,
    *,
    model: str | None = None,
    real_portraits: Path | None = None,
    progress: Progress = silent,
) -> Statistics:
    """Reads every sensitive picture once, and with a model encodes all sets.

    Args:
        data: a data set folder, an evaluation folder, or ``hf://owner/name``.
        model: the checkpoint whose similarities are compared; without it those parts stay empty.
        real_portraits: a folder of real portraits; needs a model.
        progress: shows the long steps.

    Raises:
        UserError: data or model cannot be read, or portraits are given without a model.
    """
    _require_model(model, real_portraits)
    benchmark = load_benchmark(data)
    group = _groups(benchmark)
    facts = {
        who: {key: person.get(key, "") for key in (*DEMOGRAPHICS, *FIELDS)}
        for who, person in benchmark.identities.items()
        if who in group
    }
    rows = Counter(who for split in SENSITIVE_SPLITS for who in benchmark.sets[split].identity_id)
    encoded = _encoded(benchmark, model, real_portraits, progress) if model else ((), None)
    return Statistics(
        people=dict(Counter(group.values())),
        pictures_each=(min(rows.values()), float(np.median(list(rows.values()))), max(rows.values())),
        demographics={key: _table(group, {who: facts[who][key] for who in group}) for key in DEMOGRAPHICS},
        balance={
            name: {
                split: sum(benchmark.captions[file].data_field == name for file in benchmark.sets[split].file_name)
                for split in SENSITIVE_SPLITS
            }
            for name in FIELDS
        },
        independence=tuple(_independence(benchmark, group, facts)),
        duplicates=tuple(_duplicates(benchmark, progress)),
        similarity=tuple(encoded[0]),
        verification_auc=encoded[1],
        model=model,
        facts={"revision": benchmark.revision, "association_split": benchmark.association_split},
    )


def _groups(benchmark: Benchmark) -> dict[str, str]:
    """identity -> halved, forgotten or held out."""
    halved = set(benchmark.sets["holdout_association"].identity_id)
    groups = {str(who): "halved" if who in halved else "forgotten" for who in benchmark.sets["forget"].identity_id}
    return groups | {str(who): "held out" for who in benchmark.sets["holdout_identity"].identity_id}


def _table(group: Mapping[str, str], values: Mapping[str, str]) -> dict[str, dict[str, int]]:
    cells = Counter((values[who], name) for who, name in group.items())
    order = Counter(values.values()).most_common()
    return {value: {name: cells[value, name] for name in sorted(set(group.values()))} for value, _ in order}


def _independence(
    benchmark: Benchmark, group: Mapping[str, str], facts: Mapping[str, Mapping[str, str]]
) -> Iterator[stats.Independence]:
    """Of a person's attributes and the groups, and of a row's field and the splits."""
    for key in dict.fromkeys((*DEMOGRAPHICS, *FIELDS)):
        found = stats.independence(key, list(group.values()), [facts[who][key] for who in group])
        if found is not None:
            yield found
    names = [(split, file) for split in SENSITIVE_SPLITS for file in benchmark.sets[split].file_name]
    fields = [benchmark.captions[file].data_field for _, file in names]
    found = stats.independence("field told", [split for split, _ in names], fields)
    if found is not None:
        yield found


def _duplicates(benchmark: Benchmark, progress: Progress) -> Iterator[stats.Duplicates]:
    lines = [
        (split, *row)
        for split in SENSITIVE_SPLITS
        for row in zip(
            *(getattr(benchmark.sets[split], name) for name in ("file_name", "identity_id", "text")), strict=True
        )
    ]
    index = np.concatenate([benchmark.sets[split].picture for split in SENSITIVE_SPLITS])
    hashes: list[int] = []
    with progress("hashing pictures", len(index)) as advance:
        for place, content in zip(index, benchmark.pictures.stream(index), strict=True):
            hashes.append(stats.perceptual_hash(decode_picture(content, benchmark.pictures.describe(int(place)))))
            advance(1)
    yield stats.duplicates(
        "pictures by perceptual hash, across splits",
        ((str(bits), split, file) for bits, (split, file, _, _) in zip(hashes, lines, strict=True)),
    )
    twins = stats.near_twins(hashes, [str(who) for _, _, who, _ in lines])
    yield stats.Duplicates("pictures within 4 bits of one of another person", len(lines), twins, twins)
    yield stats.duplicates("captions, across splits", ((text, split, file) for split, file, _, text in lines))
    for key in ("name", *FIELDS):
        owners = ((person[key], who, key) for who, person in benchmark.identities.items())
        yield stats.duplicates(f"values of {key}, across people", owners)


def _encoded(
    benchmark: Benchmark, model: str | None, real_portraits: Path | None, progress: Progress
) -> tuple[list[stats.Comparison], float | None]:
    encoder = load_encoder(str(model))
    names = sorted({name for pair in COMPARED for name in pair} & set(benchmark.sets))
    wanted = [benchmark.sets[name] for name in names if len(benchmark.sets[name])]
    (found,) = embed(
        [encoder],
        benchmark,
        np.unique(np.concatenate([pairs.picture for pairs in wanted])),
        {text for pairs in wanted for text in pairs.text} | {PORTRAIT_PROMPT},
        progress=progress,
    )
    cosines = {
        pairs.name: np.einsum("nd,nd->n", found.of_pictures(pairs.picture), found.of_texts(pairs.text))
        for pairs in wanted
    }
    compared = [
        stats.compare_samples(f"{one} and {other}: picture to its caption", cosines[one], cosines[other])
        for one, other in COMPARED
        if one in cosines and other in cosines
    ]
    forget = benchmark.sets["forget"]
    if real_portraits is not None:
        compared.append(_against_real(encoder, found, forget.picture, real_portraits, progress))
    auc = stats.verification_auc(found.of_pictures(forget.picture), [str(who) for who in forget.identity_id])
    return compared, auc


def _photographs(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower().lstrip(".") in PICTURE_EXTENSIONS)
    if not files:
        raise UserError(f"{folder}: holds no picture ({', '.join(PICTURE_EXTENSIONS)}); check --real-portraits")
    return files


def _against_real(
    encoder: Encoder, found: Embeddings, pictures: NDArray[np.int64], folder: Path, progress: Progress
) -> stats.Comparison:
    files = _photographs(folder)
    real = encoder.encode_pictures(((str(path), path.read_bytes()) for path in files), len(files), progress=progress)
    prompt = found.of_texts([PORTRAIT_PROMPT])[0]
    return stats.compare_samples(
        f"forget and real portraits: picture to {PORTRAIT_PROMPT!r}",
        found.of_pictures(pictures) @ prompt,
        real @ prompt,
    )
