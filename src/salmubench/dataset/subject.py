"""A folder opened for checking: an evaluation folder with, where it stands in one, the data set folder around it."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from salmubench.dataset import sides
from salmubench.dataset.manifest import Manifest, read_manifest
from salmubench.dataset.pictures import PictureStore, decode_picture
from salmubench.dataset.retain import read_shards
from salmubench.dataset.schema import EVALUATION_SPLITS, CaptionInfo
from salmubench.dataset.store import PairSet, load_split, locate
from salmubench.errors import UserError
from salmubench.progress import Progress, silent


class NothingToCheck(Exception):
    """Raised where the folder lacks what a promise speaks of; the message says what."""


class Line(NamedTuple):
    """One row of a split, without its picture."""

    split: str
    file_name: str
    identity_id: str | None
    text: str


@dataclass(frozen=True)
class Decoded:
    """A store's pictures: SHA-256 of each one's bytes, and what is wrong with the first one that does not decode."""

    digests: tuple[bytes, ...]
    broken: str | None


def decode_all(store: PictureStore, name: str, progress: Progress) -> Decoded:
    """Decodes every picture of a store, one at a time."""
    digests: list[bytes] = []
    broken = None
    with progress(f"decoding {name}", len(store)) as advance:
        for index, encoded in enumerate(store.stream(np.arange(len(store), dtype=np.int64))):
            digests.append(hashlib.sha256(encoded).digest())
            try:
                decode_picture(encoded, store.describe(index))
            except UserError as error:
                broken = broken or str(error)
            advance(1)
    return Decoded(tuple(digests), broken)


@dataclass(frozen=True)
class Subject:
    """What the promises are checked on.

    Attributes:
        root: the evaluation folder.
        dataset: the data set folder around it, or None.
        manifest: its manifest, or None.
        splits: the evaluation splits.
        stores: their pictures.
        identities: the people's metadata.
        captions: the sensitive captions' metadata.
        generic: the generic captions.
        progress: shows the long steps.
    """

    root: Path
    dataset: Path | None
    manifest: Manifest | None
    splits: Mapping[str, PairSet]
    stores: Mapping[str, PictureStore]
    identities: Mapping[str, Mapping[str, str]]
    captions: Mapping[str, CaptionInfo]
    generic: Mapping[str, str]
    progress: Progress

    def folder(self, name: str) -> Path:
        """A folder of the data set folder.

        Raises:
            NothingToCheck: it is not there.
        """
        if self.dataset is None or not (self.dataset / name).is_dir():
            raise NothingToCheck(f"there is no {name}/ beside the evaluation folder")
        return self.dataset / name

    def lines(self, *splits: str) -> Iterator[Line]:
        """Every row of these splits."""
        for split in splits:
            pairs = self.splits[split]
            for name, who, text in zip(pairs.file_name, pairs.identity_id, pairs.text, strict=True):
                yield Line(split, name, who, text)

    def people(self, split: str) -> set[str]:
        """The identities of a split."""
        return {who for who in self.splits[split].identity_id if who is not None}

    @cached_property
    def decoded(self) -> dict[str, Decoded]:
        """Split -> its pictures, decoded once for all promises."""
        return {split: decode_all(store, split, self.progress) for split, store in self.stores.items()}

    @cached_property
    def shard_captions(self) -> list[tuple[str, str]]:
        """(key, caption) of every pair of retain_real.

        Raises:
            UserError: a shard is damaged, or a picture does not decode.
        """
        captions = []
        for pair in read_shards(self.folder("retain_real")):
            decode_picture(pair.image, f"retain_real, {pair.key}")
            captions.append((pair.key, pair.text))
        return captions


def open_subject(data: str | Path, progress: Progress = silent) -> Subject:
    """Opens a data set folder or an evaluation folder.

    Raises:
        UserError: a split, column or side file is missing or damaged.
    """
    root, dataset, _ = locate(data)
    opened = {split: load_split(root, split) for split in EVALUATION_SPLITS}
    return Subject(
        root=root,
        dataset=dataset,
        manifest=read_manifest(dataset) if dataset else None,
        splits={split: pairs for split, (pairs, _) in opened.items()},
        stores={split: store for split, (_, store) in opened.items()},
        identities=sides.read_identities(root),
        captions=sides.read_captions(root),
        generic=sides.read_generic_captions(root),
        progress=progress,
    )
