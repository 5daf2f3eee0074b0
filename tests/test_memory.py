"""Tests of the memory, as the kernel counts it, that the server uses for streams and does not release after them. The
limits are wide, because precise measurements are left to the benchmark."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from serverpy.metrics import memory_of
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.server import Server, serving
from tests.wire import Exchange

MB = 1024 * 1024
BIG = "/media/large-64.mp4"
SMALL_BUFFER = 4096
IDLE_SECONDS = 60.0
"""Seconds to wait without requests. In this time, idle connections to media servers are closed."""


@pytest.fixture
def fresh(site: SampleSite) -> Iterator[Server]:
    """Run a server for a single test, because memory that other tests left in its caches must not be measured."""
    with serving(site, max_workers=12, wait_seconds=60, profile="medium") as running:
        warm_up(running)
        yield running


def warm_up(server: Server) -> None:
    """Make one request of each kind, because the first request of a kind loads modules and fills caches."""
    for page, method in itertools.product(("/page/prog", BIG), ("relay", "embedded")):
        with server.open(page, method=method) as exchange:
            exchange.read(2 * MB)
    for target in ("/nowhere", "/stream?url=x", "/metrics"):
        server.ask(target)
    server.settled()


def pss(server: Server) -> int:
    """Return the total PSS of the server and its yt-dlp processes in bytes."""
    return sum(memory_of(pid).pss for pid in (server.process.pid, *(each.pid for each in server.ytdlp_processes())))


@contextlib.contextmanager
def slow_clients(server: Server, count: int, method: str) -> Iterator[list[Exchange]]:
    """Open `count` streams whose clients read only when the test calls them. Closes the streams at the end of the
    block."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.open(BIG, method=method, receive_bytes=SMALL_BUFFER)) for _ in range(count)]


def largest_pss_while_reading(server: Server, clients: list[Exchange]) -> int:
    """Return the largest PSS of the server and its worker in bytes. The PSS is measured each time all clients have read
    another 100 kB, up to 400 kB."""
    seen = []
    for length in range(100_000, 500_000, 100_000):
        for client in clients:
            client.read(length)
        seen.append(pss(server))
    return max(seen)


def test_each_slow_client_of_a_merged_stream_adds_less_memory_than_the_server_reserves_for_it(site: SampleSite) -> None:
    page, count = "/page/hls-apart", 20
    with serving(site, wait_seconds=60, profile="medium") as server:
        warm_up(server)
        assert server.get(page).complete
        server.settled()
        before = pss(server)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.open(page, receive_bytes=SMALL_BUFFER)) for _ in range(count)]
            largest = largest_pss_while_reading(server, clients)
            health = server.health()
            assert health["streams"] == count
            assert (largest - before) / count <= health["budget"]["used"] / count <= 500_000


@pytest.mark.parametrize(("method", "count", "limit"), [("relay", 40, 0.5 * MB), ("embedded", 12, 3 * MB)])
def test_each_slow_client_adds_less_memory_to_the_server_than_the_limit_for_one_client(
    fresh: Server, method: str, count: int, limit: float
) -> None:
    before = pss(fresh)
    with slow_clients(fresh, count, method) as clients:
        largest = largest_pss_while_reading(fresh, clients)
        health = fresh.health()
        assert health["streams"] == count
        assert health["budget"]["used"] <= health["budget"]["total"]
    each = (largest - before) / count
    assert each < limit, f"{each / MB:.2f} MB"
    fresh.settled()


def test_after_300_requests_the_server_uses_no_more_memory_or_threads_or_descriptors_than_before(fresh: Server) -> None:
    ask_for_everything(fresh, 60)
    fill_the_pool(fresh)
    fresh.settled()
    before, figures = pss(fresh), figures_of(fresh)
    ask_for_everything(fresh, 300)
    fresh.settled()
    wait_for(
        lambda: grown(figures, figures_of(fresh)) == {},
        lambda: f"(before, after) of what has grown: {grown(figures, figures_of(fresh))}",
        seconds=IDLE_SECONDS,
    )
    growth = pss(fresh) - before
    assert growth < 8 * MB, f"{growth / MB:.2f} MB"


def fill_the_pool(server: Server) -> None:
    """Make the server start all threads of its thread pool. The pool grows with the number of concurrent requests."""
    with ThreadPoolExecutor(16) as clients:
        for _ in range(5):
            assert all(answer.status == 200 for answer in clients.map(lambda _: server.ask("/health"), range(16)))


def ask_for_everything(server: Server, count: int) -> None:
    """Send `count` requests of alternating kinds: streams by relay and embedded, streams that the client leaves early,
    and requests that fail."""
    kinds = itertools.cycle(
        ["whole", "left", "whole", "refused", "embedded", "left", "failed", "info", "head", "range"]
    )
    for kind in itertools.islice(kinds, count):
        if kind == "whole":
            assert server.get("/page/mp3").complete
        elif kind == "embedded":
            assert server.get("/media/photo-1.jpg", method="embedded").complete
        elif kind == "left":
            with server.open(BIG) as exchange:
                exchange.read(10_000)
        elif kind == "refused":
            assert server.ask("/stream?url=file:///etc/passwd").status == 400
        elif kind == "failed":
            assert server.get("/tube/watch/gone").status == 404
        elif kind == "info":
            assert server.get("/page/webm", path="/info").status == 200
        elif kind == "head":
            assert server.get("/page/webm", verb="HEAD").status == 200
        else:
            assert server.get("/page/webm", headers={"Range": "bytes=5-9"}).status == 206


def figures_of(server: Server) -> dict[str, int]:
    """Return the number of threads and file descriptors of the server and of its yt-dlp processes, the number of child
    processes, and the bytes of the budget in use."""
    processes = {"server": psutil.Process(server.process.pid), "worker": server.worker()}
    (processes["download process"],) = server.ytdlp_processes("download")
    figures = {f"threads of the {name}": each.num_threads() for name, each in processes.items()}
    figures |= {f"descriptors of the {name}": each.num_fds() for name, each in processes.items()}
    return {**figures, "children": len(server.children()), "budget": server.health()["budget"]["used"]}


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int, int]]:
    return {name: (before[name], number) for name, number in after.items() if number > before[name]}
