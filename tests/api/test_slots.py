"""Tests that 200 slow or idle clients of each kind at once do not prevent another client from getting a stream, even if
the server may open few file descriptors."""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.api.test_front_bounds import count
from tests.api.test_leaving import BIG, SMALL_BUFFER
from tests.server import Server, serving

ATTACKERS = 200
DESCRIPTORS = 256
"""Limit on the number of file descriptors of the server. This limit is too low for the connections and streams of all
attackers."""
HEAD = b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\n"
DOCUMENT = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST /links HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"


@pytest.fixture(scope="module")
def small(site: SampleSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server with a low limit on file descriptors, which allows eight streams at once."""
    python = tmp_path_factory.mktemp("limited") / "python"
    python.write_text(f'#!/bin/sh\nulimit -n {DESCRIPTORS}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with serving(
        site, python=str(python), max_streams=8, stall_timeout=2, wait_seconds=20, rate_limit="none", drain_seconds=1
    ) as running:
        yield running


def connect(server: Server, data: bytes) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    connection.settimeout(30)
    with contextlib.suppress(ConnectionError):
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(data)
    return connection


def drip(connections: list[socket.socket]) -> None:
    """Send one more byte on each connection that is still open."""
    for each in connections:
        with contextlib.suppress(OSError):
            each.send(b"x", socket.MSG_DONTWAIT)


def sip(connections: list[socket.socket]) -> None:
    """Read at most one byte from each connection."""
    for each in connections:
        with contextlib.suppress(OSError):
            each.recv(1, socket.MSG_DONTWAIT)


def half_close(connections: list[socket.socket]) -> None:
    for each in connections:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_WR)


def nothing(_connections: list[socket.socket]) -> None: ...


ATTACKS: dict[str, tuple[Callable[[Server], bytes], Callable[[list[socket.socket]], None]]] = {
    "connections that send nothing": (lambda _server: b"", nothing),
    "request heads that are sent byte by byte": (lambda _server: HEAD + b"a: b", drip),
    "request bodies that are sent byte by byte": (lambda _server: POST, drip),
    "idle connections": (lambda _server: HEAD + b"\r\n", nothing),
    "half-closed connections": (lambda _server: HEAD, half_close),
    "half-closed connections of streams": (
        lambda server: HEAD.replace(b"/ready", server.target(BIG).encode()) + b"\r\n",
        half_close,
    ),
    "streams that are not read": (
        lambda server: HEAD.replace(b"/ready", server.target(BIG).encode()) + b"\r\n",
        nothing,
    ),
    "streams that are read byte by byte": (
        lambda server: HEAD.replace(b"/ready", server.target(BIG).encode()) + b"\r\n",
        sip,
    ),
    "requests for a document that is not built yet": (lambda _server: DOCUMENT * 12, nothing),
    "responses that are not read": (lambda _server: DOCUMENT * 12, nothing),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_200_slow_or_idle_clients_do_not_prevent_another_client_from_getting_a_stream(
    small: Server, site: SampleSite, attack: str
) -> None:
    data, go_on = ATTACKS[attack]
    film = site.path("prog.mp4").read_bytes()
    with contextlib.ExitStack() as stack:
        attackers = [stack.enter_context(connect(small, data(small))) for _ in range(ATTACKERS)]
        for _ in range(3):
            go_on(attackers)
            assert small.ask("/ready").status == 200
        wait_for(
            lambda: go_on(attackers) is None and small.get("/page/prog", headers={"Range": "bytes=0-9"}).status == 206
        )
        assert small.get("/page/prog").body == film
        assert count(small, "connections_closed replaced") + count(small, "connections_closed all") > 0
    small.settled()


def test_the_test_process_may_open_enough_file_descriptors_for_all_attackers() -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > DESCRIPTORS + ATTACKERS, (
        "the tests need more file descriptors: raise the limit with `ulimit -n`"
    )
