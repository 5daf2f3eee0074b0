"""What the process says of itself: one frozen sample for `/health`, and the same figures for Prometheus.

Who takes the sample (`app.py`) asks each part for its figure; nothing is counted twice.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serverpy.tasks import cancel, spawn

BEAT_SECONDS = 0.1
BEATS = 600
"""The loop's lag is told over the last minute."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in bytes: proportional and unique set size (`smaps_rollup`). 0 where there is no process."""

    pss: int
    uss: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The state of this serving process now. Times in seconds, lags in milliseconds."""

    uptime: float
    memory: Memory
    worker: Literal["starting", "running", "stopped"]
    workers: int
    worker_memory: Memory
    streams: int
    waiting: int
    upstreams: int
    threads: int
    fds: int
    children: int
    buffered_bytes: int
    budget_used: int
    budget_total: int
    loop_lag_p50: float
    loop_lag_p99: float


def memory_of(pid: int | None) -> Memory:
    """Blocks for some milliseconds: the kernel walks the page tables."""
    if pid is None:
        return Memory(0, 0)
    try:
        info = psutil.Process(pid).memory_full_info()
    except psutil.Error:  # it has just ended
        return Memory(0, 0)
    return Memory(info.pss, info.uss)


def children_of_this_process() -> int:
    return len(psutil.Process().children(recursive=True))


class LagMeter:
    """How late the event loop runs what is due: a beat every BEAT_SECONDS, and how much later it came."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=BEATS)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = spawn(self._beat(), name="loop lag")

    async def aclose(self) -> None:
        if self._task is not None:
            await cancel(self._task)

    def percentile(self, percent: float) -> float:
        """Milliseconds."""
        lags = sorted(self._lags)
        return 1000 * lags[min(len(lags) - 1, int(len(lags) * percent / 100))] if lags else 0.0

    async def _beat(self) -> None:
        while True:
            due = time.monotonic() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._lags.append(max(0.0, time.monotonic() - due))


HELP = {
    "uptime": ("serverpy_uptime_seconds", "Since this process started."),
    "memory.pss": ("serverpy_memory_pss_bytes", "Proportional set size of this process."),
    "memory.uss": ("serverpy_memory_uss_bytes", "Unique set size of this process."),
    "worker_memory.pss": ("serverpy_worker_memory_pss_bytes", "Proportional set size of the yt-dlp worker."),
    "worker_memory.uss": ("serverpy_worker_memory_uss_bytes", "Unique set size of the yt-dlp worker."),
    "workers": (
        "serverpy_workers",
        "Processes that run yt-dlp: 0 while an idle one has been let go, more while one is replaced.",
    ),
    "streams": ("serverpy_streams", "Streams that run, or are being opened."),
    "waiting": ("serverpy_waiting", "Requests that wait for a place or for bytes."),
    "upstreams": ("serverpy_upstreams", "Connections of relay to media servers in use."),
    "threads": ("serverpy_threads", "Threads of this process."),
    "fds": ("serverpy_fds", "Open file descriptors of this process."),
    "children": ("serverpy_children", "Processes below this one, the worker among them."),
    "buffered_bytes": (
        "serverpy_buffered_bytes",
        "Bytes that wait in the hand-overs of embedded and subprocess, and in the proxy of its children.",
    ),
    "budget_used": ("serverpy_budget_used_bytes", "Reserved of MEMORY_BUDGET."),
    "budget_total": ("serverpy_budget_total_bytes", "MEMORY_BUDGET."),
    "loop_lag_p50": ("serverpy_loop_lag_p50_milliseconds", "Lag of the event loop, median of a minute."),
    "loop_lag_p99": ("serverpy_loop_lag_p99_milliseconds", "Lag of the event loop, 99th percentile of a minute."),
}
"""Field of the sample → Prometheus name and help."""


def prometheus_text(sample: Sample) -> bytes:
    """The sample in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Sampled(sample))
    return generate_latest(registry)


class _Sampled(Collector):
    def __init__(self, sample: Sample) -> None:
        self._values = _flat(asdict(sample))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for field, (name, help_text) in HELP.items():
            yield GaugeMetricFamily(name, help_text, value=self._values[field])


def _flat(values: dict[str, object]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": number for inner, number in value.items()}
        elif isinstance(value, int | float):
            flat[name] = value
    return flat
