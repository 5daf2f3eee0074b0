"""Tests of valid but unusual requests: white space after field values, numbers with thousands of digits, and the header
fields Upgrade and Expect."""

from __future__ import annotations

import socket

import pytest

from tests.server import Server
from tests.wire import Answer

FILM = "/page/prog"
ENDLESS = "9" * 5000


def ask(server: Server, *fields: str, version: str = "1.1") -> Answer:
    lines = (f"GET {server.target(FILM, method='relay')} HTTP/{version}", *fields)
    with server.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")) as exchange:
        return exchange.rest()


@pytest.fixture(scope="module")
def film(server: Server) -> bytes:
    return server.site.path("prog.mp4").read_bytes()


@pytest.mark.parametrize("blanks", [" ", "\t", " \t \t", " " * 1000])
def test_white_space_after_the_value_of_a_header_field_is_ignored(server: Server, film: bytes, blanks: str) -> None:
    etag = server.get(FILM, method="relay", verb="HEAD").headers["etag"]
    fields = ("Host: 127.0.0.1", "Range: bytes=5-9", f"If-Range: {etag}", f"If-Match: {etag}", "X-Request-ID: odd-1")
    answer = ask(server, *(field + blanks for field in fields))
    assert (answer.status, answer.body) == (206, film[5:10])
    assert answer.headers["x-request-id"] == "odd-1"


def test_white_space_after_the_date_in_a_header_field_is_ignored(server: Server) -> None:
    modified = server.get(FILM, method="relay", verb="HEAD").headers["last-modified"]
    assert ask(server, "Host: 127.0.0.1", f"If-Modified-Since: {modified} ").status == 304


@pytest.mark.parametrize(
    ("value", "first", "end"),
    [
        (f"bytes=7-{ENDLESS}", 7, None),
        (f"bytes=-{ENDLESS}", 0, None),
        (f"bytes={'0' * 5000}7-{'0' * 5000}8", 7, 9),
    ],
)
def test_a_range_whose_numbers_have_thousands_of_digits_is_served(
    server: Server, film: bytes, value: str, first: int, end: int | None
) -> None:
    answer = ask(server, "Host: 127.0.0.1", f"Range: {value}")
    assert (answer.status, answer.body) == (206, film[first:end])


@pytest.mark.parametrize("value", [f"bytes={ENDLESS}-", f"bytes={ENDLESS}-{ENDLESS}", f"bytes={2**64}-"])
def test_a_range_whose_first_byte_position_exceeds_64_bits_is_refused_with_416(
    server: Server, film: bytes, value: str
) -> None:
    answer = ask(server, "Host: 127.0.0.1", f"Range: {value}")
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(film)}")


UPGRADES = [
    ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    ("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw=="),
    ("Connection: Upgrade", "Upgrade: TLS/1.0, HTTP/2.0"),
]


@pytest.mark.parametrize("offer", UPGRADES, ids=["h2c", "websocket", "tls"])
def test_an_upgrade_header_is_ignored_without_a_warning_in_the_log(server: Server, offer: tuple[str, ...]) -> None:
    """curl and Java offer HTTP/2 in the field Upgrade, and continue with HTTP/1.1 on the connection if the server
    ignores the offer."""
    head = "\r\n".join((f"HEAD {server.target(FILM, method='relay')} HTTP/1.1", "Host: 127.0.0.1", *offer))
    logged = len(server.log)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        for _ in range(3):
            sock.sendall(f"{head}\r\n\r\n".encode())
            assert head_of(sock).startswith(b"HTTP/1.1 200 ")
    assert "WARNING" not in server.log[logged:]


def test_an_http_1_0_client_gets_no_interim_response(server: Server) -> None:
    """An HTTP/1.0 client would read an interim 100 (Continue) as the final response (RFC 9110 §10.1.1)."""
    fields = "Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    for version, first in (("1.1", b"HTTP/1.1 100 Continue"), ("1.0", b"HTTP/1.1 400 Bad Request")):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
            sock.sendall(f"POST /links HTTP/{version}\r\n{fields}".encode())
            if version == "1.0":
                sock.sendall(b"{}")
            assert head_of(sock).startswith(first)


def head_of(sock: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        data = sock.recv(1)
        assert data, received
        received += data
    return received
