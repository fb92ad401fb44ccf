"""Files that are either whole or not there: write to a temporary name beside the target, then rename.

And folders that one process at a time fills.
"""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from salmubench.errors import RunError, UserError

OWNER_ALONE = 0o600
"""How safetensors makes its files; results are for everyone on the machine to read, as other files are."""

_WRONG_PLACE = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP}
"""Errors that stay however often one runs again: something is in the way, or the place takes no such file."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yields a temporary path (a file or a folder, as the caller makes it) that becomes ``target`` on a clean exit.

    Raises:
        UserError: the folder cannot be written to.
        RunError: the disk is full or fails.
    """
    temporary = target.with_name(f"{target.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir() and target.is_dir():
            shutil.rmtree(target)
        if temporary.is_file() and temporary.stat().st_mode & 0o777 == OWNER_ALONE:
            temporary.chmod(0o644)
        temporary.replace(target)
    except PermissionError as error:
        raise UserError(f"{target}: no permission to write here; choose another folder or mend its rights") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # pyarrow's own words would name the temporary file
        if error.errno in _WRONG_PLACE:
            raise UserError(f"{target}: cannot be written here ({reason}); choose another path") from error
        raise RunError(f"{target}: could not be written ({reason}); free some space and run again") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):  # what matters has been raised
                temporary.unlink(missing_ok=True)


def require_writable(target: Path) -> None:
    """Says before long work what ``replacing(target)`` would say after it; makes nothing.

    Raises:
        UserError: the file cannot be written there.
    """
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    if target.is_dir():
        raise UserError(f"{target}: is a folder, and a file is to be written; choose another path")
    if not folder.is_dir():
        raise UserError(f"{target}: cannot be written here ({folder} is a file); choose another path")
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise UserError(f"{target}: cannot be written here ({os.strerror(errno.EROFS)}); choose another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{target}: no permission to write here; choose another folder or mend its rights")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds ``folder``, made if it is not there, for this process; a process that ends, however it does, lets go.

    Raises:
        UserError: another process holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror}); choose another --out") from error
    try:
        with suppress(OSError):  # a file system without locks: as before there were any
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{folder}: another process is writing here; wait until it has ended, or choose another --out"
                ) from None
        yield
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left half-written; for a folder that is held ``alone``."""
    for left_over in [*folder.rglob("*.tmp-*")]:
        shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Writes UTF-8 text atomically.

    Raises:
        UserError: it holds the name of a file or folder that is not UTF-8.
    """
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        odd = text[max(0, error.start - 40) : error.end].encode(errors="backslashreplace").decode()
        raise UserError(
            f"{target}: cannot hold a name that is not UTF-8 (...{odd}); rename that file or folder"
        ) from None
    with replacing(target) as temporary:
        temporary.write_bytes(content)


def write_json(target: Path, value: Any, *, indent: int | None = 1) -> None:
    """Writes JSON atomically, keys in the order given, non-ASCII letters as they are, NaN refused."""
    write_text(target, json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        UserError: the file is missing, cannot be read or is not JSON; the message says where.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested without end
        raise UserError(f"{path}: not valid JSON ({error}); write it again") from None


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
