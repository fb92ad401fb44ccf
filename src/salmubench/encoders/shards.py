"""The training pairs as webdataset shards: those of a data set folder, or foreign retain shards by URL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from salmubench.atomic import replacing
from salmubench.dataset.retain import PER_SHARD, CaptionedPicture, shard_sizes, write_shards
from salmubench.dataset.store import load_split
from salmubench.dataset.urls import count_pairs, expand_urls
from salmubench.errors import UserError

Which = Literal["clean", "compromised"]


@dataclass(frozen=True)
class Shards:
    """The training pairs as webdataset shards, with their counts.

    Attributes:
        retain: URLs of the retain shards.
        retain_pairs: pairs in them.
        sensitive: URL of a sensitive shard -> its pairs.
        foreign: whether retain shards are among them that we have not built.
    """

    retain: list[str]
    retain_pairs: int
    sensitive: dict[str, int]
    foreign: bool = False

    @property
    def sensitive_pairs(self) -> int:
        """Pairs of the sensitive shards."""
        return sum(self.sensitive.values())


def training_shards(
    which: Which,
    data: Path,
    work: Path,
    *,
    retain: Sequence[str] = (),
    retain_pairs: int | None = None,
    sensitive_shards: int = 1,
) -> Shards:
    """The retain shards of ``data`` and, as shards in ``work``, the parquet splits that this model trains on.

    Args:
        which: the model.
        data: a data set folder.
        work: where shards are made.
        retain: shards in the place of ``data``'s own retain_real.
        retain_pairs: pairs in them; None where ``sizes.json`` beside them tells.
        sensitive_shards: so many at least, where there are as many pairs.

    Raises:
        UserError: shards are missing, or nothing says how many pairs they hold.
    """
    if retain:
        real = expand_urls(retain)
        pairs = count_pairs(real) if retain_pairs is None else retain_pairs
    else:
        real = sorted(map(str, (data / "retain_real").glob("*.tar")))
        if not real:
            raise UserError(f"{data / 'retain_real'}: holds no .tar shards; build the data set first")
        pairs = sum(shard_sizes(data / "retain_real").values())
    synthetic = _as_shards(data / "salmu", "retain_synth", work, 1)
    sensitive = _as_shards(data / "salmu", "sensitive", work, sensitive_shards) if which == "compromised" else {}
    return Shards([*real, *synthetic], pairs + sum(synthetic.values()), sensitive, foreign=bool(retain))


def _as_shards(folder: Path, split: str, work: Path, least: int) -> dict[str, int]:
    pairs, pictures = load_split(folder, split)
    target = work / split
    if not len(pairs):
        return {}
    if target.is_dir() and len(shard_sizes(target)) < min(least, len(pairs)):
        shutil.rmtree(target)  # made for fewer processes
    if not target.is_dir():

        def captioned() -> Iterator[CaptionedPicture]:
            for row, image in enumerate(pictures.stream(pairs.picture)):
                name, _, extension = pairs.file_name[row].rpartition(".")
                yield CaptionedPicture(name.replace(".", "-"), image, pairs.text[row], extension)

        with replacing(target) as temporary:
            size = max(1, min(PER_SHARD, len(pairs) // least))
            write_shards(temporary, captioned(), pairs_per_shard=size)
    return {str(target / name): count for name, count in sorted(shard_sizes(target).items())}
