"""The explorer over HTTP: what it answers, and whom and what it refuses."""

import http.client
import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from starlette.testclient import TestClient

from explorer_world import picture, served
from salmubench.errors import UserError
from salmubench.reports.explorer import uploads
from salmubench.reports.explorer.app import make_app
from salmubench.reports.explorer.guard import COOKIE, hostname
from salmubench.reports.explorer.serve import _listen, explore, is_loopback

TOKEN = "a-token-of-some-length"
PNG = {"Content-Type": "image/png"}


@pytest.fixture
def client(explored: Any) -> TestClient:
    return TestClient(make_app(*explored), base_url="http://127.0.0.1:7860", follow_redirects=False)


@pytest.fixture
def guarded(explored: Any) -> TestClient:
    app = make_app(*explored, names=frozenset({"lab.example"}), token=TOKEN)
    return TestClient(app, base_url="http://lab.example:7860", follow_redirects=False)


def test_it_answers_faces_names_and_uploads(client: TestClient) -> None:
    world = client.get("/world").json()
    assert len(world["people"]) == 8
    answer = client.get(f"/face/{world['first']}").json()
    assert answer["query"]["picture"] == world["first"]
    assert len(answer["models"]) == 4
    assert len(client.get("/name", params={"text": world["people"][0]["name"]}).json()["models"][0]["faces"]) == 8
    for kind in ("PNG", "JPEG", "WEBP"):
        sent = client.post("/upload", content=picture(kind=kind), headers={"Content-Type": f"image/{kind.lower()}"})
        assert sent.status_code == 200
        assert len(sent.json()["models"][0]["captions"]) == 5


def test_pictures_are_drawn_anew(client: TestClient, explored: Any) -> None:
    sent = client.get(f"/picture/{explored[0].first}")
    assert sent.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(sent.content)).size == (290, 290)


ASTRAY = ("/picture/999999", "/picture/-1", "/face/abc", "/face/999999", f"/picture/{10**30}", "/../../etc/passwd",
          "/%2e%2e/%2e%2e/etc/passwd", "/picture/..%2f..%2fetc%2fpasswd", "/explorer.js/../../serve.py", "//etc/passwd",
          "/docs", "/static/serve.py")  # fmt: skip


def test_no_path_leads_elsewhere(explored: Any) -> None:
    with served(*explored) as address:
        place = urlsplit(address)
        for path in ASTRAY:
            connection = http.client.HTTPConnection(place.hostname or "", place.port)
            connection.request("GET", path)  # as it stands: a client library would tidy the path up
            response = connection.getresponse()
            assert response.status == 404, path
            assert b"root:" not in response.read()
            connection.close()


@pytest.mark.parametrize("text", ["", "   ", "x" * 201])
def test_a_name_is_bounded(client: TestClient, text: str) -> None:
    assert client.get("/name", params={"text": text}).status_code == 400


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1", "[::1]:7860", "192.168.1.5:7860", "LOCALHOST"])
def test_own_names_are_served(client: TestClient, host: str) -> None:
    assert client.get("/world", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example", "",
     "127.0.0.1@evil.example",
     "evil.example#localhost", "[::1", "localhost/evil", "evil.example\\@localhost"],
)  # fmt: skip
def test_a_name_that_was_pointed_here_is_refused(client: TestClient, host: str) -> None:
    """DNS rebinding: the browser believes that this is evil.example."""
    sent = client.get("/world", headers={"Host": host})
    assert sent.status_code == 421
    assert "people" not in sent.text


