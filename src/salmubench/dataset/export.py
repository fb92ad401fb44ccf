"""A data set folder in other forms and places: webdataset shards, folders of pictures, repositories on the hub."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from salmubench.atomic import replacing
from salmubench.dataset.manifest import read_manifest
from salmubench.dataset.retain import CaptionedPicture, write_shards
from salmubench.dataset.schema import EVALUATION_SPLITS, Row
from salmubench.dataset.store import load_split, locate
from salmubench.errors import RunError, UserError
from salmubench.progress import Progress, silent

REPOSITORIES = {"salmubench": "", "salmu": "-train"}
"""Folder -> what its repository's name ends in."""


def _rows(root: Path, split: str, progress: Progress) -> Iterator[Row]:
    pairs, store = load_split(root, split)
    with progress(f"exporting {split}", len(pairs)) as advance:
        for place, image in enumerate(store.stream(pairs.picture)):
            yield Row(image, pairs.text[place], pairs.identity_id[place], pairs.file_name[place])
            advance(1)


def _parts(row: Row) -> tuple[str, str]:
    """Stem and extension of a file name.

    Raises:
        UserError: it names another folder, or has no extension.
    """
    stem, dot, extension = row.file_name.rpartition(".")
    if not dot or not stem or "/" in row.file_name or "\\" in row.file_name:
        raise UserError(f"{row.file_name!r}: no file name of a picture; mend the row before exporting")
    return stem, extension.lower()


def _as_webdataset(folder: Path, rows: Iterator[Row]) -> None:
    def pairs() -> Iterator[CaptionedPicture]:
        for row in rows:
            stem, extension = _parts(row)
            yield CaptionedPicture(stem.replace(".", "-"), row.image, row.text, extension)

    write_shards(folder, pairs())


def _as_folder(folder: Path, rows: Iterator[Row]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as lines:
        for row in rows:
            _parts(row)
            (folder / row.file_name).write_bytes(row.image)
            entry = {"file_name": row.file_name, "text": row.text, "identity_id": row.identity_id}
            lines.write(json.dumps(entry, ensure_ascii=False) + "\n")


FORMS: dict[str, Callable[[Path, Iterator[Row]], None]] = {"webdataset": _as_webdataset, "folder": _as_folder}


def export(data: str | Path, out: Path, *, form: str = "webdataset", progress: Progress = silent) -> Path:
    """Writes each evaluation split as ``out/<split>/``, whole or not at all; splits that are there are kept.

    Args:
        data: a data set folder, an evaluation folder, or ``hf://owner/name``.
        out: the folder to write.
        form: ``webdataset``, shards that open_clip_train reads, keys made of the file names; or ``folder``, pictures
            with a ``metadata.jsonl``, as ``datasets.load_dataset("imagefolder")`` reads it.
        progress: shows the splits.

    Returns:
        ``out``.

    Raises:
        UserError: there is no such form, the data are damaged, or a file name is none.
    """
    if form not in FORMS:
        raise UserError(f"--format {form}: choose {' or '.join(FORMS)}")
    root, _, _ = locate(data)
    for split in EVALUATION_SPLITS:
        if not (out / split).is_dir():
            with replacing(out / split) as temporary:
                FORMS[form](temporary, _rows(root, split, progress))
    return out


def push(data: Path, repository: str, *, yes: bool = False, private: bool = False) -> Iterator[str]:
    """Publishes both parquet folders, or only says what would go where.

    Args:
        data: a complete data set folder.
        repository: ``owner/name`` of the evaluation set; the training set goes to ``owner/name-train``.
        yes: upload.
        private: make new repositories private.

    Yields:
        A line for each repository.

    Raises:
        UserError: the folder is not complete, or the name is none that the hub takes.
        RunError: the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    if read_manifest(data) is None:
        raise UserError(f"{data}: has no manifest.json, so it is not complete; finish `salmubench data build` first")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository):
        raise UserError(f"{repository}: not a repository's name; write OWNER/NAME")
    for folder, ending in REPOSITORIES.items():
        name = f"{repository}{ending}"
        files = [path for path in (data / folder).rglob("*") if path.is_file() and ".tmp-" not in path.name]
        size = sum(path.stat().st_size for path in files) / 1e6
        if yes:
            try:
                api = HfApi()
                api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
                api.upload_folder(
                    repo_id=name, folder_path=data / folder, repo_type="dataset", ignore_patterns=["*.tmp-*"]
                )
            except Exception as error:  # two dozen kinds, which change with the version of the hub's client
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
                raise RunError(f"{name}: could not be uploaded ({reason}); check HF_TOKEN and the network") from error
        yield f"{data / folder} -> {name}: {len(files)} files, {size:,.1f} MB"
