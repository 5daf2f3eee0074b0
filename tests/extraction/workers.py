"""Real workers for tests: the sample site's plugin and the probes' on board, loopback allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from serverpy.errors import ServerPYError
from serverpy.extraction.messages import WorkerOptions
from serverpy.extraction.pool import WorkersLimits
from serverpy.extraction.workers import Workers
from serverpy.sample import PLUGIN_PATH

PROBES = Path(__file__).parents[1] / "ytdlp" / "plugins"
OPTIONS = WorkerOptions(allow_networks=("127.0.0.0/8",), plugin_paths=(str(PLUGIN_PATH), str(PROBES)))
LIMITS = WorkersLimits(grace=0.3)


@asynccontextmanager
async def running(limits: WorkersLimits = LIMITS, **options: Any) -> AsyncIterator[Workers]:
    """Workers that have started; `options` are changes to OPTIONS. On leaving, no process of theirs is left."""
    workers = Workers(replace(OPTIONS, **options), limits)
    pids: set[int] = set()
    try:
        await workers.start()
        pids |= set(workers.state().pids)
        yield workers
        pids |= set(workers.state().pids)
    finally:
        await workers.aclose()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


async def process_of(workers: Workers) -> psutil.Process:
    """The worker that takes requests."""
    return psutil.Process(workers.state().pids[0])


def replaced(workers: Workers, old: psutil.Process) -> bool:
    """Whether new requests no longer go to `old`."""
    state = workers.state()
    return state.status != "running" or state.pids[0] != old.pid


def children_of(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if not gone(child)]


def gone(process: psutil.Process) -> bool:
    """Ended, whether or not anybody has asked how."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def fails(workers: Workers, url: str) -> ServerPYError:
    with pytest.raises(ServerPYError) as caught:
        await workers.extract(url)
    return caught.value


def reader(descriptor: int) -> Callable[[], bytes]:
    def read() -> bytes:
        with open(descriptor, "rb") as pipe:
            return pipe.read()

    return read
