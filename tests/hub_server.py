"""A hub on loopback: the few addresses that huggingface_hub asks for, with the real hub's status codes and headers."""

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds.

    Attributes:
        repositories: ``datasets/owner/name`` or ``owner/name`` -> path -> content.
        gated: repositories whose files want the token ``secret``.
        cut: file name -> the places where the connection is dropped, one a request.
        sent: file name -> bytes sent.
        token: what creating a repository and committing to it want.
        private: repositories that were created as private.
        pushed: repository -> path -> content, of what was committed; all as plain git files, none by xet or LFS.
        url: where the server listens.
    """

    repositories: Mapping[str, Mapping[str, bytes]]
    gated: set[str] = field(default_factory=set)
    cut: dict[str, list[int]] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)
    token: str = ""
    private: set[str] = field(default_factory=set)
    pushed: dict[str, dict[str, bytes]] = field(default_factory=dict)
    url: str = ""


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serves ``hub`` while the context is open."""

    class Handler(_Handler):
        held = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    held: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        api = re.fullmatch(r"/api/(?:models/|(datasets/))([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        resolve = re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if api:
            self._describe(f"{api[1] or ''}{api[2]}", api[3], api[4])
        elif resolve:
            self._send_file(*resolve.groups())
        else:
            self._refuse(404, "EntryNotFound")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.split("?")[0]
        upload = re.fullmatch(r"/api/(datasets/[^/]+/[^/]+)/(preupload|commit)/main", path)
        if not self.held.token or self.headers.get("Authorization") != f"Bearer {self.held.token}":
            self._refuse(401, "Unauthorized")
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif upload and upload[1] in self.held.pushed and upload[2] == "preupload":
            plain = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self._answer({"files": [{"path": one["path"], **plain} for one in json.loads(body)["files"]]})
        elif upload and upload[1] in self.held.pushed:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.held.pushed[upload[1]][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer({"commitUrl": f"{self.held.url}/{upload[1]}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self._refuse(404, "RepoNotFound")

    def _create(self, asked: dict[str, Any]) -> None:
        """A repository of the owner's own; one that is there already is no fault of ``exist_ok``."""
        name = f"{asked['type']}s/{asked['organization']}/{asked['name']}"
        if name in self.held.pushed:
            self._answer({"url": f"{self.held.url}/{name}"}, 409)
            return
        self.held.pushed[name] = {}
        if asked.get("private") or asked.get("visibility") == "private":
            self.held.private.add(name)
        self._answer({"url": f"{self.held.url}/{name}"})

    def _known(self, repository: str, revision: str) -> bool:
        if repository not in self.held.repositories:
            self._refuse(401, "RepoNotFound")
        elif revision not in ("main", "v1", COMMIT):
            self._refuse(404, "RevisionNotFound")
        else:
            return True
        return False

    def _describe(self, repository: str, what: str, revision: str) -> None:
        if not self._known(repository, revision):
            return
        files = self.held.repositories[repository]
        if what == "revision":
            siblings = [{"rfilename": name} for name in files]
            self._answer({"id": repository.removeprefix("datasets/"), "sha": COMMIT, "siblings": siblings, "tags": []})
        else:
            self._answer(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
            )

    def _send_file(self, repository: str, revision: str, name: str) -> None:
        if not self._known(repository, revision):
            return
        if repository in self.held.gated and self.headers.get("Authorization") != "Bearer secret":
            self._refuse(403, "GatedRepo")
            return
        content = self.held.repositories[repository].get(name)
        if content is None:
            self._refuse(404, "EntryNotFound")
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        if self.command == "HEAD":
            return
        rest = content[first:]
        if self.held.cut.get(name):
            rest = rest[: max(0, self.held.cut[name].pop(0) - first)]
            self.close_connection = True
        self.wfile.write(rest)
        self.held.sent[name] += len(rest)

    def _answer(self, content: object, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""
