"""Child processes of the bench: each has its own session and a log file for its output, and is always ended.

The session keeps a Ctrl-C in the terminal from the children: only the bench receives the signal, and then ends the
children in order.
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
"""Seconds from SIGTERM to SIGKILL."""
POLL_SECONDS = 0.02
MAX_FDS = 65536
TAIL_LINES = 5

T = TypeVar("T")


@dataclass(frozen=True)
class Child:
    """A child process. `directory` is its working directory, which the function `running` creates and removes."""

    process: subprocess.Popen[bytes]
    title: str
    directory: Path
    log_file: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """The child's output so far, stdout and stderr."""
        return self.log_file.read_text(errors="replace")

    def check(self) -> None:
        """Raise TargetDied if the process has ended."""
        if self.process.poll() is not None:
            raise TargetDied(f"{self.title} has ended unexpectedly ({self.process.returncode}). {self._tail()}")

    def said(self, pattern: str, seconds: float) -> re.Match[str]:
        """Wait until the child's output matches `pattern`, and return the match. Raises TargetFailed if the child ends
        first, or prints no match within `seconds`."""
        return self.until(lambda: re.search(pattern, self.log), seconds)

    def until(self, condition: Callable[[], T | None], seconds: float) -> T:
        """Call `condition` until it returns a true value, and return that value. Raises TargetFailed if the child ends
        first, or `seconds` pass."""
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
    """Run `command` as a child for the duration of the block, then end it and all its descendants and wait for them.

    `env` is added to a clean environment. `files` (name → text) are written into the child's working directory before
    the start. `{directory}` in an argument or in a file stands for that directory. With `hold_stdin` the child reads
    EOF on its stdin when the bench ends for any reason."""
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
    """Return this process's environment without the variables that would make two runs differ: settings of ServerPY,
    and proxies (the origin is on loopback)."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SERVERPY_") and not name.lower().endswith("_proxy")
    }
    return kept | {"PYTHONUNBUFFERED": "1"}


def _raise_fd_limit(pid: int) -> None:
    """Raise the limit on open files, so that a target does not fail because of a shell's limit of 1024."""
    # If the process has already ended, the caller notices that when it waits for output.
    with contextlib.suppress(ProcessLookupError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        wanted = MAX_FDS if hard == resource.RLIM_INFINITY else min(hard, MAX_FDS)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (wanted, hard))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to `process`, so that it can end its children. Once it has ended, or after STOP_SECONDS, send
    SIGKILL to all that are left."""
    family = _family(process.pid)
    try:
        process.terminate()
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass  # `process.kill` below ends it
    finally:  # this also runs if Ctrl-C is pressed again
        family |= _family(process.pid)
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()  # psutil compares the start time, so another process with a reused pid is never killed
        process.kill()
        process.wait()
        psutil.wait_procs(family, timeout=STOP_SECONDS)


def _family(pid: int) -> set[psutil.Process]:
    """Return all descendants of `pid` and all members of its process group, which include orphans."""
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
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, so that the children are ended. Call it in the
    main thread.

    A SIGHUP or SIGINT that is ignored (`nohup`, a background job of a script) stays ignored; SIGTERM always ends the
    bench. SIGINT needs no handler here: Python's own handler raises KeyboardInterrupt, and Python does not install that
    handler if SIGINT is ignored."""

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
