"""Checks of what the cells must not change: a stream of another client, and what the server holds afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil

from tests.aio import wait_for
from tests.server import Server

HONEST = "/tube/watch/fault/throttle=700000,id=honest/headers"
"""A film of 5 MB that takes eight seconds."""
SMALL_BUFFER = 16 * 1024
SETTLE_SECONDS = 60.0


@contextlib.contextmanager
def unharmed(server: Server) -> Iterator[None]:
    """Read one honest stream after the other by relay during the block. Raises AssertionError unless each of them gets
    every byte."""
    right = hashlib.sha256(server.site.path("prog.mp4").read_bytes()).hexdigest()
    ended = threading.Event()

    def read() -> list[str]:
        found: list[str] = []
        while not found or not ended.is_set():
            answer = server.get(HONEST, method="relay")
            digest = hashlib.sha256(answer.body).hexdigest()
            found += [f"{answer.status}, {len(answer.body)} bytes" if digest != right else ""]
        return found

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            yield
        finally:
            ended.set()
            found = reading.result()
    harmed = [each for each in found if each]
    assert not harmed, f"{len(harmed)} of {len(found)} honest streams were harmed: {harmed}"


@contextlib.contextmanager
def nothing_left(server: Server) -> Iterator[None]:
    """Raise AssertionError if the server holds more after the block than before: streams, bytes, children or file
    descriptors."""
    server.settled()
    before = descriptors(server)
    yield
    wait_for(lambda: not left(server, before), lambda: f"left behind: {left(server, before)}", seconds=SETTLE_SECONDS)


def left(server: Server, before: int) -> dict[str, int]:
    health = server.health()
    found = {name: int(health[name]) for name in ("streams", "waiting", "buffered_bytes")}
    found["budget"] = int(health["budget"]["used"])
    found["descriptors"] = max(0, descriptors(server) - before)
    found["zombies"] = sum(each.status() == psutil.STATUS_ZOMBIE for each in server.children())
    return {name: number for name, number in found.items() if number}


def descriptors(server: Server) -> int:
    """Return the number of file descriptors of the serving process, without those of idle connections that it keeps to
    media servers, and of this request."""
    return int(server.health()["fds"])
