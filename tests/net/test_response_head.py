"""Tests of the response heads that browsers and curl accept, and of how these heads determine the end of the body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy.net.response_head import END, MAX_FIELDS, BadResponse, ResponseHead, parse_response

OK = b"HTTP/1.1 200 OK\r\n"


def parsed(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    return parse_response(b"\r\n".join([first, *lines, b"", b""]))


LENGTH = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("lines", "chunked", "length", "reusable"),
    [
        ((LENGTH,), False, 5, True),
        ((CHUNKED,), True, None, True),
        ((), False, None, False),
        # Several lengths, or a length and a coding (RFC 9112 §6.3). The client must not reuse the connection.
        ((LENGTH, CHUNKED), True, None, False),
        ((CHUNKED, LENGTH), True, None, False),
        ((LENGTH, LENGTH), False, 5, False),
        ((b"Content-Length: 5, 5",), False, 5, False),
        ((b"Content-Length: 5", b"content-length: 05"), False, 5, False),
        ((CHUNKED, CHUNKED), True, None, False),
        # Invalid or unusual transfer codings
        ((b"Transfer-Encoding: identity", LENGTH), False, 5, False),
        ((b"Transfer-Encoding: identity",), False, None, False),
        ((b"Transfer-Encoding: none", LENGTH), False, 5, False),
        ((b"Transfer-Encoding: binary", LENGTH), False, 5, False),
        ((b"Transfer-Encoding: identity, chunked",), True, None, False),
        ((b"Transfer-Encoding:", LENGTH), False, 5, False),
        ((b"Transfer-Encoding: Chunked ",), True, None, True),
        ((b'Transfer-Encoding: "chunked"', LENGTH), True, None, False),
        ((b"Transfer-Encoding: 'Chunked';q=1",), True, None, False),
        ((b'Content-Length: "5"',), False, 5, False),
        # Invalid lengths
        ((b"Content-Length: -1",), False, None, False),
        ((b"Content-Length: 18446744073709551615",), False, None, False),
        ((b"Content-Length: 9223372036854775807",), False, None, False),
        ((b"Content-Length:",), False, None, False),
        ((b"Content-Length: 5 bytes",), False, None, False),
        # Sloppy header lines that browsers and curl accept
        ((b"Content-Length : 5",), False, 5, True),
        ((b"Content-Length\t:\t5\t",), False, 5, True),
        ((b"Content-Length:", b"  5"), False, 5, True),
        ((b"no colon", LENGTH), False, 5, True),
        ((b": no name", LENGTH), False, 5, True),
        (("Größe: 3".encode(), LENGTH), False, 5, True),
        ((b"Two Words: 3", LENGTH), False, 5, True),
        ((b"X-Control: a\x01\x7f\x00b", LENGTH), False, 5, True),
        ((b"X-Return: a\rContent-Length: 9", LENGTH), False, 5, True),
        # Connections that the server closes after the response
        ((LENGTH, b"Connection: close"), False, 5, False),
        ((LENGTH, b"Connection: x, Close"), False, 5, False),
    ],
)
def test_the_client_finds_the_same_end_of_a_body_as_browsers_and_curl(
    lines: tuple[bytes, ...], chunked: bool, length: int | None, reusable: bool
) -> None:
    head = parsed(*lines)
    assert (head.status, head.chunked, head.length, head.reusable) == (200, chunked, length, reusable)
    framing = [field for field in head.fields if field[0].lower() in ("content-length", "transfer-encoding")]
    assert [value.lower() for _, value in framing] == (["chunked"] if chunked else [str(length)] if length else [])


@pytest.mark.parametrize(
    "lines",
    [
        (LENGTH, b"Content-Length: 6"),
        (b"Content-Length: 5, 6",),
        (LENGTH, b"Content-Length: x"),
        (b"Content-Length: 0", b"Content-Length: 18446744073709551616"),
        (CHUNKED, LENGTH, b"Content-Length: 6"),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: x-compress",),
        (b"Transfer-Encoding: chunked, br",),
        tuple(b"X-%d: x" % number for number in range(MAX_FIELDS + 1)),
    ],
)
def test_an_ambiguous_or_malformed_response_head_raises_bad_response(lines: tuple[bytes, ...]) -> None:
    with pytest.raises(BadResponse):
        parsed(*lines)


@pytest.mark.parametrize(
    ("line", "status", "rewritten"),
    [
        (b"HTTP/1.1 200 OK", 200, "HTTP/1.1 200 OK"),
        (b"HTTP/1.0 404", 404, "HTTP/1.0 404"),
        (b"HTTP/1.1  206  Partial", 206, "HTTP/1.1 206  Partial"),
        (b"http/1.1 200 ok", 200, "HTTP/1.1 200 ok"),
        (b"HTTP/1 200 OK", 200, "HTTP/1.0 200 OK"),
        (b"ICY 200 OK", 200, "HTTP/1.0 200 OK"),
        (b"icy 404 Resource Not Found", 404, "HTTP/1.0 404 Resource Not Found"),
        (b"HTTP/2.0 206 Partial Content", 206, "HTTP/1.1 206 Partial Content"),
        (b"HTTP/2 200", 200, "HTTP/1.1 200"),
        (b"http/3 404 Not Found", 404, "HTTP/1.1 404 Not Found"),
        ("HTTP/1.1 200 Größe".encode(), 200, "HTTP/1.1 200 Größe".encode().decode("latin-1")),
    ],
)
def test_a_malformed_status_line_that_browsers_accept_is_repaired(line: bytes, status: int, rewritten: str) -> None:
    head = parsed(LENGTH, first=line)
    assert (head.status, head.line) == (status, rewritten)


@pytest.mark.parametrize("line", [b"", b"ICY OK", b"HTTP/4 200", b"HTTP/1.1 20", b"HTTP/1.1 2000", b"SSH-2.0-x", b"OK"])
def test_an_invalid_or_unsupported_status_line_raises_bad_response(line: bytes) -> None:
    with pytest.raises(BadResponse):
        parsed(first=line)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_the_lines_of_a_response_head_may_end_with_lf_alone(line_end: bytes) -> None:
    head = parse_response(line_end.join([b"HTTP/1.1 200 OK", b"X-A: 1", b" 2", LENGTH, b"", b""]))
    assert head.fields == [("X-A", "1 2"), ("Content-Length", "5")]


@pytest.mark.parametrize("status", [204, 304, 103])
def test_a_response_with_a_status_that_has_no_body_ends_with_its_head(status: int) -> None:
    head = parsed(CHUNKED, first=b"HTTP/1.1 %d x" % status)
    assert (head.chunked, head.length) == (False, 0)


@pytest.mark.parametrize(("connection", "reusable"), [(b"", False), (b"Connection: Keep-Alive", True)])
def test_the_connection_of_an_http_1_0_response_is_reusable_only_if_the_response_has_keep_alive(
    connection: bytes, reusable: bool
) -> None:
    for first in (b"HTTP/1.0 200 OK", b"ICY 200 OK"):
        assert parsed(LENGTH, connection, first=first).reusable is reusable


@given(st.binary(max_size=300))
def test_any_bytes_are_either_parsed_as_a_response_head_or_raise_bad_response(data: bytes) -> None:
    """An accepted head has either one Content-Length, or Transfer-Encoding, or neither. No value contains a line
    break."""
    head = END.split(OK + data + b"\r\n\r\n")[0]
    try:
        found = parse_response(head)
    except BadResponse:
        return
    names = [name.lower() for name, _ in found.fields]
    assert names.count("content-length") + names.count("transfer-encoding") <= 1
    assert not any({*name, *value} & {*"\0\n\r"} for name, value in found.fields)
