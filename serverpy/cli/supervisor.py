"""The supervisor of the serving processes of `--workers`. It is uvicorn's supervisor, changed so that it also passes on
signals while it waits for its processes to end."""

from __future__ import annotations

import logging
import os
import signal
import time
from multiprocessing.connection import wait

from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from serverpy.cli.reaper import INIT_PID, Reaper
from serverpy.cli.reaper import LOOK_SECONDS as REAP_SECONDS

logger = logging.getLogger("serverpy")

ENDING = (signal.SIGTERM, signal.SIGINT)
LOOK_SECONDS = 0.1
START_SECONDS = 60.0
"""Maximum number of seconds that a new process may take to start."""


class Supervisor(Multiprocess):
    """A supervisor that tells its processes to end on SIGTERM or SIGINT, and to cut their connections on a second such
    signal. On SIGHUP, it replaces the processes one by one. As process 1, it reaps orphans (`reaper.py`)."""

    _reaper = Reaper() if os.getpid() == INIT_PID else None
    _reaped_at = 0.0

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        if self._reaper is not None and time.monotonic() - self._reaped_at > REAP_SECONDS:
            self._reaped_at = time.monotonic()
            self._reaper.look([each.pid for each in self.processes if each.pid is not None])

    def join_all(self) -> None:
        """Wait until all processes have ended. Passes a further SIGTERM or SIGINT on to them."""
        while running := [each for each in self.processes if each.exitcode is None]:
            wait([each.process.sentinel for each in running], LOOK_SECONDS)
            if self._take_ending():
                for each in running:
                    _terminate(each)

    def restart_all(self) -> None:
        """Replace the processes one by one, each as soon as its replacement is ready. Stops if a replacement is not
        ready in time, or if a signal tells the supervisor to end."""
        for number, old in enumerate(self.processes):
            new = Process(self.config, self.sockets)
            new.start()
            if not new.wait_until_ready(START_SECONDS, self.should_exit):
                new.kill()
                new.join()
                logger.error("a new process was not ready in time, so the old processes stay: see the log lines above")
                return
            self.processes[number] = new
            old.terminate()
            while old.exitcode is None:
                wait([old.process.sentinel], LOOK_SECONDS)
                if self._take_ending():
                    self.should_exit.set()
                    self.processes.append(old)
                    return

    def _take_ending(self) -> bool:
        """Return whether SIGTERM or SIGINT has arrived since the last call."""
        arrived = [number for number in self.signal_queue if number in ENDING]
        for number in arrived:
            self.signal_queue.remove(number)
        return bool(arrived)


def _terminate(process: Process) -> None:
    if process.pid is not None and process.exitcode is None:
        os.kill(process.pid, signal.SIGTERM)
