"""Who may ask the explorer: a browser that was sent here by its own page, and elsewhere than on loopback, with a token.

A page of another origin can make a browser send requests to this machine. It cannot read the answers, unless it points
its own name here (DNS rebinding), and it cannot post, unless we do not look at where a request comes from. So the host
name and the origin are checked even on loopback.
"""

import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "salmubench_explorer"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_address(name: str) -> bool:
    """Whether a host name is an IP address: a name server has no say in where that leads."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def hostname(netloc: str) -> str | None:
    """The host of ``name:port`` or ``[::1]:port``, in lower case; None where there is none."""
    try:
        parts = urlsplit(f"//{netloc}")
        return None if parts.username is not None or parts.path or parts.port == 0 else parts.hostname
    except ValueError:
        return None


class Guard:
    """ASGI middleware: refuses foreign hosts, foreign origins and, where there is a token, whoever does not have it.

    Args:
        app: answers what is let through.
        names: host names by which this machine may be called, beside ``localhost`` and IP addresses.
        token: asked for once as ``?token=``, then kept in a cookie; None asks for none.
    """

    def __init__(self, app: ASGIApp, *, names: frozenset[str] = frozenset(), token: str | None = None) -> None:
        self.app = app
        self.names = names | {"localhost"}
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError("the explorer speaks HTTP alone")

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await (self._refusal(scope) or self.app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        name = hostname(hosts[0]) if len(hosts) == 1 else None
        if name is None or not (name in self.names or is_address(name)):
            return PlainTextResponse("The explorer is not called by this name; use the printed address.", 421)
        if scope["method"] not in ("GET", "HEAD") and not _same_origin(headers, hosts[0]):
            return PlainTextResponse("The request comes from another page.", 403)
        return self._token_refusal(scope, headers) if self.token else None

    def _token_refusal(self, scope: Scope, headers: Headers) -> Response | None:
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        if any(key == "token" and self._knows(value) for key, value in query):
            # The token leaves the address bar at once, and with it the history and the screenshots.
            response = RedirectResponse("/", 303)
            response.set_cookie(COOKIE, self.token or "", httponly=True, samesite="lax")
            return response
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None and self._knows(cookie.value):
            return None
        return PlainTextResponse("Open the address with ?token= that the command printed.", 401)

    def _knows(self, word: str) -> bool:
        """Compares in a time that does not tell how much of the token is right."""
        return hmac.compare_digest(word.encode(), (self.token or "").encode())


def _same_origin(headers: Headers, host: str) -> bool:
    """Whether a browser's request was made by our own page; what is no browser cannot be tricked and says neither."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    return site in (None, "same-origin", "none") and (origin is None or origin == f"http://{host}")
