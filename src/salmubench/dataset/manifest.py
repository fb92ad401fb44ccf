"""The manifest of a data set folder: what it was built with, and size and SHA-256 of every data file.

It is written last, so a folder with a manifest is complete; its own hash is the data set's revision. The cards
(README.md, croissant.json) speak about the data and are not data: mending a card leaves the revision as it is.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salmubench.atomic import read_json, sha256_file, write_json
from salmubench.dataset.schema import MANIFEST_FILE
from salmubench.errors import UserError
from salmubench.jobs import cores
from salmubench.progress import Progress, silent

DATA_FOLDERS = ("salmubench", "salmu", "retain_real", "general_knowledge")
CARD_FILES = ("README.md", "croissant.json")


@dataclass(frozen=True)
class Manifest:
    """A manifest as read.

    Attributes:
        path: the file.
        facts: what the folder was built with: preset, seed, association_split, counts.
        files: path relative to the data set folder (posix) -> {"bytes": size, "sha256": hex}.
    """

    path: Path
    facts: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]

    @property
    def revision(self) -> str:
        """``sha256:<hash of the manifest file>``."""
        return f"sha256:{sha256_file(self.path)}"

    def revision_of(self, *folders: str) -> str:
        """The revision of some of the folders alone: a hash over the names and hashes of their files."""
        parts = [(name, entry["sha256"]) for name, entry in self.files.items() if name.split("/")[0] in folders]
        return f"sha256:{hashlib.sha256(json.dumps(sorted(parts)).encode()).hexdigest()}"


def data_files(root: Path, folders: Iterable[str] = DATA_FOLDERS) -> list[Path]:
    """Every data file under ``root``'s folders, sorted by its posix path; no cards, no temporary or hidden files."""
    found = [
        path for folder in folders for path in (root / folder).rglob("*") if path.is_file() and _is_data(path, root)
    ]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _is_data(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts
    hidden = any(part.startswith(".") or ".tmp-" in part for part in parts)
    return not hidden and path.name not in (*CARD_FILES, MANIFEST_FILE)


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def write_manifest(root: Path, *, facts: Mapping[str, Any], progress: Progress = silent) -> Path:
    """Hashes every data file of the data set folder ``root`` and writes ``root/manifest.json``; call it last.

    Args:
        facts: what the folder was built with: preset, seed, association_split, counts (set or split -> rows).
        progress: shows the files.
    """
    paths, files = data_files(root), {}
    with progress("hashing files", len(paths)) as advance:
        for path in paths:
            files[path.relative_to(root).as_posix()] = _entry(path)
            advance(1)
    write_json(root / MANIFEST_FILE, {"schema": 1, "facts": dict(facts), "files": files})
    return root / MANIFEST_FILE


def refresh_manifest(root: Path, changed: Iterable[Path]) -> None:
    """Enters the changed files anew and leaves the rest, so that damage elsewhere stays visible."""
    manifest = read_manifest(root)
    if manifest is not None:
        files = dict(manifest.files) | {path.relative_to(root).as_posix(): _entry(path) for path in changed}
        write_json(manifest.path, {"schema": 1, "facts": manifest.facts, "files": dict(sorted(files.items()))})


def read_manifest(root: Path) -> Manifest | None:
    """The manifest of a data set folder, or None where there is none.

    Raises:
        UserError: it is no JSON or lacks a member.
    """
    path = root / MANIFEST_FILE
    if not path.exists():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != 1:
        raise UserError(f"{path}: not a manifest of schema 1; build the data set again")
    for key in ("facts", "files"):
        if not isinstance(content.get(key), dict):
            raise UserError(f"{path}: lacks {key!r}; build the data set again")
    return Manifest(path, content["facts"], content["files"])


def check_sizes(root: Path, manifest: Manifest, folder: str) -> None:
    """The cheap proof that a folder is whole: every file of the manifest is there with its size.

    Raises:
        UserError: a file is missing or has another size.
    """
    for name, entry in manifest.files.items():
        path = root / name
        if name.startswith(f"{folder}/") and (not path.is_file() or path.stat().st_size != entry.get("bytes")):
            state = "has another size than" if path.is_file() else "is missing, though it stands in"
            raise UserError(f"{path}: {state} {manifest.path}; build the data set again or run `salmubench data check`")


def content_revision(root: Path) -> str:
    """The revision of an evaluation folder without a manifest: a hash over names and hashes of its data files."""
    digest = hashlib.sha256()
    files = data_files(root, ["."])
    with ThreadPoolExecutor(cores()) as pool:
        for path, content in zip(files, pool.map(sha256_file, files), strict=True):
            digest.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"
