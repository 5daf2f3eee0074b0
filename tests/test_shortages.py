"""Tests of a server that runs out of file descriptors, threads, memory or disk space. The server answers requests with
503 (`busy`)."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from serverpy.errors import Busy, UpstreamFailed, shortage
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.server import Server, serving
from tests.wire import Answer


def wait_until_alone(server: Server) -> None:
    """Wait until the server has no open connection, because each connection takes a file descriptor."""
    process = psutil.Process(server.process.pid)
    wait_for(lambda: all(each.status == "LISTEN" for each in process.net_connections()))


def ask(server: Server, target: str) -> Answer:
    wait_until_alone(server)
    return server.ask(target)


@contextmanager
def few_descriptors(server: Server, more: int) -> Iterator[None]:
    """During the block, limit the server to `more` file descriptors in addition to those that it has open."""
    pid = server.process.pid
    wait_until_alone(server)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    free = sorted(set(range(10_000)) - set(map(int, os.listdir(f"/proc/{pid}/fd"))))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[more], before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_a_server_without_free_file_descriptors_answers_503_until_some_are_free(site: SampleSite) -> None:
    with serving(site, complaints=True, cache_ttl=0) as server:
        with few_descriptors(server, 1):
            targets = [server.target("/page/prog", method=method) for method in ("relay", "embedded", "subprocess")]
            for target in (*targets, "/health"):
                answer = ask(server, target)
                assert (answer.status, answer.code) == (503, "busy"), target
                assert answer.headers["retry-after"]
            server.worker().kill()
            wait_for(lambda: ask(server, "/ready").status == 503)
            answer = ask(server, server.target("/page/prog", path="/info"))
            assert (answer.status, answer.code) == (503, "busy")
        wait_for(lambda: server.ask("/ready").status == 200)
        assert server.get("/page/prog").status == 200
        assert "Traceback" not in server.log


def caused_by(cause: BaseException) -> UpstreamFailed:
    error = UpstreamFailed("The media server could not be reached.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, os.strerror(number)) for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)),
        OSError(errno.EROFS, "Read-only file system", "/tmp/x"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
        MemoryError(),
        RuntimeError("can't start new thread"),
        caused_by(OSError(errno.EMFILE, "Too many open files")),
    ],
)
def test_an_error_that_is_caused_by_a_lack_of_resources_is_converted_to_busy(error: BaseException) -> None:
    assert isinstance(shortage(error), Busy)


@pytest.mark.parametrize(
    "error", [OSError("x"), ConnectionRefusedError(111, "x"), RuntimeError("x"), caused_by(OSError())]
)
def test_an_error_that_is_not_caused_by_a_lack_of_resources_is_not_converted_to_busy(error: BaseException) -> None:
    assert shortage(error) is None
