"""Tests of the limits of each client over HTTP: extractions in a time window, and concurrent streams."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.api.test_leaving import BIG, SMALL_BUFFER, until_asked
from tests.links import path_in, post
from tests.server import Server, serving
from tests.wire import Answer, request

LIMIT = 5
STREAMS = 2
CONNECTIONS = 60
FIELDS = ("ratelimit-policy", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
_addresses = itertools.count(1)


@pytest.fixture(scope="module")
def strict(site: SampleSite) -> Iterator[Server]:
    """Run a server with low limits. The server trusts this machine as a proxy, so a test can name the client in
    X-Forwarded-For."""
    rate = f"{LIMIT}/hour"
    with serving(
        site,
        rate_limit=rate,
        client_streams=STREAMS,
        client_connections=CONNECTIONS,
        trusted_proxies="127.0.0.1",
        open=True,
    ) as running:
        yield running


@pytest.fixture
def address() -> str:
    """Return a client address that no other test uses."""
    return f"203.0.113.{next(_addresses)}"


def info(server: Server, address: str, page: object, **options: str) -> Answer:
    return server.get(f"/page/prog?{address}-{page}", path="/info", headers={"X-Forwarded-For": address}, **options)


def spend_all(server: Server, address: str) -> None:
    for page in range(LIMIT):
        assert info(server, address, page).status == 200


def test_extractions_beyond_the_rate_limit_are_refused_with_429(strict: Server, address: str) -> None:
    remaining = [info(strict, address, page).headers["ratelimit-remaining"] for page in range(LIMIT)]
    assert remaining == ["4", "3", "2", "1", "0"]
    answer = info(strict, address, "more")
    assert (answer.status, answer.code) == (429, "rate_limited")
    policy, limit, left, reset = (answer.headers[name] for name in FIELDS)
    assert (policy, limit, left) == ("5;w=3600", "5", "0")
    assert 3000 < int(reset) <= 3600
    assert answer.headers["retry-after"] == reset
    assert f"Try again in {reset} seconds" in answer.json()["detail"]


def test_requests_for_cached_pages_do_not_count_against_the_rate_limit_and_are_not_refused(
    strict: Server, address: str
) -> None:
    spend_all(strict, address)
    answer = info(strict, address, 0)
    assert answer.status == 200
    assert not any(name in answer.headers for name in FIELDS)
    stream = strict.get(f"/page/prog?{address}-0", headers={"X-Forwarded-For": address})
    assert (stream.status, "ratelimit-limit" in stream.headers) == (200, False)


def test_extractions_for_get_and_head_requests_count_against_the_rate_limit_even_if_they_fail(
    strict: Server, address: str
) -> None:
    client = {"X-Forwarded-For": address}
    answers = [
        strict.get(f"/page/prog?{address}-s", headers=client),
        strict.get(f"/page/prog?{address}-h", verb="HEAD", headers=client),
        strict.get(f"/page/none?{address}-e", path="/info", headers=client),
        strict.get(f"/page/prog?{address}-m", method="subprocess", headers=client),
        strict.get(f"/page/none?{address}-f", headers=client),
        strict.get(f"/page/prog?{address}-g", headers=client),
    ]
    assert [answer.status for answer in answers] == [200, 200, 404, 200, 404, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["4", "3", "2", "1", "0", "0"]


def test_a_new_extraction_because_of_an_expired_media_url_counts_against_the_rate_limit(
    strict: Server, site: SampleSite, address: str
) -> None:
    size = site.path("prog.mp4").stat().st_size
    page = f"/page/fault/expire={size}/prog.mp4?{address}"
    assert strict.get(page, headers={"X-Forwarded-For": f"{address}8"}).status == 200
    spend_all(strict, address)
    answer = strict.get(page, headers={"X-Forwarded-For": address})
    assert (answer.status, answer.code) == (429, "rate_limited")
    assert strict.get(page, headers={"X-Forwarded-For": f"{address}9"}).headers["ratelimit-remaining"] == "4"


def test_issuing_a_link_counts_against_the_rate_limit_but_a_request_for_the_link_does_not(
    strict: Server, address: str
) -> None:
    client = {"X-Forwarded-For": address}

    def issue(page: int) -> Answer:
        return post(strict, {"url": f"{strict.site.http}/page/prog?{address}-{page}"}, headers=client)

    issued = [issue(page) for page in range(LIMIT + 1)]
    assert [answer.status for answer in issued] == [200] * LIMIT + [429]
    assert issued[0].headers["ratelimit-remaining"] == "4"
    answer = strict.ask(path_in(issued[0].json()), verb="HEAD", headers=client)
    assert (answer.status, "ratelimit-limit" in answer.headers) == (200, False)


def test_requests_for_routes_without_extraction_do_not_count_against_the_rate_limit(
    strict: Server, address: str
) -> None:
    spend_all(strict, address)
    for path in ("/ready", "/docs", "/openapi.json"):
        answer = strict.ask(path, headers={"X-Forwarded-For": address})
        assert (answer.status, "ratelimit-limit" in answer.headers) == (200, False)


def test_all_addresses_of_an_ipv6_network_share_one_rate_limit(strict: Server) -> None:
    for page in range(LIMIT):
        assert info(strict, f"2001:db8:7:1::{page + 1:x}", f"v6-{page}").status == 200
    assert info(strict, "2001:db8:7:1:ffff::1", "v6").status == 429
    assert info(strict, "2001:db8:7:2::1", "v6").status == 200


def test_an_ipv4_mapped_ipv6_address_shares_the_rate_limit_of_the_ipv4_address(strict: Server, address: str) -> None:
    spend_all(strict, address)
    assert info(strict, f"::ffff:{address}", "mapped").status == 429


def test_the_rate_limit_applies_to_all_requests_on_one_connection(strict: Server, address: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", strict.port, timeout=60)
    statuses = []
    for page in range(2 * LIMIT):
        target = strict.target(f"/page/prog?{address}-{page}", path="/info")
        connection.request("GET", target, headers={"X-Forwarded-For": address})
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    assert statuses == [200] * LIMIT + [429] * LIMIT


def test_the_rate_limit_applies_to_pipelined_requests(strict: Server, address: str) -> None:
    host = f"127.0.0.1:{strict.port}"
    requests = [
        request(
            strict.target(f"/page/prog?{address}-{page}", path="/info"),
            host,
            headers={"X-Forwarded-For": address} | ({"Connection": "close"} if page == 2 * LIMIT - 1 else {}),
        )
        for page in range(2 * LIMIT)
    ]
    received = b""
    with socket.create_connection(("127.0.0.1", strict.port), timeout=60) as connection:
        connection.sendall(b"".join(requests))
        while chunk := connection.recv(65536):
            received += chunk
    assert (received.count(b"HTTP/1.1 200 "), received.count(b"HTTP/1.1 429 ")) == (LIMIT, LIMIT)


def test_the_rate_limit_applies_to_requests_on_parallel_connections(strict: Server, address: str) -> None:
    with ThreadPoolExecutor(20) as pool:
        statuses = Counter(pool.map(lambda page: info(strict, address, page).status, range(20)))
    assert statuses == {200: LIMIT, 429: 20 - LIMIT}


def test_the_concurrent_requests_through_a_trusted_proxy_are_limited_for_each_client_that_the_proxy_names(
    strict: Server, site: SampleSite, address: str
) -> None:
    before = len(site.requests)
    client = {"X-Forwarded-For": address}
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            page = f"/page/slow?seconds=60&for={address}"
            stack.enter_context(strict.open(page, path="/info", headers=client))
        until_asked(site, "/page/slow", before)
        wait_for(lambda: strict.ask("/ready", headers=client).status == 429)
        refused = strict.ask("/ready", headers=client)
        assert (refused.code, refused.headers["retry-after"]) == ("rate_limited", "5")
        assert strict.ask("/ready", headers={"X-Forwarded-For": f"{address}9"}).status == 200
        assert strict.ask("/ready").status == 200
    wait_for(lambda: strict.ask("/ready", headers=client).status == 200)


def test_fifty_simultaneous_requests_for_one_page_count_as_one_extraction(
    strict: Server, site: SampleSite, address: str
) -> None:
    page = f"/page/slow?seconds=1&for={address}"
    before = len(site.requests)

    def ask(_: int) -> Answer:
        return strict.get(page, path="/info", headers={"X-Forwarded-For": address})

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    assert {answer.status for answer in answers} == {200}
    assert [answer.headers.get("ratelimit-remaining") for answer in answers].count("4") == 1
    assert sum("ratelimit-limit" in answer.headers for answer in answers) == 1
    assert 1 <= sum(address in str(asked) for asked in site.requests[before:]) <= 2  # yt-dlp may request the page twice
    assert info(strict, address, "next").headers["ratelimit-remaining"] == "3"


def test_streams_beyond_the_limit_on_concurrent_streams_are_refused_until_a_stream_ends(
    strict: Server, address: str
) -> None:
    client = {"X-Forwarded-For": address}
    first = strict.open(BIG, headers=client, receive_bytes=SMALL_BUFFER)
    second = strict.open(BIG, headers=client, receive_bytes=SMALL_BUFFER)
    with first, second:
        assert (first.status, second.status) == (200, 200)
        refused = strict.get(BIG, headers=client)
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (429, "rate_limited", "5")
        assert strict.get(BIG, verb="HEAD", headers=client).status == 200
        assert strict.get(BIG, path="/info", headers=client).status == 200
        with strict.open(BIG, headers={"X-Forwarded-For": f"{address}9"}, receive_bytes=SMALL_BUFFER) as other:
            assert other.status == 200
    strict.settled()
    assert strict.get(BIG, headers={**client, "Range": "bytes=0-9"}).status == 206


def test_a_client_at_its_limit_of_concurrent_streams_can_close_one_stream_and_open_another_at_once(
    strict: Server, address: str
) -> None:
    """A player that seeks closes its connection, and opens another before the server notices that the first connection
    is closed."""
    client = {"X-Forwarded-For": address}
    kept = strict.open(BIG, headers=client, receive_bytes=SMALL_BUFFER)
    left = strict.open(BIG, headers=client, receive_bytes=SMALL_BUFFER)
    with kept:
        for _ in range(20):
            left.leave()
            left = strict.open(BIG, headers=client, receive_bytes=SMALL_BUFFER)
            assert left.status == 200
        left.leave()
    strict.settled()


def test_head_requests_have_their_own_concurrency_limit_besides_that_of_streams(strict: Server, address: str) -> None:
    client = {"X-Forwarded-For": address}
    slow = f"/page/fault/delay=8,id={address}/prog.mp4"
    with ThreadPoolExecutor(STREAMS) as pool:
        waiting = [pool.submit(strict.get, slow, verb="HEAD", headers=client) for _ in range(STREAMS)]
        wait_for(lambda: strict.health()["streams"] == STREAMS)
        refused = strict.get(BIG, verb="HEAD", headers=client)
        assert (refused.status, strict.get(BIG, headers={**client, "Range": "bytes=0-9"}).status) == (429, 206)
        assert [each.result().status for each in waiting] == [200] * STREAMS
    strict.settled()


def test_clients_on_this_machine_may_open_more_streams_than_the_limit(strict: Server) -> None:
    streams = [strict.open(BIG, receive_bytes=SMALL_BUFFER) for _ in range(2 * STREAMS)]
    assert [stream.status for stream in streams] == [200] * (2 * STREAMS)
    for stream in streams:
        stream.leave()
    strict.settled()


def test_the_metrics_count_refused_requests_by_error_code(strict: Server, address: str) -> None:
    def refusals() -> float:
        text = strict.ask("/metrics").body.decode()
        (family,) = (each for each in text_string_to_metric_families(text) if each.name == "serverpy_refused")
        found = [sample.value for sample in family.samples if sample.labels == {"code": "rate_limited"}]
        return sum(found)

    spend_all(strict, address)
    before = refusals()
    assert info(strict, address, "more").status == 429
    assert refusals() == before + 1


def test_the_default_rate_limit_does_not_apply_to_clients_on_this_machine(server: Server) -> None:
    answer = server.get("/page/prog?a-page-that-nobody-asked-for", path="/info")
    assert (answer.status, "ratelimit-limit" in answer.headers) == (200, False)


def test_a_configured_rate_limit_applies_to_clients_on_this_machine(strict: Server) -> None:
    answers = [strict.get(f"/page/prog?local-{page}", path="/info") for page in range(3 * LIMIT)]
    assert answers[-1].status == 429
    assert answers[-1].headers["ratelimit-remaining"] == "0"
