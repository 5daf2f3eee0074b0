"""Tests of valid but unusual requests: white space after field values, numbers with thousands of digits, absolute
targets, and the header fields Upgrade and Expect; and of invalid requests that the HTTP parser accepts."""

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


# Request lines and transfer codings


def send(server: Server, line: str, *fields: str, body: str = "") -> Answer:
    head = "\r\n".join((line, *(fields or ("Host: 127.0.0.1",)), "", ""))
    with server.send(f"{head}{body}".encode("latin-1")) as exchange:
        return exchange.rest()


@pytest.mark.parametrize("authority", ["127.0.0.1", "127.0.0.1:8000", "LOCALHOST", "[::1]"])
@pytest.mark.parametrize("scheme", ["http", "HTTPS"])
def test_an_absolute_target_is_served_as_its_path_and_query(server: Server, scheme: str, authority: str) -> None:
    """`test_request_pieces.py` checks the targets without a path."""
    assert send(server, f"GET {scheme}://{authority}/ready?x HTTP/1.1").status == 200


def test_an_absolute_target_without_a_host_is_refused(server: Server) -> None:
    assert send(server, "GET http:// HTTP/1.1").status == send(server, "GET http:///ready HTTP/1.1").status == 400


@pytest.mark.parametrize(
    "line", ["GET  /ready HTTP/1.1", "GET /ready  HTTP/1.1", "GET   /ready   HTTP/1.1", " GET /ready HTTP/1.1",
             "GET /ready HTTP/1.1 ", "GET /ready\tHTTP/1.1", "GET\t/ready HTTP/1.1", "GET  /\u00e4 HTTP/1.1",
             "HEAD  /ready HTTP/1.1", "POST  /links HTTP/1.1"],
)  # fmt: skip
def test_a_request_line_with_other_white_space_than_two_single_spaces_is_refused(server: Server, line: str) -> None:
    answer = send(server, line)
    assert (answer.status, answer.headers["connection"]) == (400, "close")


def test_empty_lines_before_a_request_line_are_ignored_but_its_white_space_is_checked(server: Server) -> None:
    for lines in ("\r\n", "\r\n\r\n"):
        assert send(server, f"{lines}GET /ready HTTP/1.1").status == 200
        assert send(server, f"{lines}GET  /ready HTTP/1.1").status == 400


def test_two_spaces_of_a_request_line_are_refused_if_they_arrive_separately(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (b"GET ", b" ", b"/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
            sock.sendall(piece)
        assert head_of(sock).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("cut", [None, 1, 2, 3, 4])
def test_the_request_line_of_a_further_request_is_checked(server: Server, cut: int | None) -> None:
    """The client sends both requests at once, or the last `cut` bytes of the first one together with the second one."""
    first, field = b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"Host: 127.0.0.1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = first + b"GET /ready  HTTP/1.1\r\n" + field
        for piece in (data[: len(first) - (cut or 0)], data[len(first) - (cut or 0) :]) if cut else (data,):
            sock.sendall(piece)
        received = b""
        while chunk := sock.recv(65536):
            received += chunk
    assert received.count(b"HTTP/1.1 200 OK") == 1
    assert received.count(b"HTTP/1.1 400 ") == 1


CHUNKS = "2\r\n{}\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "codings",
    [("gzip, chunked",), ("gzip", "chunked"), ("chunked, chunked",), ("chunked", "chunked"), ("identity, chunked",),
     ("chunked, gzip",), ("gzip",), ("identity",), ("x-new;a=b, chunked",), ("chunked;a=b",), ("",), (", chunked",)],
)  # fmt: skip
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_transfer_coding_other_than_chunked_is_refused(server: Server, method: str, codings: tuple[str, ...]) -> None:
    fields = [f"Transfer-Encoding: {coding}" for coding in codings]
    line = f"{method} {'/links' if method == 'POST' else '/ready'} HTTP/1.1"
    answer = send(server, line, "Host: 127.0.0.1", "Content-Type: application/json", *fields, body=CHUNKS)
    assert (answer.status, answer.code, answer.headers["connection"]) == (400, "bad_request", "close")


@pytest.mark.parametrize("coding", ["chunked", "CHUNKED", "Chunked "])
def test_a_chunked_request_is_read(server: Server, coding: str) -> None:
    field = f"Transfer-Encoding: {coding}"
    assert send(server, "GET /ready HTTP/1.1", "Host: 127.0.0.1", field, body=CHUNKS).status == 200
    assert send(server, "GET /ready HTTP/1.0", "Host: 127.0.0.1", field, body=CHUNKS).status == 400


def head_of(sock: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        data = sock.recv(1)
        assert data, received
        received += data
    return received
