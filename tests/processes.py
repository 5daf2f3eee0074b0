"""Processes, and what this one holds."""

from __future__ import annotations

import psutil


def gone(process: psutil.Process) -> bool:
    """Ended, whether or not anybody has asked how."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
