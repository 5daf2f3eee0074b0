"""Tests of responses that exceed a limit on what a media server may send. The request that got such a response fails
without a retry, and the metrics count the response. A body in many small chunks, as a live radio stream may have,
exceeds no limit."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading

import pytest

from serverpy.errors import UpstreamFailed
from serverpy.net.bounds import BoundExceeded, exceeded
from serverpy.net.http1 import Exchange
from serverpy.net.session import Session
from serverpy.tasks import spawn
from tests.aio import eventually
from tests.net.opening import OK, client, fetched, saying
from tests.net.origin import DEADLINE, Origin
from tests.net.reading import At, reading
from tests.opening import rest_of

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = b"x" * 9000
TOO_MUCH = {
    "fields": OK + b"X: x\r\n" * 101 + b"\r\n",
    "head_bytes": OK + b"X: %s\r\n" % LONG * 9,
    "interim_responses": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17 + OK + b"\r\n",
    "framing": CHUNKED + b"1;x=%s\r\na\r\n" % LONG * 30 + b"0\r\n\r\n",
}


@pytest.mark.parametrize("bound", TOO_MUCH)
async def test_a_request_whose_response_exceeds_a_bound_is_neither_repeated_nor_sent_to_a_renewed_url(
    bound: str,
) -> None:
    before = exceeded[bound]
    with Origin(saying(TOO_MUCH[bound])) as origin:
        async with client() as made:
            source = At(made, [origin.url, origin.url])
            with pytest.raises(BoundExceeded) as caught:
                async with reading(source) as read:
                    await rest_of(read)
    assert (len(origin.heads), exceeded[bound] - before, caught.value.of_transport) == (1, 1, False)


@pytest.mark.parametrize("bound", TOO_MUCH)
async def test_the_memory_of_a_refused_response_is_freed_without_the_garbage_collector(bound: str) -> None:
    """Many refused response heads fill the memory faster than the garbage collector runs."""
    gc.collect()
    gc.disable()
    try:
        with Origin(saying(TOO_MUCH[bound])) as origin:
            async with client() as made:
                with pytest.raises(BoundExceeded):
                    await fetched(made, origin.url)
        assert not [each for each in gc.get_objects() if isinstance(each, Exchange)]
    finally:
        gc.enable()


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 103 Early Hints\r\nX: x\r\n\r\n"], ids=["", "103"])
@pytest.mark.parametrize(("fields", "is_refused"), [(101, True), (100, False), (4000, True)])
async def test_a_head_with_too_many_fields_is_refused_before_it_is_complete(
    before: bytes, fields: int, is_refused: bool
) -> None:
    may_end, counted = threading.Event(), exceeded["fields"]

    def handle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(before + OK + b"X: x\r\n" * fields)
        may_end.wait(DEADLINE)
        connection.sendall(b"\r\n")

    with Origin(handle) as origin:
        async with client() as made:
            asked = spawn(fetched(made, origin.url), name="request")
            try:
                if is_refused:
                    await eventually(asked.done)
            finally:
                may_end.set()
            await asyncio.wait([asked])
    assert isinstance(asked.exception(), BoundExceeded) == is_refused
    assert exceeded["fields"] - counted == is_refused


async def test_the_metrics_count_responses_with_too_many_redirects_or_cookies() -> None:
    before = exceeded["redirects"], exceeded["cookies"]

    def redirect(connection: socket.socket, head: bytes) -> None:
        lines = b"Location: /%d\r\nContent-Length: 0\r\nConnection: close\r\n" % len(origin.heads)
        cookies = b"".join(b"Set-Cookie: c%d=v\r\n" % number for number in range(60 if len(origin.heads) == 1 else 0))
        connection.sendall(b"HTTP/1.1 302 Found\r\n" + lines + cookies + b"\r\n")

    with Origin(redirect) as origin:
        async with client() as made:
            with pytest.raises(UpstreamFailed, match="redirects"):
                await Session(made, {}).open(origin.url, {})
    assert (exceeded["redirects"] - before[0], exceeded["cookies"] - before[1]) == (1, 10)


SIGNATURE = b";chunk-signature=" + b"0" * 64
SMALL = [(1, b""), (1, b";a=b"), (100, b""), (100, SIGNATURE)]


@pytest.mark.parametrize(("length", "extension"), SMALL, ids=["byte", "byte and extension", "radio", "signed"])
async def test_a_body_in_many_small_chunks_is_read_to_its_end(length: int, extension: bytes) -> None:
    body = CHUNKED + b"%x%s\r\n%s\r\n" % (length, extension, bytes(length)) * 20_000 + b"0\r\n\r\n"
    with Origin(saying(body)) as origin:
        async with client() as made:
            assert await fetched(made, origin.url) == (200, bytes(length * 20_000))


async def test_chunks_after_a_response_head_of_nearly_the_maximum_size_are_read() -> None:
    head = OK + b"X: %s\r\n" % LONG * 7 + b"Transfer-Encoding: chunked\r\n\r\n"
    with Origin(saying(head + b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n")) as origin:
        async with client() as made:
            assert await fetched(made, origin.url) == (200, b"a" * 20_000)
