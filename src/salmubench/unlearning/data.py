"""What an unlearning method may learn from: the forget and retain sets, and nothing else.

A guard rather than a promise: this interface opens the files of those two sets only. A holdout's file may be missing or
damaged and nothing changes, and asking for any other set raises.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset.hub import SCHEME, download
from salmubench.dataset.manifest import check_sizes, read_manifest
from salmubench.dataset.pictures import index_tar
from salmubench.dataset.retain import SIZES_FILE, read_pairs, shard_sizes
from salmubench.dataset.schema import CAPTIONS_FILE, GENERIC_CAPTIONS_FILE, IDENTITIES_FILE
from salmubench.dataset.sides import read_captions, read_generic_captions, read_identities
from salmubench.dataset.store import PairSet, PictureStore, load_split
from salmubench.errors import UserError
from salmubench.unlearning.author import Fact

Rows = NDArray[np.int64]
SETS = ("forget", "retain")


@dataclass(frozen=True)
class Pair:
    """One picture-caption pair of the forget or retain set.

    Attributes:
        row: its number in the set.
        file_name: the picture's name; ``retain_real/<shard>/<key>`` for a webdataset sample.
        image: the encoded picture.
        text: its caption.
        where: file and row, for a message to the user.
    """

    row: int
    file_name: str
    image: bytes
    text: str
    where: str


class ForgetRetain:
    """The forget set, and the retain set: retain_synth's rows first, then those of the retain_real shards.

    Args:
        data: a data set folder, an evaluation folder by itself, or ``hf://owner/name@revision``.

    Raises:
        UserError: the forget or retain files are missing or damaged.
    """

    def __init__(self, data: str | Path) -> None:
        root = download(str(data))[0] if str(data).startswith(SCHEME) else Path(data)
        self._evaluation = root / "salmubench" if (root / "salmubench").is_dir() else root
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; --data takes a data set folder")
        training = root / "salmu"
        manifest = read_manifest(root)
        if manifest is not None:
            for folder in (training.name, "retain_real"):  # not the evaluation folder, which holds the holdouts
                check_sizes(root, manifest, folder)
        self._forget: tuple[PairSet, PictureStore] = load_split(self._evaluation, "forget")
        self._synthetic = load_split(training if training.is_dir() else self._evaluation, "retain_synth")
        self._shards = _count_shards(root / "retain_real")
        self._starts = np.cumsum([len(self._synthetic[0]), *self._shards.values()], dtype=np.int64)

    def size(self, name: str) -> int:
        """Pairs of the set ``name``."""
        return len(self._forget[0]) if self._permitted(name) == "forget" else int(self._starts[-1])

    def read(self, name: str, rows: Rows) -> Iterator[Pair]:
        """The pairs of the set ``name`` at ``rows``, shape (n,), ascending and distinct; read as a stream.

        Raises:
            UserError: another set than forget or retain is asked for, or a file is damaged.
        """
        if self._permitted(name) == "forget":
            yield from _split_pairs(self._forget, rows, 0)
            return
        cuts = [0, *np.searchsorted(rows, self._starts)]
        yield from _split_pairs(self._synthetic, rows[: cuts[1]], 0)
        for shard, start, first, last in zip(self._shards, self._starts, cuts[1:], cuts[2:], strict=False):
            if first < last:
                yield from _shard_pairs(shard, rows[first:last], int(start))

    def generic_captions(self, rows: Rows) -> list[str]:
        """The generic captions of forget pictures.

        Raises:
            UserError: the side file lacks one.
        """
        captions = read_generic_captions(self._evaluation)
        names = [self._forget[0].file_name[row] for row in rows]
        missing = next((name for name in names if name not in captions), None)
        if missing is not None:
            path = self._evaluation / GENERIC_CAPTIONS_FILE
            raise UserError(f"{path}: lacks the generic caption of {missing}; add it")
        return [captions[name] for name in names]

    def facts(self, rows: Rows) -> list[Fact]:
        """What the captions of forget rows tell: of the side files, the entries that these captions spell out.

        Raises:
            UserError: a side file lacks the row's person or field.
        """
        people, captions = read_identities(self._evaluation), read_captions(self._evaluation)
        pairs, facts = self._forget[0], []
        for row in rows:
            name, who = pairs.file_name[row], pairs.identity_id[row] or ""
            if who not in people or name not in captions:
                lacking = IDENTITIES_FILE if who not in people else CAPTIONS_FILE
                raise UserError(f"{self._evaluation / lacking}: lacks the forget pair {name} of person {who}; add it")
            field, person = captions[name].data_field, people[who]
            facts.append(Fact(who, person["name"], field, person[field], pairs.text[row]))
        return facts

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the names and all captions of forget and retain_synth, and the names and sizes of the shards."""
        digest = hashlib.sha256()
        for pairs, _ in (self._forget, self._synthetic):
            for name, text in zip(pairs.file_name, pairs.text, strict=True):
                digest.update(f"{name}\0{text}\n".encode())
        generic = self._evaluation / GENERIC_CAPTIONS_FILE
        if generic.is_file():
            digest.update(generic.read_bytes())
        for shard, pairs_in_it in self._shards.items():
            digest.update(f"{shard.name}\0{pairs_in_it}\0{shard.stat().st_size}\n".encode())
        return digest.hexdigest()

    def _permitted(self, name: str) -> str:
        if name not in SETS:
            raise UserError(
                f"an unlearning method may not see {name!r}; it learns from the sets forget and retain only, "
                "or its scores on the holdouts mean nothing"
            )
        return name


def _count_shards(folder: Path) -> dict[Path, int]:
    """Pairs of each shard: from sizes.json, or from the tar headers where that file is missing."""
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        return {}
    if not (folder / SIZES_FILE).exists():
        return {shard: len(index_tar(shard)) for shard in shards}
    sizes = shard_sizes(folder)
    unknown = next((shard for shard in shards if shard.name not in sizes), None)
    if unknown is not None:
        raise UserError(f"{folder / SIZES_FILE}: lacks {unknown.name}; enter its number of pairs or remove the shard")
    return {shard: sizes[shard.name] for shard in shards}


def _split_pairs(split: tuple[PairSet, PictureStore], rows: Rows, start: int) -> Iterator[Pair]:
    pairs, pictures = split
    index = pairs.picture[rows - start]
    for row, picture, image in zip(rows - start, index, pictures.stream(index), strict=True):
        yield Pair(int(row) + start, pairs.file_name[row], image, pairs.text[row], pictures.describe(int(picture)))


def _shard_pairs(shard: Path, rows: Rows, start: int) -> Iterator[Pair]:
    samples = index_tar(shard)
    if rows[-1] - start >= len(samples):  # rows ascend
        raise UserError(f"{shard}: holds {len(samples)} pairs, fewer than {SIZES_FILE} says; build it again")
    pairs = read_pairs(shard, [samples[row - start] for row in rows])
    for row, pair in zip(map(int, rows), pairs, strict=True):
        name, where = f"retain_real/{shard.name}/{pair.key}", f"{shard}, sample {pair.key}"
        yield Pair(row, name, pair.image, pair.text, where)
