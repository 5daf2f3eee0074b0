"""The metrics of the server process, as one immutable sample, for `/health` and for Prometheus (`exposition.py`).

`server.py` takes the sample by asking each part of the server for its numbers; no number is counted in two places.
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
"""Number of measurements of the event loop's lag that `LagMeter` keeps: those of one minute."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process in bytes: proportional and unique set size (`smaps_rollup`). Both are 0 if the process does
    not exist."""

    pss: int
    uss: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The current state of this serving process. Times are in seconds, lags in milliseconds. `refused` maps error codes
    to the numbers of requests and streams that were refused because of a key, a link, a limit or the Host field."""

    uptime: float
    memory: Memory
    worker: Literal["starting", "running", "stopped"]
    workers: int
    worker_memory: Memory
    streams: int
    waiting: int
    upstreams: int
    extractions: int
    extractions_refused: int
    extractions_repeated: int
    pages_extracted_to_download: int
    live_upstreams: int
    live_cuts: int
    fallbacks: int
    refused: Mapping[str, int]
    bounds_exceeded: Mapping[str, int]
    """Number of responses of media servers, cookies and playlists that exceeded a bound, for each bound
    (`net/bounds.py`)."""
    connections: int
    connections_closed: Mapping[str, int]
    """Number of client connections that the server refused or closed, for each `Reason` (`access/connections.py`)."""
    log_lines_dropped: int
    threads: int
    fds: int
    children: int
    buffered_bytes: int
    budget_used: int
    budget_total: int
    loop_lag_p50: float
    loop_lag_p99: float
    ends: Mapping[str, int]
    """Number of streams that have ended, for each way in which a stream can end (`Record.end`)."""


def memory_of(pid: int | None) -> Memory:
    """Measure the memory of the process `pid`. Blocks for some milliseconds, because the kernel walks the page
    tables."""
    if pid is None:
        return Memory(0, 0)
    try:
        info = psutil.Process(pid).memory_full_info()
    except psutil.Error:  # the process ended before or during the measurement
        return Memory(0, 0)
    return Memory(info.pss, info.uss)


def children_of_this_process() -> int:
    return len(psutil.Process().children(recursive=True))


class LagMeter:
    """A meter of the event loop's lag. It schedules a wake-up every BEAT_SECONDS, and records how late each wake-up
    came."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=BEATS)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = spawn(self._beat(), name="loop lag")

    async def aclose(self) -> None:
        if self._task is not None:
            await cancel(self._task)

    def percentile(self, percent: float) -> float:
        """Return the percentile `percent` of the lag of the last minute, in milliseconds. Returns 0 before the first
        measurement."""
        lags = sorted(self._lags)
        return 1000 * lags[min(len(lags) - 1, int(len(lags) * percent / 100))] if lags else 0.0

    async def _beat(self) -> None:
        while True:
            due = time.monotonic() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._lags.append(max(0.0, time.monotonic() - due))
