"""Tests of HTTP/1.0 clients (old proxies, `ab`). The server sends them no chunked encoding, and a body ends when the
connection closes. Therefore, the server resets the connection if the body is incomplete."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.server import STOP_SECONDS, Server, serving

UNKNOWN_LENGTH = "/page/fault/norange,nolength/prog.mp4"
SLOW = "/page/fault/throttle=200000,norange,nolength/prog.mp4"
FEW = 50_000
BUG = """\
import sys

if "serve" in sys.orig_argv:
    from serverpy.delivery import Stream

    read = Stream.read

    async def read_some(self):
        self.count = getattr(self, "count", 0) + len(chunk := await read(self))
        if self.count > 2_000_000:
            raise RuntimeError("unforeseen")
        return chunk

    Stream.read = read_some
"""
"""A `sitecustomize` module that makes the server fail in the middle of every long stream."""


def ask(server: Server, page: str, method: str, meanwhile: Callable[[], None] | None = None) -> tuple[bytes, bytes]:
    """Return the head and the body of a response, without decoding either. Calls `meanwhile` once FEW bytes of the
    response have arrived. Raises ConnectionResetError if the connection is reset."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        sock.sendall(f"GET {server.target(page, method=method)} HTTP/1.0\r\n\r\n".encode())
        received = bytearray()
        while data := sock.recv(65536):
            received += data
            if meanwhile is not None and len(received) > FEW:
                meanwhile()
                meanwhile = None
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    return head.lower(), body


@pytest.mark.parametrize(
    ("page", "method"), [("/page/prog", "relay"), ("/page/prog", "embedded"), (UNKNOWN_LENGTH, "relay")]
)
def test_an_http_1_0_client_gets_a_body_without_transfer_encoding(server: Server, page: str, method: str) -> None:
    head, body = ask(server, page, method)
    assert b"transfer-encoding" not in head
    assert body == server.site.path("prog.mp4").read_bytes()
    server.settled()


def test_an_incomplete_body_ends_in_a_connection_reset(server: Server) -> None:
    with pytest.raises(ConnectionResetError):
        ask(server, "/page/fault/cut=1000000,norange,nolength,id=http10/prog.mp4", "embedded")
    server.settled()


def test_a_stream_ends_in_a_connection_reset_if_its_handler_raises_or_if_the_server_is_killed(
    site: SampleSite, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(BUG)
    with serving(site, complaints=True, python_path=tmp_path) as server:
        with pytest.raises(ConnectionResetError):
            ask(server, UNKNOWN_LENGTH, "relay")
        wait_for(lambda: "unforeseen" in server.log)  # a thread writes the log, so the line may appear later
        server.settled()
        with pytest.raises(ConnectionResetError):
            ask(server, SLOW, "relay", server.process.kill)


def test_a_stream_that_is_still_running_drain_seconds_after_the_signal_ends_in_a_connection_reset(
    site: SampleSite,
) -> None:
    with serving(site, drain_seconds=0.2, complaints=True) as server:  # uvicorn logs each cancelled request as an error
        with pytest.raises(ConnectionResetError):
            ask(server, SLOW, "relay", server.process.terminate)
        assert server.process.wait(STOP_SECONDS) == 0


def test_a_second_sigint_resets_the_connections_of_running_streams(site: SampleSite) -> None:
    with serving(site, drain_seconds=120, complaints=True) as server:

        def interrupt() -> None:
            server.process.send_signal(signal.SIGINT)
            wait_for(lambda: server.ask("/ready").status == 503)
            server.process.send_signal(signal.SIGINT)

        with pytest.raises(ConnectionResetError):
            ask(server, SLOW, "relay", interrupt)
        server.process.wait(STOP_SECONDS)
