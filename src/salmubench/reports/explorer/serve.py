"""Loads models and data, then serves the explorer until it is stopped."""

import ipaddress
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from salmubench.dataset.store import load_benchmark
from salmubench.encoders.cache import DEFAULT_GIGABYTES, EmbeddingCache
from salmubench.encoders.checkpoint import load_encoder
from salmubench.errors import UserError
from salmubench.progress import Progress, silent

LOOPBACK = "127.0.0.1"
PORT = 7860


def explore(
    models: Sequence[str | Path],
    data: str | Path,
    *,
    arch: str | None = None,
    host: str = LOOPBACK,
    port: int = PORT,
    cache: bool = True,
    cache_size: float = DEFAULT_GIGABYTES,
    device: str | None = None,
    precision: str = "fp32",
    announce: Callable[[str], None] = print,
    progress: Progress = silent,
) -> None:
    """Serves the leak explorer; returns when it is stopped (Ctrl-C).

    Args:
        models: checkpoints, as ``load_encoder`` takes them; runs of one method that differ in their budget alone share
            a column.
        data: a data set folder, an evaluation folder, or ``hf://owner/name@revision``.
        arch: the architecture of weights files.
        host: where to listen. Elsewhere than on loopback a token is asked for, which ``announce`` gets in the address.
        port: where to listen; 0 takes a free one.
        cache: keep embeddings for the next run.
        cache_size: gigabytes that kept embeddings may take.
        device: ``cpu``, ``cuda``, ...; a GPU if there is one by default.
        precision: a key of ``PRECISIONS``.
        announce: gets the page's address once it can be opened.
        progress: shows the encoding of pictures and captions.

    Raises:
        UserError: the extra ``explore`` is not installed, a model or the data cannot be read, or the port is taken.
    """
    try:
        import uvicorn

        from salmubench.reports.explorer.answers import Explorer
        from salmubench.reports.explorer.app import make_app
        from salmubench.reports.explorer.columns import columns
    except ImportError as error:
        raise UserError(f"the explorer needs {error.name}: pip install 'salmubench[explore]'") from error
    if not models:
        raise UserError("--model is missing: name one checkpoint or more")
    with _listen(host, port) as listener:
        encoders = [load_encoder(path, arch=arch, device=device, precision=precision) for path in models]
        kept = EmbeddingCache(gigabytes=cache_size) if cache else None
        explorer = Explorer(encoders, load_benchmark(data), cache=kept, progress=progress)
        token = None if is_loopback(host) else secrets.token_urlsafe(32)
        shown = columns([str(path) for path in models], encoders)
        app = make_app(explorer, shown, names=frozenset({host.lower(), socket.gethostname().lower()}), token=token)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, proxy_headers=False, ws="none",
            limit_concurrency=64, timeout_graceful_shutdown=1,
        )  # fmt: skip
        announce(_address(host, listener.getsockname()[1], token))
        with suppress(KeyboardInterrupt):  # how it is meant to end
            uvicorn.Server(config).run(sockets=[listener])


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason}); choose another port") from error


def _address(host: str, port: int, token: str | None) -> str:
    everywhere = host in ("0.0.0.0", "::")
    shown = socket.gethostname() if everywhere else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
