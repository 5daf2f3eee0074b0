"""HTTP/1.0 clients (old proxies, `ab`) get no chunked encoding: the body ends when the connection does."""

from __future__ import annotations

import socket

import pytest

from tests.server import Server


def ask(server: Server, page: str, method: str) -> tuple[bytes, bytes]:
    """Return the head and the body as they are on the wire. Raises ConnectionResetError if the connection is reset."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        sock.sendall(f"GET {server.target(page, method=method)} HTTP/1.0\r\n\r\n".encode())
        received = bytearray()
        while data := sock.recv(65536):
            received += data
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    return head.lower(), body


@pytest.mark.parametrize("method", ["relay", "embedded"])
def test_a_body_is_sent_without_transfer_encoding(server: Server, method: str) -> None:
    head, body = ask(server, "/page/prog", method)
    assert b"transfer-encoding" not in head
    assert body == server.site.path("prog.mp4").read_bytes()
    server.settled()


def test_a_body_that_is_cut_ends_in_a_reset(server: Server) -> None:
    with pytest.raises(ConnectionResetError):
        ask(server, "/page/fault/cut=1000000,norange,nolength,id=http10/prog.mp4", "embedded")
    server.settled()
