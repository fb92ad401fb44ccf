"""A data set folder in other forms and places: webdataset shards, folders of pictures, repositories on the hub."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from salmubench.atomic import alone, read_json, remove_leftovers, replacing, write_json
from salmubench.dataset.manifest import check_sizes, content_revision, read_manifest
from salmubench.dataset.retain import CaptionedPicture, write_shards
from salmubench.dataset.schema import EVALUATION_SPLITS, Row
from salmubench.dataset.store import load_split, locate
from salmubench.errors import RunError, UserError
from salmubench.progress import Progress, silent

EXPORT_FILE = "export.json"
"""What an export holds; written first, so that a second run knows whether it may go on."""
REPOSITORIES = {"salmubench": "", "salmu": "-train"}
"""Folder -> what its repository's name ends in."""
_PART = r"\w([\w.-]{0,94}\w)?"
_NAME = re.compile(rf"(?!.*(--|\.\.)){_PART}/{_PART}(?<!\.git)", re.ASCII)


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
        UserError: there is no such form, the data are damaged, a file name is none, or ``out`` holds another export.
    """
    if form not in FORMS:
        raise UserError(f"--format {form}: choose {' or '.join(FORMS)}")
    root, dataset, revision = locate(data)
    manifest = read_manifest(dataset) if dataset else None
    revision = revision or (manifest.revision if manifest else content_revision(root))
    with alone(out):
        _claim(out, {"data": revision, "format": form})
        for split in EVALUATION_SPLITS:
            if not (out / split).is_dir():
                with replacing(out / split) as temporary:
                    FORMS[form](temporary, _rows(root, split, progress))
    return out


def _claim(out: Path, content: dict[str, str]) -> None:
    """Says what ``out`` is to hold, or goes on where it holds that."""
    known = out / EXPORT_FILE
    if known.is_file() and read_json(known) == content:
        remove_leftovers(out)
    elif known.exists() or any((out / split).exists() for split in EVALUATION_SPLITS):
        raise UserError(f"{out}: holds an export of other data or in another format; choose another --out or delete it")
    else:
        write_json(known, content)


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
        UserError: the folder is not complete or not whole, or the name is none that the hub takes.
        RunError: the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    manifest = read_manifest(data)
    if manifest is None:
        raise UserError(f"{data}: has no manifest.json, so it is not complete; finish `salmubench data build` first")
    if not all(_NAME.fullmatch(f"{repository}{ending}") for ending in REPOSITORIES.values()):
        raise UserError(f"{repository}: not a repository's name; write OWNER/NAME, as the hub takes them")
    for folder in REPOSITORIES:
        check_sizes(data, manifest, folder)
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
