"""The Hugging Face hub: data sets by ``hf://owner/name@revision``, models by ``hf-hub:owner/name@revision``.

Everything is downloaded once into the hub's cache, at a fixed commit: a dropped connection is taken up where it was,
and a run after a failed one fetches only the files that are still missing.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from salmubench.dataset.schema import EVALUATION_SPLITS, SIDE_FILES
from salmubench.errors import RunError, UserError

SCHEME = "hf://"
MODEL_SCHEME = "hf-hub:"
MODEL_FILES = ("open_clip_config.json", "config.json", "preprocessor_config.json", "vocab.*", "merges.txt", "*token*")
"""What lies beside a model's weights: configuration and tokenizer."""
WEIGHTS_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
"""The names of a model's weights, the preferred first: a repository or folder often holds them in several forms."""

POINTER = b"version https://git-lfs.github.com/spec/"
"""How a git-lfs pointer begins, the text that a clone without git-lfs leaves in a file's place."""


def download(address: str) -> tuple[Path, str]:
    """Fetches what an evaluation needs (the four splits and the side files) and no more.

    Returns:
        The folder in the cache, and the address with the commit that it holds.

    Raises:
        UserError: the address is malformed, the repository or revision does not exist or is gated.
        RunError: the hub cannot be reached and the cache does not hold it.
    """
    repository, revision = _parse(address, r"hf://(?:datasets/)?", "hf://owner/name or hf://owner/name@revision")
    patterns = [f"data/{split}{ending}" for split in EVALUATION_SPLITS for ending in (".parquet", "-*.parquet")]
    from huggingface_hub import snapshot_download

    with _explained(address):
        folder = Path(
            snapshot_download(
                repository, repo_type="dataset", revision=revision, allow_patterns=[*patterns, *SIDE_FILES]
            )
        )
    return folder, f"{SCHEME}{repository}@{folder.name}"


def download_model(address: str) -> Path:
    """Fetches a model's configuration, tokenizer and the preferred one of its weights files.

    Returns:
        The folder in the cache; its name is the commit.

    Raises:
        UserError: the address is malformed, the repository or revision does not exist or is gated.
        RunError: the hub cannot be reached and the cache does not hold the model.
    """
    repository, revision = _parse(address, MODEL_SCHEME, "hf-hub:owner/name or hf-hub:owner/name@revision")
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    unreachable: LocalEntryNotFoundError | None = None
    with _explained(address):
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(MODEL_FILES)))
        for name in WEIGHTS_FILES:
            try:
                hf_hub_download(repository, name, revision=folder.name)
                return folder
            except LocalEntryNotFoundError as error:
                unreachable = error
            except EntryNotFoundError:
                continue
        if unreachable is not None:
            raise unreachable
    raise UserError(f"{address}: the repository holds no weights ({', '.join(WEIGHTS_FILES)}); check the name")


def refuse_pointer(path: Path) -> None:
    """Stops at a git-lfs pointer.

    Raises:
        UserError: ``path`` is one, or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            beginning = stream.read(len(POINTER))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error
    if beginning == POINTER:
        raise UserError(f"{path}: a git-lfs pointer, not the file itself; run `git lfs pull` there or download it anew")


def _parse(address: str, scheme: str, form: str) -> tuple[str, str | None]:
    match = re.fullmatch(rf"{scheme}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", address)
    if match is None:
        raise UserError(f"{address}: not an address on the hub; write {form}")
    return match[1], match[2]


@contextmanager
def _explained(address: str) -> Iterator[None]:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except GatedRepoError:
        raise UserError(f"{address}: gated; accept its terms on the hub and set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise UserError(f"{address}: no such repository, or a private one; check the name or set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise UserError(f"{address}: the repository has no such revision; check what follows the @") from None
    except Exception as error:  # two dozen kinds, which change with the version of the hub's client
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise RunError(f"{address}: could not be downloaded ({reason}); check the network and run again") from error
