"""A site's folder: files written whole, a manifest of them last, and at the next writing what is gone removed.

``site.json`` lists every file that we wrote with its SHA-256. Only such files, and only unchanged ones, are removed.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from salmubench.atomic import read_json, replacing, sha256_file, write_json
from salmubench.errors import UserError

MANIFEST = "site.json"


class Site:
    """Writes into a folder and remembers what."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: dict[str, str] = {}

    def write(self, name: str, content: str | bytes) -> Path:
        """Writes a file atomically; ``name`` is its path in the folder, with forward slashes."""
        path = self.folder / name
        with replacing(path) as temporary:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        self.written[name] = sha256_file(path)
        return path

    def close(self) -> None:
        """Removes what the last manifest lists and this time was not written, then writes the manifest."""
        for name, digest in _listed(self.folder / MANIFEST).items():
            path = self.folder / name
            if name not in self.written and _is_inside(self.folder, name) and sha256_file(path) == digest:
                path.unlink()
                if path.parent != self.folder and not any(path.parent.iterdir()):
                    path.parent.rmdir()
        write_json(self.folder / MANIFEST, {"schema": 1, "files": dict(sorted(self.written.items()))})


def _listed(manifest: Path) -> dict[str, str]:
    """What a manifest lists; nothing where there is none or it is not one of ours."""
    try:
        content: Any = read_json(manifest)
    except UserError:
        return {}
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict):
        return {}
    return {name: digest for name, digest in files.items() if isinstance(digest, str)}


def _is_inside(folder: Path, name: str) -> bool:
    """Whether a listed name is a plain file of this folder, reached without a link."""
    parts = PurePosixPath(name).parts
    if not parts or any(part in ("..", "/", "") for part in parts) or "\x00" in name or "\\" in name:
        return False
    steps = [folder.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
    return steps[-1].is_file() and not any(step.is_symlink() for step in steps)
