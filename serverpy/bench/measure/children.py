"""Processes that the bench starts: each in a process group of its own, its words in a file, ended in any case.

The group keeps a Ctrl-C in the terminal from reaching them: we get it alone, and end them in order.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from serverpy.bench.measure.errors import TargetDied, TargetFailed

STOP_SECONDS = 5.0
"""From SIGTERM to SIGKILL."""
POLL_SECONDS = 0.02
MAX_FDS = 65536
TAIL_LINES = 5

T = TypeVar("T")


@dataclass(frozen=True)
class Child:
    """A process we started. `directory` is its working directory, empty at first and removed at the end."""

    process: subprocess.Popen[bytes]
    title: str
    directory: Path
    log_file: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """What it said so far, on stdout and stderr."""
        return self.log_file.read_text(errors="replace")

    def check(self) -> None:
        """Raises TargetDied if it has ended."""
        if self.process.poll() is not None:
            raise TargetDied(f"{self.title} has ended by itself ({self.process.returncode}). {self._tail()}")

    def said(self, pattern: str, seconds: float) -> re.Match[str]:
        """Waits until its words match. Raises TargetFailed if it ends before, or does not say it in time."""
        return self.until(lambda: re.search(pattern, self.log), seconds)

    def until(self, condition: Callable[[], T | None], seconds: float) -> T:
        """The first answer of `condition` which is true."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if self.process.poll() is not None:
                raise TargetFailed(f"{self.title} did not start ({self.process.returncode}). {self._tail()}")
            if time.monotonic() > deadline:
                raise TargetFailed(f"{self.title} did not start within {seconds:.0f} s. {self._tail()}")
            time.sleep(POLL_SECONDS)
        return found

    def _tail(self) -> str:
        return " / ".join(self.log.strip().splitlines()[-TAIL_LINES:])


@contextlib.contextmanager
def running(
    title: str,
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    hold_stdin: bool = False,
) -> Iterator[Child]:
    """`command` as a child, for the time of the block; then it and all below it are ended and waited for.

    `env` is added to a clean environment, `files` (name → text) are written into its directory before it starts.
    `{directory}` in an argument stands for that directory. With `hold_stdin` its stdin ends when we do, however."""
    with tempfile.TemporaryDirectory(prefix="serverpy-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        for file, text in (files or {}).items():
            directory.joinpath(file).write_text(text.replace("{directory}", name))
        log_file = directory / "log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [str(part).replace("{directory}", name) for part in command],
                env={**clean_environment(), **(env or {})},
                cwd=directory,
                stdin=subprocess.PIPE if hold_stdin else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _raise_fd_limit(process.pid)
            yield Child(process, title, directory, log_file)
        finally:
            _end(process)
            if process.stdin is not None:
                process.stdin.close()


def clean_environment() -> dict[str, str]:
    """Ours, without what would make two runs differ: settings of a server, and proxies (the origin is on loopback)."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SERVERPY_") and not name.lower().endswith("_proxy")
    }
    return kept | {"PYTHONUNBUFFERED": "1"}


def _raise_fd_limit(pid: int) -> None:
    """A target must not fail for a shell's limit of 1024."""
    with contextlib.suppress(ProcessLookupError):  # it has ended already: whoever waits for it will say so
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        wanted = MAX_FDS if hard == resource.RLIM_INFINITY else min(hard, MAX_FDS)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (wanted, hard))


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the first process, so that it may end its children itself; after a while SIGKILL to all."""
    family = _family(process.pid)
    try:
        process.terminate()
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass  # killed below
    finally:  # also when Ctrl-C is pressed again
        family |= _family(process.pid)
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()  # looks at the time it was started: never a stranger with the same number
        process.kill()
        process.wait()
        psutil.wait_procs(family, timeout=STOP_SECONDS)


def _family(pid: int) -> set[psutil.Process]:
    """All below `pid`, and all of its group: an orphan has another parent."""
    found = set[psutil.Process]()
    with contextlib.suppress(psutil.NoSuchProcess):
        found.update(psutil.Process(pid).children(recursive=True))
    for each in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if each.pid != pid and os.getpgid(each.pid) == pid:
                found.add(each)
    return found


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack like Ctrl-C, by KeyboardInterrupt: the children are ended. Main thread.

    A SIGHUP or SIGINT that is ignored (`nohup`, a background job of a script) stays ignored; SIGTERM always ends us.
    SIGINT needs no handler of ours: Python's raises KeyboardInterrupt, and is not installed where it is ignored."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
