"""Real workers for tests. These workers load the plugins of the sample site and of the probes, and allow connections to
loopback."""

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
from serverpy.extraction.pool import WorkersLimits
from serverpy.extraction.workers import Workers
from serverpy.sample import PLUGIN_PATH
from serverpy.settings import load_settings
from tests.processes import gone

PROBES = Path(__file__).parents[1] / "ytdlp" / "plugins"
LOOPBACK = load_settings(profile="small", allow_networks="127.0.0.0/8", wait_seconds=60)
PATIENT = WorkersLimits(grace=30.0, frozen=60.0)
IMPATIENT = WorkersLimits(grace=0.3)
"""Limits that make the pool replace a hanging worker after a short time. Other tests use PATIENT, so that their workers
are not replaced on a slow machine."""


def options(**settings: Any) -> WorkerOptions:
    """Return the worker options of these tests, changed by `settings`, which are not validated."""
    changed = LOOPBACK.model_copy(update=settings)
    return replace(worker_options(changed, changed.targets()), plugin_paths=(str(PLUGIN_PATH), str(PROBES)))


OPTIONS = options()


@asynccontextmanager
async def running(limits: WorkersLimits = PATIENT, **settings: Any) -> AsyncIterator[Workers]:
    """Run workers whose options are changed by `settings`. Checks at the end of the block that no worker process is
    left."""
    workers = Workers(options(**settings), limits)
    pids: set[int] = set()
    try:
        await workers.start()
        pids |= set(workers.state().pids)
        yield workers
        pids |= {*workers.state().pids, *workers.state().download_pids}
    finally:
        await workers.aclose()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


async def process_of(workers: Workers) -> psutil.Process:
    """Return the worker process that takes new requests."""
    return psutil.Process(workers.state().pids[0])


def download_process_of(workers: Workers) -> psutil.Process:
    """Return the worker process that takes new downloads."""
    return psutil.Process(workers.state().download_pids[0])


def replaced(workers: Workers, process: psutil.Process) -> bool:
    """Return True if `process` takes no new requests. It may still be finishing its current requests."""
    state = workers.state()
    return state.status != "running" or state.pids[0] != process.pid


def limit_extractions(workers: Workers, seconds: float) -> None:
    """Set the timeout in seconds of all extractions that begin after this call."""
    timeouts = replace(workers.options.timeouts, extract=seconds)
    workers.options = replace(workers.options, timeouts=timeouts)


def children_of(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if not gone(child)]


async def fails(workers: Workers, url: str) -> ServerPYError:
    with pytest.raises(ServerPYError) as caught:
        await workers.extract(url)
    return caught.value


def reader(descriptor: int) -> Callable[[], bytes]:
    def read() -> bytes:
        with open(descriptor, "rb") as pipe:
            return pipe.read()

    return read
