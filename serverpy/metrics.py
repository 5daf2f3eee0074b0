"""The figures of the process: one frozen sample, for `/health` and for Prometheus (`exposition.py`).

`server.py` takes the sample by asking each part of the server for its figures; no figure is counted in two places.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import psutil

from serverpy.tasks import cancel, spawn

BEAT_SECONDS = 0.1
BEATS = 600
"""Number of beats from which the lag is computed: one minute."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process in bytes: proportional and unique set size (`smaps_rollup`). Both are 0 if there is no
    process."""

    pss: int
    uss: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The current state of this serving process. Times are in seconds, lags in milliseconds."""

    uptime: float
    memory: Memory
    worker: Literal["starting", "running", "stopped"]
    workers: int
    worker_memory: Memory
    streams: int
    waiting: int
    upstreams: int
    live_upstreams: int
    live_cuts: int
    fallbacks: int
    log_lines_dropped: int
    threads: int
    fds: int
    children: int
    buffered_bytes: int
    budget_used: int
    budget_total: int
    loop_lag_p50: float
    loop_lag_p99: float
    refused: Mapping[str, int]
    """Requests that were refused before their route, by the code of the error."""
    ends: Mapping[str, int]
    """Streams that have ended, by their end (`Record.end`)."""


def memory_of(pid: int | None) -> Memory:
    """Measure the memory of a process. Blocks for some milliseconds, because the kernel walks the page tables."""
    if pid is None:
        return Memory(0, 0)
    try:
        info = psutil.Process(pid).memory_full_info()
    except psutil.Error:  # the process has just ended
        return Memory(0, 0)
    return Memory(info.pss, info.uss)


def children_of_this_process() -> int:
    return len(psutil.Process().children(recursive=True))


class LagMeter:
    """Meter of the event loop's lag: a beat is due every BEAT_SECONDS, and the meter records how late each one came."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=BEATS)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = spawn(self._beat(), name="loop lag")

    async def aclose(self) -> None:
        if self._task is not None:
            await cancel(self._task)

    def percentile(self, percent: float) -> float:
        """Return a percentile of the lag in milliseconds."""
        lags = sorted(self._lags)
        return 1000 * lags[min(len(lags) - 1, int(len(lags) * percent / 100))] if lags else 0.0

    async def _beat(self) -> None:
        while True:
            due = time.monotonic() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._lags.append(max(0.0, time.monotonic() - due))
