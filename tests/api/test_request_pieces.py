"""Tests of the pieces in which the protocol passes received bytes to the HTTP parser: each request line is checked, and
no input makes the protocol call the parser for every few bytes."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serverpy.api.request_limits import BODY_BYTES, FRAMING_BYTES
from tests.aio import eventually
from tests.api.test_request_time import connected, stream

HOST = b"Host: 127.0.0.1\r\n"
GET = b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n"
BAD = b"GET /next  HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /echo HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application that reads the body, and responds with the path, the query and the body."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    body = b"[" + scope["path"].encode() + b"?" + scope["query_string"] + b" " + body + b"]"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of bytes that were passed to the parser, one for each call."""
    passed: list[int] = []
    receive = HttpToolsProtocol.data_received

    def counting(self: HttpToolsProtocol, data: bytes) -> None:
        passed.append(len(data))
        receive(self, data)

    monkeypatch.setattr(HttpToolsProtocol, "data_received", counting)
    return passed


def sized(body: bytes) -> bytes:
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


@pytest.mark.parametrize("unit", [b"\r\n\r\n", b"\r\n", b"GET  / HTTP/1.1\r\n\r\n", b"0\r\n\r\n"])
async def test_a_body_with_a_length_is_passed_to_the_parser_unchanged(calls: list[int], unit: bytes) -> None:
    body = unit * (BODY_BYTES // len(unit))
    async with connected(echo) as (reader, writer, _):
        writer.write(sized(body) + GET)
        received = await exactly(reader, b"[/next? ]")
        writer.write(sized(body) + BAD)
        refused = await ends(reader)
    assert received.count(b"[/echo? " + body + b"]") == 1
    assert refused.count(b"HTTP/1.1 400 ") == 1
    assert len(calls) < 1000  # the event loop reads a few KiB at a time at least


@pytest.mark.parametrize("unit", [b"\r\n\r\n", b"0\r\n\r\n", b"\r\n\r\nGET"])
async def test_a_chunked_body_with_many_empty_lines_is_refused(calls: list[int], unit: bytes) -> None:
    """The end of a chunked body ends with CRLF CRLF, so that the protocol must look at each of them."""
    async with connected(echo) as (reader, writer, _):
        writer.write(CHUNKED + chunk(unit * (BODY_BYTES // len(unit))))
        assert await ends(reader) == b""
    assert len(calls) < 3000


@pytest.mark.parametrize("body", [b"\r\n\r\n" * 100, b"{}", b"0\r\n\r\nGET  / HTTP/1.1\r\n\r\n"])
async def test_a_chunked_body_with_some_empty_lines_is_read_and_the_next_request_line_is_checked(body: bytes) -> None:
    async with connected(echo) as (reader, writer, _):
        writer.write(CHUNKED + chunk(body) + chunk(body) + b"0\r\nTrailer: x\r\n\r\n" + GET)
        received = await exactly(reader, b"[/next? ]")
        assert b"[/echo? " + body + body + b"]" in received
        writer.write(CHUNKED + chunk(body) + b"0\r\n\r\n" + BAD)
        assert (await ends(reader)).count(b"HTTP/1.1 400 ") == 1


@pytest.mark.parametrize("unit", [b"\r\n\r\n", b"\r\n", b"\n", b"\r"])
@pytest.mark.parametrize("before", [b"", GET])
async def test_endless_empty_lines_before_a_request_line_close_the_connection(
    calls: list[int], before: bytes, unit: bytes
) -> None:
    """The response to the request `before` is still being sent, if there is such a request."""
    async with connected(stream) as (reader, writer, _):
        writer.write(before)
        if before:
            await reader.readuntil(b"x\r\n")
        writer.write(unit * (2 * FRAMING_BYTES // len(unit)))
        await ends(reader)
    assert len(calls) < 1000


async def test_empty_lines_between_requests_are_passed_to_the_parser_in_one_call(calls: list[int]) -> None:
    async with connected(echo) as (reader, writer, _):
        writer.write(b"\r\n" * 1000 + GET + b"\r\n" * 1000 + GET)
        for _ in range(2):
            await reader.readuntil(b"[/next? ]")
    assert sorted(calls) == [len(GET), len(GET), 2000, 2000]


async def test_each_request_of_a_connection_may_have_empty_lines_before_it() -> None:
    async with connected(echo) as (reader, writer, _):
        for _ in range(4):
            writer.write(b"\r\n" * (FRAMING_BYTES // 4) + GET)
            await reader.readuntil(b"[/next? ]")


@pytest.mark.parametrize("first", [GET, sized(b"\r\n\r\n{}"), CHUNKED + chunk(b"{}") + b"0\r\n\r\n", b"\r\n\r\n" + GET])
async def test_the_request_line_of_a_further_request_is_checked_however_it_is_split(first: bytes) -> None:
    data = first + b"\r\n" + BAD
    for cut in range(1, len(data)):
        async with connected(echo) as (reader, writer, made):
            writer.write(data[:cut])
            await eventually(lambda: made and made[0].transport is not None)
            await asyncio.sleep(0)
            writer.write(data[cut:])
            received = await reader.read()
        statuses = received.count(b"HTTP/1.1 200 "), received.count(b"HTTP/1.1 400 ")
        assert statuses == (1, 1), cut


@pytest.mark.parametrize("authority", ["127.0.0.1", "127.0.0.1:8000", "LOCALHOST", "[::1]"])
@pytest.mark.parametrize("scheme", ["http", "HTTPS"])
@pytest.mark.parametrize("query", ["", "key=a&x=/y", "/ready"])
async def test_the_application_sees_the_path_and_the_query_of_an_absolute_target(
    scheme: str, authority: str, query: str
) -> None:
    """An absolute target without a path has the path `/` (RFC 9110 §4.2.3)."""
    mark = "?" if query else ""
    async with connected(echo) as (reader, writer, _):
        for path, seen in (("", "/"), ("/", "/"), ("/ready", "/ready"), ("/ready/", "/ready/")):
            writer.write(f"GET {scheme}://{authority}{path}{mark}{query} HTTP/1.1\r\n".encode() + HOST + b"\r\n")
            await reader.readuntil(f"[{seen}?{query} ]".encode())


async def exactly(reader: asyncio.StreamReader, end: bytes) -> bytes:
    """Return what arrives until `end`, which must be the last bytes that arrive."""
    received = b""
    while not received.endswith(end):
        data = await reader.read(65536)
        assert data, received[-1000:]
        received += data
    return received


async def ends(reader: asyncio.StreamReader) -> bytes:
    """Return what arrives until the server closes or resets the connection."""
    received = b""
    try:
        while data := await reader.read(65536):
            received += data
    except ConnectionError:
        pass
    return received
