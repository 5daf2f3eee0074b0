"""Tests of the HTTP client's connections: the address to which the client connects, and the requests that it sends on a
new connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import cast

import pytest

from serverpy.net import client as client_module
from serverpy.net.happy_eyeballs import MAX_HOSTS, Routes, first_to_connect, in_order
from serverpy.net.http1 import Request
from tests.net.egress.clients import LOOPBACK, by_requests
from tests.net.egress.threads import EgressThread
from tests.net.opening import OK, client, fetched, saying
from tests.net.origin import Origin
from tests.opening import rest_of

BODY = b"hello"

# --- kept connections


class Silent(asyncio.Protocol):
    """Server that answers only the first request of each connection. For further requests, the server sends only the
    bytes `interim`."""

    def __init__(self, seen: list[bytes], interim: bytes) -> None:
        self._seen = seen
        self._interim = interim
        self._asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._seen.append(data.split(b" ", 1)[0])
        answer = OK + b"Content-Length: 5\r\n\r\nhello"
        self._transport.write(self._interim if self._asked else answer)
        if self._asked and self._interim:
            asyncio.get_running_loop().call_later(0.1, self._transport.write, answer)
        self._asked = True


@asynccontextmanager
async def silent(interim: bytes = b"") -> AsyncIterator[tuple[str, list[bytes]]]:
    seen: list[bytes] = []
    server = await asyncio.get_running_loop().create_server(lambda: Silent(seen, interim), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", seen
    server.close()


async def test_a_request_that_gets_no_response_on_a_reused_connection_is_sent_again_on_a_new_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "KEPT_SECONDS", 0.05)
    async with silent() as (url, seen), client() as made:
        for _ in range(3):
            assert await fetched(made, url) == (200, BODY)
    assert len(seen) == 5


async def test_a_request_that_gets_an_interim_response_on_a_reused_connection_waits_for_the_final_response(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "KEPT_SECONDS", 0.05)
    async with silent(b"HTTP/1.1 103 Early Hints\r\n\r\n") as (url, seen), client() as made:
        for _ in range(2):
            assert await fetched(made, url) == (200, BODY)
    assert len(seen) == 2


async def test_a_post_is_never_sent_on_a_reused_connection() -> None:
    async with silent() as (url, seen), client() as made:
        await fetched(made, url)
        response = await made.open(Request(url=url, body=b"x"))
        assert await rest_of(response) == BODY
        response.close()
    assert seen == [b"GET", b"POST"]


# --- addresses


@pytest.mark.parametrize(
    ("addresses", "last", "order"),
    [
        (["::1", "::2", "1.1.1.1"], None, ["::1", "1.1.1.1", "::2"]),
        (["1.1.1.1", "1.1.1.2", "::1"], None, ["1.1.1.1", "::1", "1.1.1.2"]),
        (["::1", "1.1.1.1"], "1.1.1.1", ["1.1.1.1", "::1"]),
        (["::1", "::2", "1.1.1.1"], "::2", ["::2", "1.1.1.1", "::1"]),
        (["::1", "1.1.1.2"], "1.1.1.1", ["1.1.1.2", "::1"]),
        (["::1"], "1.1.1.1", ["::1"]),
        (["1.1.1.1"], None, ["1.1.1.1"]),
    ],
)
def test_connection_attempts_alternate_between_address_families_and_begin_with_the_last_address_that_worked(
    addresses: list[str], last: str | None, order: list[str]
) -> None:
    assert in_order(addresses, last) == order


def test_the_number_of_hosts_whose_last_working_address_is_remembered_is_bounded() -> None:
    routes = Routes()
    for number in range(MAX_HOSTS + 1):
        routes.remember(f"{number}.example", "1.1.1.1")
    assert routes.order("0.example", ["::1", "1.1.1.1"]) == ["::1", "1.1.1.1"]
    assert routes.order("1.example", ["::1", "1.1.1.1"]) == ["1.1.1.1", "::1"]


async def test_the_first_connection_attempt_that_succeeds_wins_and_the_others_are_cancelled() -> None:
    cancelled, discarded = [], list[int]()

    async def hanging() -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
        return 0  # this connection was made in spite of the cancellation

    async def failing() -> int:
        raise ConnectionRefusedError

    async def working() -> int:
        return 7

    assert await first_to_connect([hanging, failing, hanging, working], 0.0, discarded.append) == (3, 7)
    assert (len(cancelled), discarded) == (2, [0, 0])
    with pytest.raises(ConnectionRefusedError):
        await first_to_connect([failing, failing, failing], 30.0, discarded.append)
    assert await first_to_connect([failing, working], 30.0, discarded.append) == (1, 7)


@contextmanager
def unanswered(host: str, port: int, *, listening: bool) -> Iterator[None]:
    """Make connections to `host` and `port` fail during the block. If `listening` is true, connections time out,
    because the accept queue of the listening socket is full and the kernel drops further connections. Otherwise,
    connections are refused."""
    with ExitStack() as stack:
        if listening:
            stack.enter_context(socket.create_server((host, port), backlog=0))
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex((host, port))
        yield


@pytest.mark.parametrize("dead", ["silent", "refusing"])
async def test_an_address_that_does_not_work_delays_only_the_first_connection_to_its_host(
    monkeypatch: pytest.MonkeyPatch, dead: str
) -> None:
    async def lookup(host: str, port: int) -> Sequence[str]:
        return ("127.0.0.2", "127.0.0.1")

    with (
        Origin(saying(OK + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello")) as origin,
        unanswered("127.0.0.2", origin.port, listening=dead == "silent"),
    ):
        async with client(lookup=lookup) as made:
            url = f"http://host.example:{origin.port}/"
            assert await fetched(made, url) == (200, BODY)
            monkeypatch.setattr(client_module, "ATTEMPT_DELAY_SECONDS", 1000.0)
            assert await fetched(made, url) == (200, BODY)


@pytest.mark.parametrize("dead", ["silent", "refusing"])
def test_the_egress_proxy_also_remembers_which_address_of_a_host_works(dead: str) -> None:
    async def lookup(host: str, port: int) -> Sequence[str]:
        return ("127.0.0.2", "127.0.0.1")

    routes = Routes()
    with (
        Origin(saying(OK + b"Content-Length: 5\r\n\r\nhello")) as origin,
        unanswered("127.0.0.2", origin.port, listening=dead == "silent"),
    ):
        for number in range(2):
            with EgressThread(LOOPBACK, lookup=lookup, routes=routes) as egress:
                assert by_requests(f"http://host.example:{origin.port}/", egress.url).body == BODY
            assert routes.order("host.example", ("127.0.0.2", "127.0.0.1"))[0] == "127.0.0.1", number
