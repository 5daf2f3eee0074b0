"""Readings of the memory and CPU time of a process tree, taken from outside: bytes from `smaps_rollup`, CPU seconds,
and numbers of threads, descriptors and processes. The function `read` takes one reading; a `Sampler` takes them
periodically in a thread while clients load the measured server.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, fields
from typing import Literal, Self

import psutil

from serverpy.bench.measure.errors import TargetDied

Field = Literal["pss", "uss", "rss", "cpu", "threads", "fds", "processes", "zombies"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading: sums over a process and all its descendants, in bytes and seconds. `t` is the time of the reading by
    `time.monotonic()`. `pss` counts a page that n processes share as 1/n in each, so that the sum is correct; `rss`
    counts such a page n times. `cpu` is user and system time since the start, including children that have ended and
    been reaped. Only `zombies` includes zombies."""

    t: float
    pss: int
    uss: int
    rss: int
    cpu: float
    threads: int
    fds: int
    processes: int
    zombies: int


def read(pid: int, *, alone: bool = False) -> Reading:
    """Take one reading of the process `pid` and all its descendants. If `alone` is true, reads only `pid`. A descendant
    that ends during the reading is left out. Raises TargetDied if the process `pid` is gone or a zombie, and
    psutil.AccessDenied if a process belongs to another user."""
    begun = time.monotonic()
    try:
        root = psutil.Process(pid)
        parts = [_part(root)]
        family = [] if alone else root.children(recursive=True)
    except psutil.NoSuchProcess:  # psutil derives ZombieProcess from NoSuchProcess
        raise TargetDied(f"The process {pid} under test has ended unexpectedly.") from None
    if parts[0].zombies:
        raise TargetDied(f"The process {pid} under test has ended unexpectedly.")
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            parts.append(_part(each))
    return _total(begun, parts)


def _part(process: psutil.Process) -> Reading:
    """Take a reading of one process. Raises psutil.NoSuchProcess if it has ended."""
    with process.oneshot():
        if process.status() == psutil.STATUS_ZOMBIE:
            return Reading(0.0, 0, 0, 0, 0.0, 0, 0, 0, 1)
        memory, times = process.memory_full_info(), process.cpu_times()
        cpu = times.user + times.system + times.children_user + times.children_system
        threads, fds = process.num_threads(), process.num_fds()
    return Reading(0.0, memory.pss, memory.uss, memory.rss, cpu, threads, fds, 1, 0)


def _total(t: float, parts: list[Reading]) -> Reading:
    names = [field.name for field in fields(Reading)][1:]
    return Reading(t, *(sum(getattr(part, name) for part in parts) for name in names))


class Sampler:
    """Readings of a process tree, `hz` times a second, from `start()` to `stop()`. A sampler is also a context manager,
    and can be used once.

    `stop` takes a last reading and joins the thread; it is idempotent. It raises the error that ended the sampling
    early, usually TargetDied. `check` raises that error earlier, in any thread. The sampler keeps the readings from
    before the error."""

    def __init__(self, pid: int, hz: float = 5.0, *, alone: bool = False) -> None:
        self._pid, self._period, self._alone = pid, 1 / hz, alone
        self._readings: list[Reading] = []
        self._failure: Exception | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sampler-{pid}", daemon=True)

    @property
    def readings(self) -> list[Reading]:
        """A copy of the readings so far, oldest first."""
        return list(self._readings)

    def peak(self, field: Field) -> float:
        """Return the largest value of `field` in the readings so far. Raises TargetDied if the measured process has
        ended, ValueError if there is no reading yet."""
        self.check()
        return max(float(getattr(reading, field)) for reading in self._readings)

    def start(self) -> None:
        """Take the first reading in the calling thread, so that this method raises its error, and start the sampling
        thread."""
        self._readings.append(read(self._pid, alone=self._alone))
        self._thread.start()

    def stop(self) -> None:
        self._end()
        self.check()

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _end(self) -> None:
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while True:
                # Skip the readings that are overdue, instead of taking them in a burst.
                due = max(due + self._period, time.monotonic())
                stopped = self._stopped.wait(max(0.0, due - time.monotonic()))
                self._readings.append(read(self._pid, alone=self._alone))
                if stopped:
                    return
        except Exception as error:  # noqa: BLE001  # `check` raises the error in the caller's thread
            self._failure = error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """Stop the sampling. Raises the error that ended the sampling early, unless the `with` block has itself raised
        an error."""
        self._end()
        if kind is None:
            self.check()
