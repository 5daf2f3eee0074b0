"""Bytes in pipes. The kernel holds them, and no process's memory figures include them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
from pathlib import Path

import psutil


def held_in_pipes(pid: int) -> int:
    """Return how many bytes are now in the pipes of a process and its descendants. The PSS of a process does not
    include them."""
    pipes: dict[str, int] = {}
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with contextlib.suppress(FileNotFoundError):  # the process ended before its descriptors were read
            _look(Path(f"/proc/{process.pid}/fd"), pipes)
    return sum(pipes.values())


def _look(descriptors: Path, pipes: dict[str, int]) -> None:
    for path in descriptors.iterdir():
        with contextlib.suppress(FileNotFoundError):  # the process closed the descriptor before it was read
            name = os.readlink(path)
            if name.startswith("pipe:") and name not in pipes:
                pipes[name] = _readable(path)


def _readable(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        answer = fcntl.ioctl(descriptor, termios.FIONREAD, struct.pack("i", 0))
    finally:
        os.close(descriptor)
    return int(struct.unpack("i", answer)[0])
