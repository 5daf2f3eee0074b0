"""Helper for tests of child processes."""

from __future__ import annotations

import psutil


def gone(process: psutil.Process) -> bool:
    """Return True if `process` has ended. A zombie (an ended process for which its parent has not waited yet) also
    counts as ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
