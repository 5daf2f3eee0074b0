"""Tests of pipelined requests, which a client sends without waiting for responses (RFC 9112 §9.3.2). The server answers
the requests in order, and does not mistake the end of one response for the end of another. A malformed request does not
change the responses to the requests before it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from starlette.types import Receive, Scope, Send

from serverpy.api.protocol import LEFT
from serverpy.api.request_limits import HEADER_FIELDS
from serverpy.sample.site import SampleSite
from tests.aio import eventually, wait_for
from tests.api.test_leaving import BIG, SMALL_BUFFER, until_asked, until_health
from tests.api.test_request_pieces import BAD, CHUNKED, GET, HOST, echo, ends, sized
from tests.api.test_request_time import connected
from tests.server import Server, serving
from tests.wire import request


@pytest.fixture(scope="module")
def verbose(site: SampleSite) -> Iterator[Server]:
    """Run a server that logs the end of each stream. At the end of the test, the server exits without an error only if
    no response is pending."""
    with serving(site, wait_seconds=30, log_level="info") as running:
        yield running


def pipelined(server: Server, *targets: str) -> bytes:
    return b"".join(request(target, f"127.0.0.1:{server.port}") for target in targets)


def test_the_server_notices_that_a_client_disconnects_during_the_response_to_its_second_pipelined_request(
    verbose: Server, site: SampleSite
) -> None:
    """The server is still closing the stream of the first pipelined request when it begins the stream of the second
    request."""
    before = len(site.requests)
    first = verbose.target("/page/webm", method="embedded")
    second = verbose.target("/page/fault/throttle=50000/prog.mp4", method="relay")
    with verbose.send(pipelined(verbose, first, second)) as exchange:
        assert exchange.rest().complete
        until_asked(site, "/media/prog.mp4", before)
        until_health(verbose, streams=1)
    verbose.settled()


def test_the_server_notices_that_a_client_disconnects_during_the_response_to_its_first_pipelined_request(
    verbose: Server,
) -> None:
    with verbose.send(pipelined(verbose, verbose.target(BIG), "/health"), receive_bytes=SMALL_BUFFER) as exchange:
        exchange.read(1)
        until_health(verbose, streams=1)
    verbose.settled()


def test_the_server_notices_that_a_client_disconnects_after_sending_a_second_pipelined_request(
    verbose: Server, site: SampleSite
) -> None:
    before = len(site.requests)
    with verbose.open("/page/slow?seconds=60&for=more") as exchange:
        until_asked(site, "/page/slow", before)
        exchange.send(pipelined(verbose, "/health"))
        until_health(verbose, streams=1)
    verbose.settled()


def test_the_server_closes_the_connection_of_a_cut_stream_even_if_a_pipelined_request_is_pending(
    verbose: Server,
) -> None:
    page = "/page/fault/cut=1000000,norange,nolength,id=pipelined/prog.mp4"
    with verbose.send(pipelined(verbose, verbose.target(page, method="embedded"), "/health")) as exchange:
        assert not exchange.rest().complete
    wait_for(lambda: "embedded: upstream_failed" in verbose.log, lambda: verbose.log)
    verbose.settled()


def test_the_server_closes_a_connection_with_too_many_pipelined_requests(verbose: Server) -> None:
    """Each pending request uses memory, and one packet can carry thousands of requests."""
    slow = verbose.target("/page/slow?seconds=60&for=pipelining")
    with verbose.send(pipelined(verbose, slow, *["/health"] * 5000)) as exchange:
        assert exchange.read(1) == b""
        assert exchange.ended
    verbose.settled()


# Malformed requests after valid ones

HEAD = GET.replace(b"GET", b"HEAD")
MALFORMED = {
    "no HTTP": (b"this is not HTTP\r\n\r\n", 400),
    "two spaces in the request line": (BAD, 400),
    "no Host": (b"GET /next HTTP/1.1\r\n\r\n", 400),
    "a field without a colon": (b"GET /next HTTP/1.1\r\n" + HOST + b"Accept\r\n\r\n", 400),
    "an unknown transfer coding": (CHUNKED.replace(b"chunked", b"gzip"), 400),
    "no number as Content-Length": (sized(b"").replace(b"0", b"x"), 400),
    "no end of the header fields": (b"GET /next HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 1000 * HEADER_FIELDS, 431),
    "no number as the size of a chunk": (CHUNKED + b"no size\r\n", 400),
}


@dataclass
class Gate:
    """ASGI application that lists the requests. It sends the first byte of each body at once and, if `begins` is false,
    the head, too, after `opened`; then it sends the second and last byte."""

    begins: bool = True
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests.append(scope["path"])
        scope["extensions"][LEFT](lambda: self.left.append(scope["path"]))
        if not self.begins:
            await self.opened.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await self.opened.wait()
        await send({"type": "http.response.body", "body": b"x"})
        scope["extensions"][LEFT](None)


def answers(data: bytes, *, without_body: int | None = None) -> list[tuple[int, bytes]]:
    """Return the status and the body of each response in `data`. The response with the index `without_body` responds to
    HEAD."""
    found: list[tuple[int, bytes]] = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = 0 if without_body == len(found) else int(fields[b"content-length"])
        assert len(data) >= length
        found.append((int(head.split()[1]), data[:length]))
        data = data[length:]
    return found


@pytest.mark.parametrize("kind", MALFORMED)
@pytest.mark.parametrize("first", [GET, HEAD, sized(b"{}")], ids=["get", "head", "post"])
async def test_a_request_is_answered_if_a_malformed_request_arrives_in_the_same_packet(first: bytes, kind: str) -> None:
    malformed, status = MALFORMED[kind]
    async with connected(echo) as (reader, writer, _):
        writer.write(first + malformed + GET)
        good, refused = answers(await ends(reader), without_body=0 if first is HEAD else None)
    assert good == (200, {GET: b"[/next? ]", HEAD: b""}.get(first, b"[/echo? {}]"))
    assert refused[0] == json.loads(refused[1])["status"] == status


@pytest.mark.parametrize("kind", MALFORMED)
@pytest.mark.parametrize("begins", [False, True])
async def test_a_request_is_answered_if_a_malformed_request_arrives_before_the_end_of_its_response(
    begins: bool, kind: str
) -> None:
    """The malformed request arrives before the head of the response, or in the middle of its body."""
    malformed, status = MALFORMED[kind]
    gate = Gate(begins)
    async with connected(gate) as (reader, writer, made):
        writer.write(GET)
        await eventually(lambda: gate.requests)
        writer.write(malformed)
        await eventually(lambda: made[0]._is_over)
        gate.opened.set()
        statuses = [status for status, _ in answers(await ends(reader))]
    assert statuses == [200, status]
    assert gate.requests == ["/next"]
    assert not gate.left


async def test_a_malformed_request_is_answered_after_all_requests_before_it() -> None:
    gate = Gate()
    async with connected(gate) as (reader, writer, _):
        writer.write(GET + HEAD + GET + BAD)
        gate.opened.set()
        assert [status for status, _ in answers(await ends(reader), without_body=1)] == [200, 200, 200, 400]


async def test_a_malformed_head_request_is_answered_without_a_body() -> None:
    async with connected(echo) as (reader, writer, _):
        writer.write(GET + b"HEAD /next HTTP/1.1\r\n\r\n")
        assert answers(await ends(reader), without_body=1) == [(200, b"[/next? ]"), (400, b"")]


@pytest.mark.parametrize("before", [[], [GET], [GET, GET]])
async def test_the_application_does_not_get_a_waiting_request_whose_body_is_malformed(before: list[bytes]) -> None:
    gate = Gate()
    async with connected(gate) as (reader, writer, made):
        writer.write(GET + b"".join(before) + CHUNKED + b"no size\r\n")
        await eventually(lambda: made and made[0]._is_over)
        gate.opened.set()
        statuses = [status for status, _ in answers(await ends(reader))]
    assert statuses == [200] * (1 + len(before)) + [400]
    assert gate.requests == ["/next"] * (1 + len(before))


async def test_the_application_learns_that_the_client_disconnects_before_a_refusal_is_sent() -> None:
    gate = Gate()
    async with connected(gate) as (_, writer, made):
        writer.write(GET + BAD)
        await eventually(lambda: made and made[0]._is_over)
        writer.transport.abort()
        await eventually(lambda: gate.left)
        gate.opened.set()


async def test_the_body_of_the_last_pipelined_request_reaches_the_application() -> None:
    async with connected(echo) as (reader, writer, _):
        writer.write(GET + sized(b"{}") + sized(b"[]"))
        for body in (b"[/next? ]", b"[/echo? {}]", b"[/echo? []]"):
            await reader.readuntil(body)


def test_a_stream_is_complete_if_a_malformed_request_arrives_in_the_middle_of_its_body(
    verbose: Server, site: SampleSite
) -> None:
    film, logged = site.path("prog.mp4").read_bytes(), len(verbose.log)
    target = verbose.target("/page/prog", method="relay")
    with verbose.send(pipelined(verbose, target), receive_bytes=SMALL_BUFFER) as exchange:
        until_health(verbose, streams=1)
        exchange.send(b"this is not HTTP\r\n\r\n")
        (status, body), refused = answers(exchange.everything())
    assert (status, body) == (200, film)
    assert refused[0] == 400
    wait_for(lambda: f": complete, {len(film)} bytes" in verbose.log[logged:], lambda: verbose.log)
    verbose.settled()


async def test_a_request_with_a_malformed_body_gets_no_second_response_if_its_response_is_complete() -> None:
    gate = Gate()
    gate.opened.set()
    async with connected(gate) as (reader, writer, _):
        writer.write(CHUNKED)
        await reader.readuntil(b"xx")
        writer.write(b"no size\r\n")
        assert await ends(reader) == b""
