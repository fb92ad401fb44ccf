"""Reads and writes the official layout: parquet splits with their side files, from a folder or from the hub."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from salmubench.dataset import sides
from salmubench.dataset.hub import SCHEME, download
from salmubench.dataset.manifest import check_sizes, content_revision, read_manifest, write_manifest
from salmubench.dataset.pictures import (
    ParquetPictures,
    PictureSource,
    PictureStore,
    is_text,
    open_parquet,
    read_columns,
)
from salmubench.dataset.retain import GeneralKnowledge, read_classification
from salmubench.dataset.schema import (
    CAPTIONS_FILE,
    EVALUATION_SPLITS,
    FRAGILE_IDS_FILE,
    IDENTITIES_FILE,
    SENSITIVE_SPLITS,
    CaptionInfo,
)
from salmubench.dataset.seal import require_open
from salmubench.dataset.write import SCHEMA, write_split
from salmubench.errors import UserError

__all__ = [
    "SCHEMA",
    "Benchmark",
    "GeneralKnowledge",
    "PairSet",
    "PictureStore",
    "load_benchmark",
    "load_split",
    "write_manifest",
    "write_split",
]

IDENTITY_DIGITS = 8
"""An identity is written with so many digits."""


@dataclass(frozen=True)
class PairSet:
    """A named set of picture-caption pairs.

    Attributes:
        name: e.g. ``"forget"``.
        picture: running number of each pair's picture in the store, shape (n,).
        text: the captions.
        identity_id: the person shown, or None.
        file_name: the pictures' names.
    """

    name: str
    picture: NDArray[np.int64]
    text: tuple[str, ...]
    identity_id: tuple[str | None, ...]
    file_name: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.text)

    def subset(self, name: str, keep: Iterable[bool]) -> "PairSet":
        """The pairs where ``keep`` holds, in the same order."""
        return self.take(name, [row for row, kept in enumerate(keep) if kept])

    def take(self, name: str, rows: Sequence[int]) -> "PairSet":
        """The pairs at ``rows``, in that order."""
        return PairSet(
            name,
            self.picture[rows],
            tuple(self.text[row] for row in rows),
            tuple(self.identity_id[row] for row in rows),
            tuple(self.file_name[row] for row in rows),
        )


@dataclass(frozen=True)
class Benchmark:
    """A data set as the metrics see it.

    Attributes:
        root: the evaluation folder.
        revision: ``sha256:<manifest hash>``, ``hf://owner/name@<commit>``, or a hash over the folder's content.
        association_split: how the halves were cut, ``"pair"`` or ``"field"``; None where nothing says so.
        pictures: every picture, those of general knowledge last.
        sets: the four splits; forget_association, forget_identity, retain_joint, retain_joint_evaluated and
            retain_disjoint; fragile_set where its side file is there.
        identities: identity id -> name, country_code and the eight fields.
        captions: file name of a sensitive picture -> field, caption, style.
        generic_captions: file name of a sensitive picture -> its generic caption.
        general_knowledge: the zero-shot set, or None.
    """

    root: Path
    revision: str
    association_split: str | None
    pictures: PictureStore
    sets: Mapping[str, PairSet]
    identities: Mapping[str, Mapping[str, str]]
    captions: Mapping[str, CaptionInfo]
    generic_captions: Mapping[str, str]
    general_knowledge: GeneralKnowledge | None


def split_files(folder: Path, split: str) -> list[Path]:
    """The parquet files of a split, ``data/<split>.parquet`` or ``data/<split>-*.parquet``, in order.

    Raises:
        UserError: there is none, or one of ``...-of-0000N`` is missing.
    """
    paths = sorted([*(folder / "data").glob(f"{split}.parquet"), *(folder / "data").glob(f"{split}-*.parquet")])
    if not paths:
        raise UserError(
            f"{folder / 'data'}: the split {split!r} is missing ({split}-*.parquet); check the path or download it"
        )
    numbered = [re.fullmatch(rf"{split}-(\d+)-of-(\d+)(?:-[0-9a-f]+)?", path.stem) for path in paths]
    totals = {match[2] for match in numbered if match}
    if len(totals) > 1 or (totals and len(paths) != int(next(iter(totals)))):
        raise UserError(
            f"{folder / 'data'}: holds {len(paths)} files of the split {split!r} where their names say "
            f"{' and '.join(sorted(totals))} ({paths[0].name}); build or download it again"
        )
    return paths


def _column(path: Path, table: Any, name: str) -> list[str | None]:
    column = table.column(name)
    text = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (is_text(text) or pa.types.is_null(text)):
        raise UserError(f"{path}: the column {name!r} holds {column.type}, not text; convert it to string")
    values: list[str | None] = column.to_pylist()
    return values


def _identities(path: Path, table: Any) -> list[str | None]:
    """The people shown. Tools that re-export a table turn ``00011747`` into 11747, or 11747.0 beside nulls."""
    kind = table.column("identity_id").type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return _column(path, table, "identity_id")
    found: list[str | None] = []
    for row, value in enumerate(table.column("identity_id").to_pylist()):
        if value is None or value != value:  # pandas writes NaN for null
            found.append(None)
        elif value >= 0 and value == int(value):
            found.append(f"{int(value):0{IDENTITY_DIGITS}d}")
        else:
            raise UserError(f"{path}, row {row}: the identity_id {value} is no identity; export the column as string")
    return found


def _full_column(path: Path, table: Any, name: str) -> tuple[str, ...]:
    values: list[str] = []
    for row, value in enumerate(_column(path, table, name)):
        if value is None:
            raise UserError(f"{path}, row {row}: {name!r} is null; fill it in or drop the row")
        values.append(value)
    return tuple(values)


def _read_pairs(path: Path, split: str) -> PairSet:
    present = set(open_parquet(path).schema_arrow.names)
    for name in ("image", "text", "file_name"):
        if name not in present:
            raise UserError(f"{path}: the column {name!r} is missing; it needs image, text, identity_id and file_name")
    table = read_columns(path, [name for name in ("text", "identity_id", "file_name") if name in present])
    identity = _identities(path, table) if "identity_id" in present else [None] * table.num_rows
    return PairSet(
        split,
        np.arange(table.num_rows, dtype=np.int64),
        _full_column(path, table, "text"),
        tuple(identity),
        _full_column(path, table, "file_name"),
    )


def _refuse_repeats(split: str, paths: Sequence[Path], parts: Sequence[PairSet]) -> None:
    seen: set[str] = set()
    for path, part in zip(paths, parts, strict=True):
        for row, name in enumerate(part.file_name):
            if name in seen:
                raise UserError(
                    f"{path}, row {row}: {name} stands in the split {split!r} already; drop one of the rows"
                )
            seen.add(name)


def _read_split(folder: Path, split: str, first: int) -> tuple[PairSet, list[PictureSource]]:
    """A split whose pictures are numbered from ``first``."""
    require_open(f"{folder}, split {split!r}")
    paths = split_files(folder, split)
    parts = [_read_pairs(path, split) for path in paths]
    sources: list[PictureSource] = [ParquetPictures(path, folder) for path in paths]
    count = sum(map(len, parts))
    _refuse_repeats(split, paths, parts)
    pairs = PairSet(
        split,
        np.arange(first, first + count, dtype=np.int64),
        tuple(text for part in parts for text in part.text),
        tuple(identity for part in parts for identity in part.identity_id),
        tuple(name for part in parts for name in part.file_name),
    )
    return pairs, sources


def load_split(folder: Path, split: str) -> tuple[PairSet, PictureStore]:
    """One split of an evaluation or training folder; no other split's file is opened.

    Raises:
        UserError: a file or column is missing, a file is damaged, a caption is null.
    """
    pairs, sources = _read_split(folder, split, 0)
    return pairs, PictureStore(sources)


def derive_sets(splits: Mapping[str, PairSet]) -> dict[str, PairSet]:
    """The sets that follow from the four splits (benchmark.md, section 2)."""
    forget, retain = splits["forget"], splits["retain_synth"]
    halved = set(splits["holdout_association"].identity_id)
    forgotten = set(forget.identity_id) - {None}
    return {
        "forget_association": forget.subset("forget_association", (who in halved for who in forget.identity_id)),
        "forget_identity": forget.subset("forget_identity", (who not in halved for who in forget.identity_id)),
        "retain_joint": retain.subset("retain_joint", (who is not None for who in retain.identity_id)),
        "retain_joint_evaluated": retain.subset(
            "retain_joint_evaluated", (who in forgotten for who in retain.identity_id)
        ),
        "retain_disjoint": retain.subset("retain_disjoint", (who is None for who in retain.identity_id)),
    }


def fragile_set(folder: Path, retain_disjoint: PairSet) -> PairSet | None:
    """The fragile set in the order of its rows, or None where the folder has no list of it.

    Raises:
        UserError: the list names a picture that is not in retain_disjoint.
    """
    names = sides.read_fragile_ids(folder)
    if names is None:
        return None
    unknown = set(names) - set(retain_disjoint.file_name)
    if unknown:
        raise UserError(
            f"{folder / FRAGILE_IDS_FILE}: {min(unknown)} is no picture of retain_disjoint; score the set again"
        )
    wanted = set(names)
    return retain_disjoint.subset("fragile_set", (name in wanted for name in retain_disjoint.file_name))


def _agree(
    root: Path, splits: Mapping[str, PairSet], identities: Mapping[str, Any], captions: Mapping[str, CaptionInfo]
) -> None:
    """Every sensitive row has a person with metadata and an entry among the captions."""
    for split in SENSITIVE_SPLITS:
        for identity, name in zip(splits[split].identity_id, splits[split].file_name, strict=True):
            if identity is None:
                raise UserError(f"{root}/data, {split}, {name}: has no identity_id; every sensitive row needs one")
            if identity not in identities:
                raise UserError(f"{root / IDENTITIES_FILE}: lacks the identity {identity!r} of {split}, {name}; add it")
            if name not in captions:
                raise UserError(f"{root / CAPTIONS_FILE}: lacks {name} of {split}; add it")


def locate(data: str | Path) -> tuple[Path, Path | None, str | None]:
    """The evaluation folder, the data set folder around it (or None), and the revision where the hub names it."""
    if str(data).startswith(SCHEME):
        root, revision = download(str(data))
        return root, None, revision
    folder = Path(data)
    if folder.is_file():
        raise UserError(f"{folder}: is a file; --data takes the folder around it, which holds salmubench/ or data/")
    if (folder / "salmubench").is_dir():
        return folder / "salmubench", folder, None
    if (folder / "data").is_dir():
        return folder, None, None
    raise UserError(
        f"{folder}: no data set here; --data takes a folder that holds salmubench/ or data/, or hf://owner/name"
    )


def load_benchmark(data: str | Path, *, general_knowledge: str | Path | None = None) -> Benchmark:
    """Opens a data set; pictures are read later.

    Args:
        data: a data set folder, an evaluation folder by itself, or ``hf://owner/name@revision``.
        general_knowledge: a clip_benchmark webdataset folder; by default the data set folder's own, where it has one.

    Raises:
        UserError: something is missing or damaged; the message names file and row.
    """
    root, dataset, revision = locate(data)
    manifest = read_manifest(dataset) if dataset else None
    if manifest and dataset:
        check_sizes(dataset, manifest, root.name)
    splits: dict[str, PairSet] = {}
    sources: list[PictureSource] = []
    for split in EVALUATION_SPLITS:
        splits[split], opened = _read_split(root, split, sum(map(len, sources)))
        sources += opened
        if not len(splits[split]):
            raise UserError(f"{root / 'data'}: the split {split!r} has no rows; build or download it again")
    identities, captions = sides.read_identities(root), sides.read_captions(root)
    _agree(root, splits, identities, captions)
    sets = splits | derive_sets(splits)
    fragile = fragile_set(root, sets["retain_disjoint"])
    if fragile is not None:
        sets["fragile_set"] = fragile
    if general_knowledge is None and dataset and (dataset / "general_knowledge").is_dir():
        general_knowledge = dataset / "general_knowledge"
    knowledge = None
    if general_knowledge is not None:
        knowledge, opened = read_classification(Path(general_knowledge), first=sum(map(len, sources)))
        sources += opened
    return Benchmark(
        root=root,
        revision=revision or (manifest.revision if manifest else content_revision(root)),
        association_split=manifest.facts.get("association_split") if manifest else None,
        pictures=PictureStore(sources),
        sets=sets,
        identities=identities,
        captions=captions,
        generic_captions=sides.read_generic_captions(root),
        general_knowledge=knowledge,
    )
