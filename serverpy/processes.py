"""The child processes of the server: the yt-dlp processes (`extraction/process.py`) and the child processes of the
method `subprocess` (`streaming/child/process.py`).

One thread starts all child processes, and lives as long as this process. A child process asks the kernel to end it when
the thread that started it ends (`parent.py`). So the thread of an event loop, which may end before this process, must
not start child processes.
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from serverpy.tasks import spawn

Start = Callable[[], subprocess.Popen[bytes]]
Started = Future[subprocess.Popen[bytes]]


class _Starter:
    """The thread that starts processes. It is a daemon thread, because a thread of an executor ends with the main
    thread. Other threads may still run an event loop then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: queue.SimpleQueue[tuple[Start, Started]] = queue.SimpleQueue()
        self._runs_in = 0
        """The process ID of the process in which the thread runs: a copy made by fork(2) has no such thread."""

    def submit(self, start: Start) -> Started:
        started: Started = Future()
        with self._lock:
            if self._runs_in != os.getpid():
                self._runs_in, self._orders = os.getpid(), queue.SimpleQueue()
                threading.Thread(target=self._run, args=(self._orders,), name="start-process", daemon=True).start()
            self._orders.put((start, started))
        return started

    def _run(self, orders: queue.SimpleQueue[tuple[Start, Started]]) -> None:
        while True:
            start, started = orders.get()
            started.set_running_or_notify_cancel()  # from now on, the future cannot be cancelled
            try:
                started.set_result(start())
            except Exception as error:  # noqa: BLE001  # the caller gets the exception from the future
                started.set_exception(error)
            del start, started


_starter = _Starter()


def in_starter(start: Start) -> Started:
    """Have the thread that starts processes call `start`, and return the future of its result."""
    return _starter.submit(start)


class Process:
    """A child process that leads its own process group. When the child has exited, the rest of the group is killed. An
    instance belongs to one event loop. The owner ends the process with `signal`, and must await `wait`."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid
        self._pidfd = os.pidfd_open(popen.pid)
        self._exit = spawn(self._wait(), name=f"exit of process {popen.pid}")

    @property
    def has_exited(self) -> bool:
        return self._exit.done()

    async def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the process to exit, and return its exit code. Returns None if it does not exit within `seconds`.
        Any number of callers may wait."""
        await asyncio.wait([self._exit], timeout=seconds)
        return self._exit.result() if self._exit.done() else None

    def signal(self, number: int) -> None:
        """Send a signal to the process group. Does nothing after the process was reaped, because the system may then
        use its number for another group."""
        if self._exit.done():
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def _wait(self) -> int:
        """Wait for the process to exit, kill what is left of its group, reap it, and return its exit code. Only this
        task reaps the process."""
        loop = asyncio.get_running_loop()
        exited = asyncio.Event()
        loop.add_reader(self._pidfd, exited.set)
        try:
            await exited.wait()
        finally:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._popen.wait()


def kill_group(popen: subprocess.Popen[bytes]) -> None:
    """Kill and reap a process group for which no `Process` exists."""
    try:
        os.killpg(popen.pid, signal.SIGKILL)
    except ProcessLookupError:
        popen.kill()
    popen.wait()
