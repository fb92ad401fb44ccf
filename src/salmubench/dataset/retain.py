"""Webdataset shards: picture-caption pairs as open_clip_train reads them, labelled pictures as clip_benchmark does.

The tars are a function of their content alone: no times, no owners. Members are written and read with the standard
library, which also gives the offsets that random access needs.
"""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salmubench.atomic import read_json, replacing, write_json, write_text
from salmubench.dataset.pictures import PictureSource, TarPictures, TarSample, index_tar, read_spans
from salmubench.dataset.write import parts
from salmubench.errors import UserError

SIZES_FILE = "sizes.json"
CLASS_NAMES_FILE = "classnames.txt"
TEMPLATES_FILE = "zeroshot_classification_templates.txt"
SHARD_COUNT_FILE = "nshards.txt"
PER_SHARD = 1000
"""Samples of a tar."""


@dataclass(frozen=True)
class CaptionedPicture:
    """A general picture with its caption. ``key`` holds no dot: webdataset cuts a member's name at the first one."""

    key: str
    image: bytes
    text: str
    extension: str = "jpg"


@dataclass(frozen=True)
class GeneralKnowledge:
    """A zero-shot classification set.

    Attributes:
        picture: running number of each picture in the benchmark's store, shape (n,).
        label: its class, shape (n,), counting in ``class_names``.
        class_names: the classes.
        templates: the ensemble; ``{c}`` stands for the class name, as clip_benchmark has it.
    """

    picture: NDArray[np.int64]
    label: NDArray[np.int64]
    class_names: tuple[str, ...]
    templates: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.label)


def _write_tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> None:
    """Writes samples (key, {extension: bytes}) in the order given."""
    previous = None
    with replacing(path) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
        for key, members in samples:
            if "." in key or not key or key == previous:
                raise ValueError(f"{key!r} is no key for a webdataset sample: no dots, not empty, no neighbour's key")
            previous = key
            for extension, content in members.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def _remove_stale(folder: Path, keep: Sequence[Path]) -> None:
    for path in set(folder.glob("*.tar")) - set(keep):
        path.unlink()


def write_pairs(path: Path, pairs: Iterable[CaptionedPicture]) -> int:
    """Writes one shard and returns how many pairs it holds; they are drawn one by one."""
    count = 0

    def members() -> Iterator[tuple[str, Mapping[str, bytes]]]:
        nonlocal count
        for count, pair in enumerate(pairs, start=1):  # noqa: B007
            yield pair.key, {pair.extension: pair.image, "txt": pair.text.encode()}

    _write_tar(path, members())
    return count


def write_shards(folder: Path, pairs: Iterable[CaptionedPicture], *, pairs_per_shard: int = PER_SHARD) -> list[Path]:
    """Writes ``00000.tar``, ... and, last, ``sizes.json`` (shard -> pairs), by which open_clip_train counts samples.

    Returns:
        The tars, in order.
    """
    remaining = iter(pairs)
    sizes: dict[str, int] = {}
    while batch := list(islice(remaining, pairs_per_shard)):
        name = f"{len(sizes):05d}.tar"
        write_pairs(folder / name, batch)
        sizes[name] = len(batch)
    shards = [folder / name for name in sizes]
    _remove_stale(folder, shards)
    write_json(folder / SIZES_FILE, sizes)
    return shards


def resume_shards(
    folder: Path,
    count: int,
    pairs: Callable[[range], Iterable[CaptionedPicture]],
    *,
    pairs_per_shard: int | None = None,
) -> None:
    """Writes what ``write_shards`` does, but of the tars only those that are not there yet.

    Args:
        folder: the shards' folder.
        count: pairs in all.
        pairs: gives the pairs of a run; called for the tars that are missing.
        pairs_per_shard: pairs a tar.
    """
    runs = {f"{place:05d}.tar": run for place, run in enumerate(parts(count, pairs_per_shard or PER_SHARD))}
    for name, run in runs.items():
        if not (folder / name).is_file():
            write_pairs(folder / name, pairs(run))
    write_json(folder / SIZES_FILE, {name: len(run) for name, run in runs.items()})


def shard_sizes(folder: Path) -> dict[str, int]:
    """Shard -> pairs, from ``sizes.json``.

    Raises:
        UserError: the file is missing or broken.
    """
    sizes = read_json(folder / SIZES_FILE)
    if not isinstance(sizes, dict) or not all(isinstance(size, int) for size in sizes.values()):
        raise UserError(f"{folder / SIZES_FILE}: must map each shard to its number of pairs; build the data set again")
    return sizes


def read_shards(folder: Path) -> Iterator[CaptionedPicture]:
    """The pairs of a folder of shards, shard by shard in the order of their names.

    Raises:
        UserError: a shard is damaged, or a sample lacks its picture or caption.
    """
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise UserError(f"{folder}: holds no webdataset shard (*.tar); point to the folder of the shards")
    for shard in shards:
        yield from read_pairs(shard, index_tar(shard))


