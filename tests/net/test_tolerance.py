"""Tests with odd responses of real media servers. Both ServerPY's HTTP client, and yt-dlp behind the egress proxy,
accept the responses that browsers and curl accept. If another parser might read a response differently, the client does
not reuse its connection."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Callable, Iterator

import pytest

from serverpy.errors import UpstreamFailed
from serverpy.net.client import Client, Response
from serverpy.net.resume import open_resuming
from serverpy.net.session import Session
from tests.net.egress.clients import LOOPBACK, Fetch, by_requests, by_urllib
from tests.net.egress.threads import EgressThread
from tests.net.opening import OK, client, fetched, saying
from tests.net.origin import Origin
from tests.opening import rest_of

BODY = b"hello"
CHUNKS = b"5 \r\nhel" + b"lo\r\n0\r\n\r\n"


ODD = {
    "length and chunked": OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "chunked and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + CHUNKS,
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "two equal lengths": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "one list of lengths": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "identity": OK + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
    "identity until close": OK + b"Transfer-Encoding: identity\r\n\r\nhello",
    "lf only": b"HTTP/1.1 200 OK\nContent-Length: 5\nX: y\n\nhello",
    "lf and chunks": b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\r\nhello\n0\r\n\r\n",
    "folded": OK + b"X-Long: a\r\n  b\r\n\tc\r\nContent-Length:\r\n 5\r\n\r\nhello",
    "blank before colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "utf-8 in a name": OK + "Größe: 1\r\nContent-Length: 5\r\n\r\nhello".encode(),
    "blank in a name": OK + b"Two Words: 1\r\nContent-Length: 5\r\n\r\nhello",
    "control bytes": OK + b"X: a\x01b\x08\r\nContent-Length: 5\r\n\r\nhello",
    "cr in a value": OK + b"X: a\rb\r\nContent-Length: 5\r\n\r\nhello",
    "no colon": OK + b"nonsense\r\nContent-Length: 5\r\n\r\nhello",
    "blanks after a chunk's size": OK + b"Transfer-Encoding: chunked\r\n\r\n5  \r\nhello\r\n0 \r\n\r\n",
    "chunk extension": OK + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
    "203": b"HTTP/1.1 203 Non-Authoritative Information\r\nContent-Length: 5\r\n\r\nhello",
    "201": b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello",
    "226": b"HTTP/1.1 226 IM Used\r\nContent-Length: 5\r\n\r\nhello",
    "299": b"HTTP/1.1 299 Miscellaneous\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "http/2": b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "icy": b"ICY 200 OK\r\nicy-name: radio\r\n\r\nhello",
    "icy with lf": b"ICY 200 OK\nicy-br: 128\n\nhello",
    "endless length": OK + b"Content-Length: 18446744073709551615\r\n\r\nhello",
    "negative length": OK + b"Content-Length: -1\r\n\r\nhello",
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
    "102, 100": b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\nhello",
    "empty lines first": b"\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
    "lower case": b"http/1.1 200 ok\r\ncontent-length: 5\r\n\r\nhello",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
    "aws-chunked": OK + b"Content-Encoding: aws-chunked\r\nContent-Length: 5\r\n\r\nhello",
    "content coding none": OK + b"Content-Encoding: none \r\nContent-Length: 5\r\n\r\nhello",
    "content coding utf-8": OK + b"Content-Encoding: UTF-8\r\nContent-Length: 5\r\n\r\nhello",
    "content coding binary": OK + b"Content-Encoding: Identity, binary\r\nContent-Length: 5\r\n\r\nhello",
    "gzip": OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(BODY),
    "x-gzip": OK + b"Content-Encoding: x-gzip\r\nContent-Length: 25\r\n\r\n" + gzip.compress(BODY),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
async def test_the_client_reads_the_odd_responses_that_browsers_and_curl_read(answer: bytes) -> None:
    with Origin(saying(answer)) as origin:
        async with client() as made:
            assert await fetched(made, origin.url) == (200, BODY)


@pytest.fixture(scope="module")
def egress() -> Iterator[EgressThread]:
    with EgressThread(LOOPBACK) as thread:
        yield thread


NEEDS_OUR_PARSER = {"103", "102, 100", "lf and chunks"}
"""Responses that urllib and requests cannot read even through the egress proxy. The proxy must forward interim
responses (RFC 9110 §15.2), and does not change bodies. tests/ytdlp/test_http_client.py tests yt-dlp's own client with
these responses."""


@pytest.mark.parametrize("name", [name for name in ODD if name not in NEEDS_OUR_PARSER])
@pytest.mark.parametrize("fetch", [by_urllib, by_requests], ids=["urllib", "requests"])
def test_the_egress_repairs_odd_responses_for_urllib_and_requests(
    egress: EgressThread, fetch: Fetch, name: str
) -> None:
    with Origin(saying(ODD[name])) as origin:
        body = fetch(origin.url, egress.url).body
    assert body == BODY or gzip.decompress(body) == BODY  # urllib does not decompress the body


REFUSED = {
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "list of two lengths": OK + b"Content-Length: 6, 5\r\n\r\nhello!",
    "unknown transfer coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "other protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("answer", REFUSED.values(), ids=REFUSED)
async def test_an_ambiguous_or_malformed_response_raises_an_error(egress: EgressThread, answer: bytes) -> None:
    with Origin(saying(answer)) as origin:
        async with client() as made:
            with pytest.raises(UpstreamFailed):
                await fetched(made, origin.url)
        reply = await asyncio.to_thread(by_requests, origin.url, egress.url)
    assert (reply.status, reply.refused) == (502, "upstream_failed")


CUT = {
    "length": OK + b"Content-Length: 9\r\n\r\nhello",
    "chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "chunks with a length": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "gzip": OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(BODY)[:-1],
    "head": OK + b"Content-Length: 9\r\n",
    "nothing": b"",
    "103 alone": b"HTTP/1.1 103 Early Hints\r\n\r\n",
}


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT)
async def test_a_truncated_body_after_a_malformed_but_accepted_head_raises_upstream_failed(answer: bytes) -> None:
    with Origin(saying(answer)) as origin:
        async with client() as made:
            with pytest.raises(UpstreamFailed):
                await fetched(made, origin.url)


NEXT = OK + b"Content-Length: 5\r\n\r\nwrong"


@pytest.mark.parametrize(
    ("answer", "shares"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, True),
        (ODD["length and chunked"], False),
        (ODD["two equal lengths"], False),
        (ODD["identity"], False),
        (OK + b"Content-Length: 5\r\n\r\nhello" + NEXT, False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS + NEXT, False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS + b"garbage", False),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n" + NEXT, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", False),
    ],
)
async def test_the_connection_of_an_ambiguous_response_is_not_reused(answer: bytes, shares: bool) -> None:
    """The second response on a connection differs from the first one, so that the test would notice a reuse of the
    connection."""
    second = OK + b"Content-Length: 6\r\n\r\nshared"
    with Origin(saying(answer, second)) as origin:
        async with client() as made:
            first = await fetched(made, origin.url)
            again = await fetched(made, origin.url)
    assert first[1] == (b"" if first[0] == 204 else BODY)
    assert again == ((200, b"shared") if shares else first)


async def test_an_odd_response_that_arrives_byte_by_byte_is_read_as_if_it_arrived_at_once() -> None:
    def dripping(connection: socket.socket, head: bytes) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer = ODD[head.split(b" ")[1][1:].decode().replace("_", " ")]
        for at in range(len(answer)):
            connection.sendall(answer[at : at + 1])

    with Origin(dripping) as origin:
        async with client() as made:
            for name in ("length_and_chunked", "folded", "lf_and_chunks", "icy", "x-gzip", "103"):
                assert (await fetched(made, f"http://127.0.0.1:{origin.port}/{name}"))[1] == BODY


# --- internet radio


@pytest.mark.parametrize("last", [2**64 - 2, 2**63 - 2])
@pytest.mark.parametrize("total", ["*", "18446744073709551615", "9223372036854775807"])
async def test_an_internet_radio_stream_whose_content_range_is_endless_has_an_unknown_length(
    last: int, total: str
) -> None:
    head = (
        f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-{last}/{total}\r\nContent-Length: {last + 1}\r\n\r\n"
    )
    with Origin(saying(head.encode() + BODY)) as origin:
        async with client() as made:
            read = await open_resuming(At(made, origin.url), wait_seconds=1.0)
            assert (read.extent.end, read.partial) == (None, False)
            assert await rest_of(read) == BODY
            read.close()


class At:
    """Range source at one URL, without an extraction."""

    def __init__(self, made: Client, url: str) -> None:
        self._session = Session(made, {})
        self._url = url

    async def open(self, headers: dict[str, str]) -> Response:
        return await self._session.open(self._url, headers)

    async def renew(self) -> bool:
        return False


# --- content codings

LONG = bytes(range(256)) * 2000
CODED = gzip.compress(LONG)


@pytest.mark.parametrize("ranges", ["ignored", "whole", "honoured"])
async def test_a_read_of_a_compressed_body_has_no_length_and_supports_no_ranges(ranges: str) -> None:
    """The media server may support ranges of a compressed body, but their offsets count compressed bytes."""
    with Origin(compressed(ranges, cut=False)) as origin:
        async with client() as made:
            read = await open_resuming(At(made, origin.url), wait_seconds=1.0)
            assert (read.extent.first, read.extent.end, read.partial) == (0, None, False)
            assert (read.headers.get("content-length"), read.headers.get("etag")) == (None, None)
            assert await rest_of(read) == LONG
            read.close()


async def test_a_compressed_body_that_is_truncated_is_read_again_from_its_beginning() -> None:
    with Origin(compressed("honoured", cut=True)) as origin:
        async with client() as made:
            read = await open_resuming(At(made, origin.url), wait_seconds=1.0)
            assert await rest_of(read) == LONG
            read.close()
    assert len(origin.heads) >= 3


async def test_a_206_response_with_a_part_of_a_compressed_body_raises_an_error() -> None:
    part = b"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-9/100\r\nContent-Length: 10\r\nContent-Encoding: gzip\r\n\r\n"
    with Origin(saying(part + CODED[:10])) as origin:
        async with client() as made:
            with pytest.raises(UpstreamFailed, match="part of compressed"):
                await open_resuming(At(made, origin.url), wait_seconds=1.0)
    assert len(origin.heads) == 2


async def test_an_unknown_content_coding_raises_an_error_without_a_retry() -> None:
    with Origin(saying(OK + b"Content-Encoding: zstd\r\nContent-Length: 5\r\n\r\nhello")) as origin:
        async with client() as made:
            with pytest.raises(UpstreamFailed, match="zstd"):
                await open_resuming(At(made, origin.url), wait_seconds=1.0)
    assert len(origin.heads) == 1


def compressed(ranges: str, *, cut: bool) -> Callable[[socket.socket, bytes], None]:
    """Return a handler that always sends a compressed body. Depending on `ranges`, the handler ignores Range, answers
    with a 206 that contains the whole body, or sends the requested range. If `cut` is true, the handler sends only half
    of the first body that is requested without Range."""
    cuts = [True] if cut else []

    def handle(connection: socket.socket, head: bytes) -> None:
        fields = b'Content-Encoding: gzip\r\nETag: "x"\r\nAccept-Ranges: bytes\r\nContent-Length: '
        whole = b"bytes 0-%d/%d" % (len(CODED) - 1, len(CODED))
        if ranges == "ignored" or b"Range:" not in head:
            body = CODED[: len(CODED) // 2] if cuts and cuts.pop() else CODED
            connection.sendall(OK + fields + b"%d\r\n\r\n" % len(CODED) + body)
        elif ranges == "whole":
            head = b"HTTP/1.1 206 OK\r\nContent-Range: " + whole + b"\r\n"
            connection.sendall(head + fields + b"%d\r\n\r\n" % len(CODED) + CODED)
        else:
            head = b"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-99/%d\r\n" % len(CODED)
            connection.sendall(head + fields + b"100\r\n\r\n" + CODED[:100])

    return handle
