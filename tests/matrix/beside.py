"""Checks that run around the cells of the fault matrix: another client gets every byte of its streams, and the server
releases all resources afterwards."""

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
"""The path of a file of 5 MB that the sample site sends in eight seconds."""
SMALL_BUFFER = 16 * 1024
SETTLE_SECONDS = 60.0


@contextlib.contextmanager
def unharmed(server: Server) -> Iterator[None]:
    """Read one stream after another by `relay` during the block, as a client that does not misbehave. Raises
    AssertionError unless each stream has every byte."""
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
    assert not harmed, (
        f"{len(harmed)} of {len(found)} streams of the client without faults were incomplete or wrong: {harmed}"
    )


@contextlib.contextmanager
def nothing_left(server: Server) -> Iterator[None]:
    """Wait up to 60 s at the end of the block until the server has no streams, no waiting requests, no buffered or
    reserved bytes, no zombies, and no more file descriptors than before the block. Raises AssertionError if any of
    these remain."""
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
    """Return the number of file descriptors of the serving process. Does not count idle connections to media servers,
    nor the connection by which this function asks the server."""
    return int(server.health()["fds"])
