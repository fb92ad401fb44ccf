"""``hf://owner/name@revision``: an evaluation folder on the Hugging Face hub, downloaded once into the hub's cache."""

import re
from pathlib import Path

from salmubench.dataset.schema import EVALUATION_SPLITS
from salmubench.errors import RunError, UserError

SCHEME = "hf://"


def download(address: str) -> tuple[Path, str]:
    """Fetches what an evaluation needs (the four splits and the side files) and no more.

    Returns:
        The folder in the cache, and the address with the commit that it holds.

    Raises:
        UserError: the address is malformed, the repository or revision does not exist or is gated.
        RunError: the hub cannot be reached and the cache does not hold it.
    """
    match = re.fullmatch(r"hf://(?:datasets/)?([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", address)
    if match is None:
        raise UserError(f"{address}: not an address on the hub; write hf://owner/name or hf://owner/name@revision")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, revision = match.groups()
    patterns = [*(f"data/{split}-*.parquet" for split in EVALUATION_SPLITS), "*.json"]
    try:
        folder = Path(snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except GatedRepoError:
        raise UserError(f"{address}: gated; accept its terms on the hub and set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise UserError(f"{address}: no such data set, or a private one; check the name or set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise UserError(f"{address}: the data set has no such revision; check what follows the @") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, ConnectionError) as error:
        reason = str(error).splitlines()[0].rstrip(". ")
        raise RunError(f"{address}: could not be downloaded ({reason}); check the network and run again") from error
    return folder, f"{SCHEME}{repository}@{folder.name}"
