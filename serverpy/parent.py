"""Functions by which a child process ends together with its parent, however the parent ends. They use prctl(2) with
PR_SET_PDEATHSIG.

The kernel sends the signal to the child when the *thread* that forked the child ends. So a parent forks its children
from a thread that lives as long as the parent (`processes.py`).
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Make the kernel send the signal `number` to this process when `parent`, the process that has started this one,
    ends. If `parent` has already ended, send the signal now. A child process calls this function before anything else.
    Raises `OSError` if prctl fails."""
    signal_at_death_of_parent(number)
    if os.getppid() != parent:  # `parent` ended before the call of prctl, so the kernel sends no signal
        os.kill(os.getpid(), number)


def signal_at_death_of_parent(number: int = signal.SIGKILL) -> None:
    """Set the signal that the kernel sends to this process when its parent ends. Does not check whether the parent has
    already ended. May run between fork and exec, because it takes no lock, and allocates next to nothing. Raises
    `OSError` if prctl fails."""
    if _prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
