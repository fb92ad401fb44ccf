"""Webdataset shards by URL: spread, counted, and read as a stream."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import webdataset as wds
from braceexpand import braceexpand

from salmubench.dataset.pictures import PICTURE_EXTENSIONS
from salmubench.dataset.retain import SIZES_FILE, CaptionedPicture, shard_sizes
from salmubench.errors import UserError


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


def stream_pairs(url: str) -> Iterator[CaptionedPicture]:
    """The pairs of one shard, read front to back; a sample without picture or caption is passed over.

    Raises:
        UserError: the shard cannot be read to its end.
    """
    try:
        for sample in wds.tarfile_to_samples(handler=wds.reraise_exception)([{"url": url}]):
            extension = next((extension for extension in PICTURE_EXTENSIONS if extension in sample), None)
            if extension is not None and "txt" in sample:
                text = sample["txt"].decode("utf-8", errors="replace")
                yield CaptionedPicture(sample["__key__"], sample[extension], text, extension)
    except UserError:
        raise
    except Exception as error:  # whatever a pipe, a server or a cut tar makes of it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{url}: the shard cannot be read to its end ({reason}); fetch it again or leave it out"
        ) from error
