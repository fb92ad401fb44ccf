"""The training pairs as webdataset shards: those of a data set folder, or foreign retain shards by URL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from braceexpand import braceexpand

from salmubench.atomic import replacing
from salmubench.dataset.retain import PER_SHARD, SIZES_FILE, CaptionedPicture, shard_sizes, write_shards
from salmubench.dataset.store import load_split
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


def expand_urls(patterns: Sequence[str]) -> list[str]:
    """The shards that webdataset patterns name, in order.

    Args:
        patterns: each a folder of tars, a list of patterns (``.txt``, one a line), or URLs as webdataset opens them
            (a path, ``http://...``, ``pipe:command``), with ``{000..123}`` spread and ``::`` between several.

    Raises:
        UserError: a pattern is broken, a folder or list is missing or empty.
    """
    urls: list[str] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            urls += sorted(map(str, path.glob("*.tar")))
        elif path.suffix == ".txt":
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError):
                raise UserError(f"--retain {pattern}: no such list of URLs; check the path") from None
            urls += expand_urls([line for line in map(str.strip, lines) if line and not line.startswith("#")])
        else:
            try:
                urls += [url for part in pattern.split("::") for url in braceexpand(part)]
            except ValueError:
                raise UserError(f"--retain {pattern}: its braces do not close; write {{0000..0123}}") from None
    if not urls:
        raise UserError(f"--retain {' '.join(patterns)}: names no shard; pass URLs of .tar files or their folder")
    if missing := next((url for url in urls if _is_local(url) and not Path(url).is_file()), None):
        raise UserError(f"--retain: there is no shard {missing}; check the path")
    return urls


def _is_local(url: str) -> bool:
    return ":" not in url.split("/", 1)[0]


def count_pairs(urls: Sequence[str]) -> int:
    """The pairs of local shards, from the ``sizes.json`` beside each.

    Raises:
        UserError: it is missing, or lacks a shard.
    """
    sizes: dict[Path, dict[str, int]] = {}
    for url in urls:
        folder = Path(url).parent
        if not _is_local(url) or not (folder / SIZES_FILE).is_file():
            raise UserError(f"--retain {url}: no {SIZES_FILE} beside it tells its pairs; pass --retain-pairs")
        sizes.setdefault(folder, shard_sizes(folder))
        if Path(url).name not in sizes[folder]:
            raise UserError(f"--retain {url}: {folder / SIZES_FILE} does not name it; pass --retain-pairs")
    return sum(sizes[Path(url).parent][Path(url).name] for url in urls)
