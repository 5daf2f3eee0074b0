"""Real workers for tests: the sample site's plugin and the probes' on board, loopback allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from serverpy.engine import worker_options
from serverpy.errors import ServerPYError
from serverpy.extraction.messages import WorkerOptions
from serverpy.extraction.workers import Workers, WorkersLimits
from serverpy.sample import PLUGIN_PATH
from serverpy.settings import load_settings

PROBES = Path(__file__).parents[1] / "ytdlp" / "plugins"
LOOPBACK = load_settings(profile="small", allow_networks="127.0.0.0/8")
LIMITS = WorkersLimits(grace=0.3)


def options(**settings: Any) -> WorkerOptions:
    """The options of a worker for these tests, with `settings` changed, unchecked."""
    changed = LOOPBACK.model_copy(update=settings)
    return replace(worker_options(changed, changed.targets()), plugin_paths=(str(PLUGIN_PATH), str(PROBES)))


OPTIONS = options()


@asynccontextmanager
async def running(limits: WorkersLimits = LIMITS, **settings: Any) -> AsyncIterator[Workers]:
    """Workers that have started, with `settings` changed. On leaving, no process of theirs is left."""
    workers = Workers(options(**settings), limits)
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
