"""The end of a child process together with its parent, however the parent ends: prctl(2), PR_SET_PDEATHSIG.

The kernel sends the signal when the *thread* ends that has forked the child. So a parent forks its children from a
thread that lives as long as the parent (`processes.py`).
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Let the kernel send the signal `number` to this process when `parent`, the process that has started this one,
    ends. If `parent` has already ended, send the signal now. A child process calls this first of all. Raises `OSError`
    if the kernel refuses."""
    signal_at_death_of_parent(number)
    if os.getppid() != parent:  # `parent` ended before the call of prctl, so the kernel sends no signal
        os.kill(os.getpid(), number)


def signal_at_death_of_parent(number: int = signal.SIGKILL) -> None:
    """Set the signal that the kernel sends to this process when its parent ends, without a look at the parent. This
    function may run between fork and exec: it takes no lock, and allocates next to nothing."""
    if _prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