def read_pairs(shard: Path, samples: Sequence[TarSample]) -> Iterator[CaptionedPicture]:
    """The pairs of some samples of a shard, as ``index_tar`` lists them; the file is opened once.

    Raises:
        UserError: the shard is damaged, or a sample lacks its picture or caption.
    """
    extensions: list[str] = []
    for sample in samples:
        extension = sample.picture_extension()
        if extension is None or "txt" not in sample.members:
            raise UserError(f"{shard}, sample {sample.key}: needs a picture and a .txt; build the shard again")
        extensions.append(extension)
    named = list(zip(samples, extensions, strict=True))
    contents = read_spans(shard, [sample.members[part] for sample, image in named for part in (image, "txt")])
    for sample, extension in named:
        image, text = next(contents), next(contents)
        yield CaptionedPicture(sample.key, image, text.decode(), extension)


def resume_classification(
    folder: Path,
    count: int,
    samples: Callable[[range], Iterable[tuple[bytes, int]]],
    *,
    class_names: Sequence[str],
    templates: Sequence[str],
    samples_per_shard: int | None = None,
) -> None:
    """Writes the layout that clip_benchmark reads: class names, templates, ``test/<n>.tar``, ``test/nshards.txt``.

    Tars that are there already are kept.

    Args:
        folder: the root of the layout.
        count: samples in all.
        samples: gives the samples of a run, JPEG bytes with the label (an index into ``class_names``); called for the
            tars that are missing.
        class_names: one line each.
        templates: one line each; ``{c}`` marks the class.
        samples_per_shard: pictures a tar.
    """
    write_text(folder / CLASS_NAMES_FILE, "".join(f"{name}\n" for name in class_names))
    write_text(folder / TEMPLATES_FILE, "".join(f"{template}\n" for template in templates))
    runs = parts(count, samples_per_shard or PER_SHARD)
    for place, run in enumerate(runs):
        shard = folder / "test" / f"{place}.tar"
        if not shard.is_file():
            numbered = zip(run, samples(run), strict=True)
            _write_tar(
                shard,
                ((f"s{number:07d}", {"jpg": image, "cls": str(label).encode()}) for number, (image, label) in numbered),
            )
    write_text(folder / "test" / SHARD_COUNT_FILE, f"{len(runs)}\n")


def write_classification(
    folder: Path,
    samples: Iterable[tuple[bytes, int]],
    *,
    class_names: Sequence[str],
    templates: Sequence[str],
    samples_per_shard: int | None = None,
) -> None:
    """Writes the layout anew, as ``resume_classification`` does."""
    _remove_stale(folder / "test", ())
    content = list(samples)
    resume_classification(
        folder,
        len(content),
        lambda run: content[run.start : run.stop],
        class_names=class_names,
        templates=templates,
        samples_per_shard=samples_per_shard,
    )


def _lines(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n"))
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"{path}: no such text file; --general-knowledge takes a clip_benchmark webdataset folder"
        ) from None


def _label(shard: Path, sample: TarSample, classes: int) -> int:
    span = sample.members.get("cls") or sample.members.get("cls.txt")
    text = next(read_spans(shard, [span])).decode(errors="replace").strip() if span else ""
    if not text.isdecimal() or int(text) >= classes:
        raise UserError(
            f"{shard}, sample {sample.key}: its .cls must be a number from 0 to {classes - 1}; mend the shard"
        )
    return int(text)


def _classification_shards(folder: Path) -> list[Path]:
    """``<n>.tar`` as many as nshards.txt says, or, where that is missing, as there are."""
    if not (folder / SHARD_COUNT_FILE).exists():
        shards = sorted(
            (path for path in folder.glob("*.tar") if path.stem.isdecimal()), key=lambda path: int(path.stem)
        )
    else:
        count = _lines(folder / SHARD_COUNT_FILE)[0].strip()
        if not count.isdecimal():
            raise UserError(f"{folder / SHARD_COUNT_FILE}: must hold the number of tars; write it again")
        shards = [folder / f"{number}.tar" for number in range(int(count))]
    if not shards:
        raise UserError(
            f"{folder}: holds no shard (0.tar, 1.tar, ...); --general-knowledge takes the folder above test/"
        )
    return shards


def read_classification(folder: Path, *, first: int = 0) -> tuple[GeneralKnowledge, list[PictureSource]]:
    """Reads any clip_benchmark webdataset folder; the pictures themselves are read later.

    Args:
        folder: holds ``classnames.txt``, ``zeroshot_classification_templates.txt``, ``test/<n>.tar`` and, as
            a rule, ``test/nshards.txt``.
        first: running number that the first picture gets.

    Raises:
        UserError: a file is missing or damaged, a label is not a class, a sample has no picture.
    """
    class_names, templates = _lines(folder / CLASS_NAMES_FILE), _lines(folder / TEMPLATES_FILE)
    for number, template in enumerate(templates, start=1):
        if "{c}" not in template:
            raise UserError(
                f"{folder / TEMPLATES_FILE}, line {number}: lacks {{c}}, the place of the class name; add it"
            )
    labels: list[int] = []
    sources: list[PictureSource] = []
    for shard in _classification_shards(folder / "test"):
        samples = index_tar(shard)
        spans = []
        for sample in samples:
            extension = sample.picture_extension()
            if extension is None:
                raise UserError(f"{shard}, sample {sample.key}: has no picture (jpg, png or webp); mend the shard")
            spans.append(sample.members[extension])
            labels.append(_label(shard, sample, len(class_names)))
        sources.append(TarPictures(shard, tuple(sample.key for sample in samples), tuple(spans)))
    picture = np.arange(first, first + len(labels), dtype=np.int64)
    return GeneralKnowledge(picture, np.array(labels, dtype=np.int64), class_names, templates), sources
