"""Requests that a client sends without waiting for answers (RFC 9112 §9.3.2): one is answered after the other, and what
becomes of one is not mistaken for what becomes of another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.api.test_leaving import BIG, SMALL_BUFFER, until_asked, until_health
from tests.server import Server, serving
from tests.wire import request


@pytest.fixture(scope="module")
def telling(site: SampleSite) -> Iterator[Server]:
    """A server that tells of each stream's end. Its own end is clean only if no answer is still waited for."""
    with serving(site, wait_seconds=30, log_level="info") as running:
        yield running


def together(server: Server, *targets: str) -> bytes:
    return b"".join(request(target, f"127.0.0.1:{server.port}") for target in targets)


def test_leaving_during_the_second_answer_is_seen(telling: Server, site: SampleSite) -> None:
    """The first is still being closed when the second begins."""
    before = len(site.requests)
    first = telling.target("/page/webm", method="embedded")
    second = telling.target("/page/fault/throttle=50000/prog.mp4", method="relay")
    with telling.send(together(telling, first, second)) as exchange:
        assert exchange.rest().complete
        until_asked(site, "/media/prog.mp4", before)
        until_health(telling, streams=1)
    telling.settled()


def test_leaving_during_the_first_answer_is_seen(telling: Server) -> None:
    with telling.send(together(telling, telling.target(BIG), "/health"), receive_bytes=SMALL_BUFFER) as exchange:
        exchange.read(1)
        until_health(telling, streams=1)
    telling.settled()


def test_leaving_after_one_more_request_is_seen(telling: Server, site: SampleSite) -> None:
    before = len(site.requests)
    with telling.open("/page/slow?seconds=60&for=more") as exchange:
        until_asked(site, "/page/slow", before)
        exchange.send(together(telling, "/health"))
        until_health(telling, streams=1)
    telling.settled()


def test_a_cut_is_over_although_another_request_waits(telling: Server) -> None:
    page = "/page/fault/cut=1000000,norange,nolength,id=pipelined/prog.mp4"
    with telling.send(together(telling, telling.target(page, method="embedded"), "/health")) as exchange:
        assert not exchange.rest().complete
    wait_for(lambda: "embedded: upstream_failed" in telling.log, lambda: telling.log)
    telling.settled()


def test_what_is_not_http_is_not_answered_in_the_middle_of_a_body(telling: Server) -> None:
    with telling.open(BIG, receive_bytes=SMALL_BUFFER) as exchange:
        exchange.read(1)
        exchange.send(b"this is not HTTP\r\n\r\n")
        answer = exchange.rest()
        assert not answer.complete
        assert b"bad_request" not in answer.body
    telling.settled()


def test_more_than_some_requests_at_once_are_refused(telling: Server) -> None:
    """Each holds memory, and a packet has room for thousands."""
    slow = telling.target("/page/slow?seconds=60&for=pipelining")
    with telling.send(together(telling, slow, *["/health"] * 5000)) as exchange:
        assert exchange.read(1) == b""
        assert exchange.ended
    telling.settled()
