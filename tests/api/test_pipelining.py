"""Tests of pipelined requests, which a client sends without waiting for responses (RFC 9112 §9.3.2). The server answers
the requests in order, and does not mistake the end of one response for the end of another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.api.test_leaving import BIG, SMALL_BUFFER, until_asked, until_health
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


def test_a_malformed_pipelined_request_is_not_answered_in_the_middle_of_the_body_of_another_response(
    verbose: Server,
) -> None:
    with verbose.open(BIG, receive_bytes=SMALL_BUFFER) as exchange:
        exchange.read(1)
        exchange.send(b"this is not HTTP\r\n\r\n")
        answer = exchange.rest()
        assert not answer.complete
        assert b"bad_request" not in answer.body
    verbose.settled()


def test_the_server_closes_a_connection_with_too_many_pipelined_requests(verbose: Server) -> None:
    """Each pending request uses memory, and one packet can carry thousands of requests."""
    slow = verbose.target("/page/slow?seconds=60&for=pipelining")
    with verbose.send(pipelined(verbose, slow, *["/health"] * 5000)) as exchange:
        assert exchange.read(1) == b""
        assert exchange.ended
    verbose.settled()
