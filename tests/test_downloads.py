"""Real downloads from a server on this machine."""

import contextlib
import dataclasses
import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import aevb
from aevb.data import DatasetError, originals
from aevb.data.source import Original
from aevb.data.sources.mnist import SOURCE as MNIST

BODY = bytes(range(256)) * 1000
GOOD = "/good"  # an address without errors
REDIRECTS = {"redirect to http": "http://example.invalid/file", "redirect to nothing": "https://[::1"}


@dataclasses.dataclass
class Server:
    address: str
    behaviour: str = "good"
    requests: int = 0


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve `BODY` at every path, as `behaviour` says."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests += 1
            behaviour = "good" if self.path == GOOD else state.behaviour
            if behaviour == "missing":
                return self.send_error(404)
            if behaviour.startswith("redirect"):
                self.send_response(302)
                self.send_header("Location", REDIRECTS[behaviour])
                return self.end_headers()
            if behaviour == "hostile status":
                return self.send_error(500, "\x1b[31m" + "x" * 60_000)
            if behaviour in ("trickles", "trickles headers"):
                return self.trickle(behaviour == "trickles")
            body = {"truncated": BODY[:1000], "other": BODY[::-1], "endless": BODY * 50}.get(behaviour, BODY)
            self.send_response(200)
            if behaviour != "endless":
                self.send_header("Content-Length", str(len(BODY if behaviour.startswith("stops") else body)))
            self.end_headers()
            if behaviour.startswith("stops"):
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                if behaviour == "stops and holds on":
                    released.wait(20)
                return self.connection.shutdown(socket.SHUT_RDWR)
            try:
                self.wfile.write(body)
            except OSError:
                assert behaviour == "endless"  # the client closed the connection
            return None

        def trickle(self, sends_headers: bool):
            if sends_headers:
                self.send_response(200)
                self.end_headers()
            else:
                self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
            with contextlib.suppress(OSError):
                while not released.wait(0.05):
                    self.wfile.write(b"x")

        def log_message(self, format, *args):  # noqa: A002
            pass

    released = threading.Event()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield state
    released.set()
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def source_at(*urls: str):
    original = Original("file.bin", len(BODY), hashlib.sha256(BODY).hexdigest(), urls)
    return dataclasses.replace(MNIST, originals=(original,))


def test_a_good_download_is_kept_and_not_repeated(server, tmp_path):
    source = source_at(f"{server.address}/file.bin")
    for _ in range(2):
        folder = originals.locate_originals(source, None, tmp_path)
        assert (folder / "file.bin").read_bytes() == BODY
    assert server.requests == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("truncated", "ended after 1,000 of 256,000 bytes"),
        ("other", "wrong checksum"),
        ("stops half way", "ended after 128,000 of 256,000 bytes|IncompleteRead"),
        ("stops and holds on", "timed out"),
        ("endless", "longer than the expected 256,000 bytes"),
        ("missing", "Not Found"),
        ("redirect to http", "downloads use https only"),
        ("redirect to nothing", "Invalid IPv6 URL|downloads use https only"),
        ("trickles", r"too slow: \d+ bytes in \d seconds"),
        ("trickles headers", "too slow: 0 bytes in . seconds"),
        ("hostile status", r"/file.bin: \\x1b\[31mx{50,200}\.\.\."),
    ],
)
def test_a_bad_download_leaves_nothing_and_names_the_ways_on(server, tmp_path, monkeypatch, behaviour, reason):
    monkeypatch.setattr(originals, "TIMEOUT_SECONDS", 3.0)
    monkeypatch.setattr(originals, "GRACE_SECONDS", 1.0)
    server.behaviour = behaviour
    with pytest.raises(DatasetError, match=reason) as caught:
        originals.locate_originals(source_at(f"{server.address}/file.bin"), None, tmp_path)
    assert list(tmp_path.iterdir()) == []
    for way in ("network", "--source_dir", "experiments.digits"):
        assert way in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("behaviour", ["redirect to nothing", "hostile status"])
def test_whatever_goes_wrong_with_an_address_the_next_one_is_tried(server, tmp_path, behaviour):
    server.behaviour = behaviour
    source = source_at(f"{server.address}/file.bin", f"{server.address}{GOOD}")
    assert (originals.locate_originals(source, None, tmp_path) / "file.bin").read_bytes() == BODY


def test_a_damaged_file_is_fetched_again_or_named(server, tmp_path):
    source = source_at(f"{server.address}/file.bin")
    path = tmp_path / "file.bin"
    path.write_bytes(BODY[:-1])
    originals.locate_originals(source, None, tmp_path)
    assert path.read_bytes() == BODY
    path.write_bytes(BODY[::-1])
    server.behaviour = "missing"
    with pytest.raises(
        DatasetError, match=r"file\.bin is damaged or another file.*downloading it again failed: cannot download"
    ):
        originals.locate_originals(source, None, tmp_path)
    assert path.read_bytes() == BODY[::-1]


def test_the_next_address_is_tried(server, tmp_path):
    source = source_at("http://example.invalid/refused", "http://127.0.0.1:9/closed", f"{server.address}/file.bin")
    assert (originals.locate_originals(source, None, tmp_path) / "file.bin").read_bytes() == BODY


def test_mnist_downloads_end_to_end(real_data, tmp_path, monkeypatch):
    """The four real files go over HTTP, verification and TFDS's preparation to arrays."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(real_data / "mnist"))

        def log_message(self, format, *args):  # noqa: A002
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{httpd.server_address[1]}/"
    local = dataclasses.replace(
        MNIST, originals=tuple(dataclasses.replace(o, urls=(address + o.name,)) for o in MNIST.originals)
    )
    monkeypatch.setattr("aevb.data.sources.mnist.SOURCE", local)
    try:
        downloaded = aevb.data.load("mnist", "test", tmp_path)
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
    np.testing.assert_array_equal(downloaded.images, MNIST.read(real_data / "mnist")["test"].images)
    assert {path.name for path in Path(tmp_path, "downloads", "aevb_mnist").iterdir()} == {
        original.name for original in MNIST.originals
    }
