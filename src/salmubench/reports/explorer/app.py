"""The explorer's pages and answers over HTTP; every path is named here, and none of them leads to a file."""

import io
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

import anyio
from jinja2 import Template
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from salmubench.dataset.schema import FIELDS
from salmubench.errors import UserError
from salmubench.reports.explorer.answers import Explorer
from salmubench.reports.explorer.guard import Guard
from salmubench.reports.explorer.uploads import FORMATS, LARGEST_BYTES, TooLarge, decode_upload, read_bounded
from salmubench.reports.pages import templates
from salmubench.reports.portraits import portrait
from salmubench.reports.redact import spelt

LONGEST_TEXT = 200
SIDE = 132.0
"""Points of a shown picture's side."""
KEPT_PICTURES = 2000
DECODERS = 2
"""Uploads that are decoded at once: each may take 100 MB."""


def make_app(
    explorer: Explorer,
    columns: Sequence[dict[str, Any]],
    *,
    names: frozenset[str] = frozenset(),
    token: str | None = None,
) -> Starlette:
    """The explorer as an ASGI application.

    Args:
        explorer: answers.
        columns: which model is shown where, from ``columns``.
        names: host names by which this machine may be called, beside ``localhost`` and IP addresses.
        token: who does not have it is refused; None lets everyone in.
    """
    first = {
        "columns": list(columns),
        "people": explorer.person_list(),
        "first": explorer.first,
        "sizes": {"people": len(explorer.people), "captions": len(explorer.captions.text)},
        "pictures": len(explorer.faces.index),
        "limits": {"bytes": LARGEST_BYTES, "text": LONGEST_TEXT},
        "labels": {field: spelt(field) for field in FIELDS},
    }
    routes = [
        *_assets(),
        Route("/world", lambda request: JSONResponse(first)),
        Route("/picture/{number:int}", _pictures(explorer)),
        Route("/face/{number:int}", _faces(explorer)),
        Route("/name", _names(explorer)),
        Route("/upload", _uploads(explorer), methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, names=names, token=token)],
        exception_handlers={UserError: _refused},
    )


def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 413 if isinstance(error, TooLarge) else 400)


def _number(request: Request, explorer: Explorer) -> int:
    """The picture that a path names: a person's, of this data set."""
    number: int = request.path_params["number"]
    if not explorer.has(number):
        raise HTTPException(404)
    return number


def _assets() -> list[Route]:
    """The page, its style and its script, read once. The page itself holds no code, so the browser may refuse any."""
    folder = resources.files("salmubench.reports.explorer") / "page"
    text = {name: (folder / name).read_text(encoding="utf-8") for name in ("index.html", "explorer.css", "explorer.js")}
    accept = ",".join(f"image/{name.lower()}" for name in FORMATS)
    index = Template(text["index.html"], autoescape=True).render(accept=accept, longest=LONGEST_TEXT)
    css = templates().get_template("theme.css").render() + text["explorer.css"]
    return [
        _static("/", index, "text/html"),
        _static("/explorer.css", css, "text/css"),
        _static("/explorer.js", text["explorer.js"], "text/javascript"),
    ]


def _static(path: str, content: str, kind: str) -> Route:
    return Route(path, lambda request: Response(content, media_type=kind))


def _pictures(explorer: Explorer) -> Callable[[Request], Response]:
    @lru_cache(maxsize=KEPT_PICTURES)
    def jpeg(number: int) -> bytes:
        # Drawn anew: bytes that came with a data set are never handed to a browser.
        stream = io.BytesIO()
        Image.fromarray(portrait(explorer.benchmark, number, SIDE, SIDE)).save(stream, "JPEG", quality=88)
        return stream.getvalue()

    def picture(request: Request) -> Response:
        content = jpeg(_number(request, explorer))
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    return picture


def _faces(explorer: Explorer) -> Callable[[Request], Response]:
    return lambda request: JSONResponse(explorer.from_picture(_number(request, explorer)))


def _names(explorer: Explorer) -> Callable[[Request], Response]:
    def name(request: Request) -> Response:
        text = request.query_params.get("text", "").strip()
        if not 0 < len(text) <= LONGEST_TEXT:
            raise UserError(f"a name has 1 to {LONGEST_TEXT} letters; type one")
        return JSONResponse(explorer.from_name(text))

    return name


def _uploads(explorer: Explorer) -> Callable[[Request], Any]:
    turn = anyio.Semaphore(DECODERS)

    async def upload(request: Request) -> Response:
        # The body is the file itself: a form's parser would spool it to disk.
        if not request.headers.get("content-type", "").startswith("image/"):
            return PlainTextResponse("Send the picture itself, as image/jpeg, image/png or image/webp.", 415)
        content = await read_bounded(request.stream(), request.headers.get("content-length"))
        async with turn:
            answer = await run_in_threadpool(lambda: explorer.from_upload(decode_upload(content)))
        return JSONResponse(answer)

    return upload