def test_a_host_is_read_as_a_browser_writes_it() -> None:
    assert hostname("Lab.Example:80") == "lab.example"
    assert hostname("[::1]:80") == "::1"
    assert hostname("host:port") in (None, "host")
    assert hostname("") is None


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site":
     "cross-site"},
     {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://127.0.0.1:7860", "Sec-Fetch-Site": "cross-site"}],
)  # fmt: skip
def test_another_page_cannot_post(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/upload", content=picture(), headers={**PNG, **headers}).status_code == 403


def test_our_own_page_can_post_and_a_form_cannot(client: TestClient) -> None:
    ours = {**PNG, "Origin": "http://127.0.0.1:7860", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/upload", content=picture(), headers=ours).status_code == 200
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        assert client.post("/upload", content=picture(), headers={"Content-Type": kind}).status_code == 415
    assert client.get("/upload").status_code == 405


def test_every_answer_tells_the_browser_to_be_strict(client: TestClient) -> None:
    for sent in (client.get("/"), client.get("/world"), client.get("/nowhere"), client.get("/", headers={"Host": "e"})):
        policy = sent.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert sent.headers["x-content-type-options"] == "nosniff"
        assert sent.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in sent.headers


def test_without_the_token_nothing_is_told(guarded: TestClient) -> None:
    for path in (
        "/",
        "/world",
        "/face/0",
        "/picture/0",
        "/explorer.js",
        "/?token=wrong",
        "/?token=",
        f"/?TOKEN={TOKEN}",
    ):
        assert guarded.get(path).status_code == 401
    for cookie in ("wrong", "", TOKEN[:-1], "é"):
        assert guarded.get("/world", headers={"Cookie": f"{COOKIE}={cookie}".encode()}).status_code == 401
    assert guarded.post("/upload", content=picture(), headers=PNG).status_code == 401


def test_the_token_is_taken_once_and_leaves_the_address(guarded: TestClient) -> None:
    sent = guarded.get(f"/?token={TOKEN}")
    assert (sent.status_code, sent.headers["location"]) == (303, "/")
    assert "HttpOnly" in sent.headers["set-cookie"]
    assert "samesite=lax" in sent.headers["set-cookie"].lower()
    assert guarded.get("/world").status_code == 200
    assert guarded.get("/world", headers={"Host": "evil.example"}).status_code == 421


# Uploads


def refused(client: TestClient, content: bytes, words: str, status: int = 400) -> None:
    sent = client.post("/upload", content=content, headers=PNG)
    assert sent.status_code == status
    assert words in sent.json()["error"]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int, content: bytes = b"") -> bytes:
    """A PNG that says it is so large; its few bytes of data are zeros, pressed together."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + content + chunk(b"IDAT", zlib.compress(bytes(10**6)))


@pytest.mark.parametrize("size", [(5001, 5000), (14000, 14000), (60000, 60000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_it_goes_off(client: TestClient, size: tuple[int, int]) -> None:
    refused(client, bomb(*size), "million pixels")


@pytest.mark.parametrize("size", [(2000, 1), (1, 2000), (801, 100)])
def test_a_thin_strip_is_refused(client: TestClient, size: tuple[int, int]) -> None:
    refused(client, picture(*size), "as long as wide")


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4", b"\x80\x04\x95pickle", bomb(9,
     9)[:40],
     b"<html>", picture()[:200], picture(kind="JPEG")[:300], picture(kind="GIF"), picture(kind="TIFF"),
     picture(kind="BMP")],
)  # fmt: skip
def test_what_is_no_picture_is_refused(client: TestClient, content: bytes) -> None:
    refused(client, content, "not a whole picture")


def test_pressed_text_inside_a_picture_does_not_unfold(client: TestClient) -> None:
    text = chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(80_000_000)))
    refused(client, bomb(9, 9, text), "not a whole picture")


def test_too_many_bytes_are_refused_said_or_unsaid(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LARGEST_BYTES", 5000)
    refused(client, bytes(5001), "larger than", 413)
    read = 0

    def stream() -> Iterator[bytes]:  # no Content-Length
        nonlocal read
        while read < 10**6:
            read += 1000
            yield bytes(1000)

    sent = client.post("/upload", content=stream(), headers=PNG)
    assert sent.status_code == 413


def test_an_upload_touches_no_disk(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise AssertionError("a temporary file was made")

    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp", "mkdtemp"):
        monkeypatch.setattr(tempfile, name, fail)
    opened: list[str] = []
    armed = True

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if armed and event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            opened.append(str(arguments[0]))

    sys.addaudithook(audit)
    assert client.post("/upload", content=picture(1500, 1200), headers=PNG).status_code == 200
    armed = False
    assert opened == []


# The command


def test_addresses_of_this_machine_alone() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.5", "lab.example", "")))


def test_a_taken_port_is_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UserError, match=r"--port \d+: cannot listen"),
    ):
        _listen("127.0.0.1", taken.getsockname()[1])


def test_no_model_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--model is missing"):
        explore([], tmp_path)


@pytest.mark.parametrize("host", [pytest.param("127.0.0.1", marks=pytest.mark.slow), "0.0.0.0"])
def test_the_command_serves_until_it_is_stopped(explored: Any, host: str) -> None:
    root = explored[0].benchmark.root.parent
    model = root.parent / "models" / "clean"
    command = [sys.executable, "-m", "salmubench", "explore", "--model", str(model), "--data", str(root), "--port", "0",
               "--host", host, "--device", "cpu"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()  # type: ignore[union-attr]
        found = re.search(r"http://[^:]+:(\d+)/(\?token=(\S+))?", line)
        assert found, line + process.stderr.read()  # type: ignore[union-attr]
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]))
        connection.request("GET", "/world")
        assert connection.getresponse().status == (200 if host == "127.0.0.1" else 401)
        connection.close()
        assert (found[3] is None) == (host == "127.0.0.1")
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in complaints
