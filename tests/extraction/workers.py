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
from serverpy.extraction.workers import Workers, WorkersLimits
from serverpy.sample import PLUGIN_PATH
from tests.processes import gone

PROBES = Path(__file__).parents[1] / "ytdlp" / "plugins"
OPTIONS = WorkerOptions(allow_networks=("127.0.0.0/8",), plugin_paths=(str(PLUGIN_PATH), str(PROBES)))
PATIENT = WorkersLimits(grace=30.0, wait=60.0)
IMPATIENT = WorkersLimits(grace=0.3, wait=60.0)
"""Replaces a worker soon, which a slow machine needs to be given time not to."""


@asynccontextmanager
async def running(limits: WorkersLimits = PATIENT, **options: Any) -> AsyncIterator[Workers]:
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


def replaced(workers: Workers, process: psutil.Process) -> bool:
    """Whether `process` no longer takes requests, though it may finish what it runs."""
    state = workers.state()
    return state.status != "running" or state.pids[0] != process.pid


def limit_extractions(workers: Workers, seconds: float) -> None:
    """Time out those that begin from now on."""
    workers.options = replace(workers.options, extract_timeout=seconds)


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
