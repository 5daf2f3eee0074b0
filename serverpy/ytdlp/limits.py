"""How much memory the worker process may take, and giving back what it no longer needs."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Callable

from serverpy.extraction.messages import WorkerOptions

MIB = 1024 * 1024
DATA_BYTES = 1024 * MIB
"""What extractions may need at the most: a page of 8 MiB costs up to 750 MB."""
STACK_BYTES = 8 * MIB
"""What a thread's stack counts, used or not."""


def set_data_limit(options: WorkerOptions) -> None:
    """From here on, a runaway extraction is a MemoryError or the end of this process, not of the machine. Children
    inherit the limit: each may take as much. Never above a limit that is there already."""
    threads = options.max_workers + options.extract_workers
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ours = DATA_BYTES + threads * STACK_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (ours if hard == resource.RLIM_INFINITY else min(ours, hard), hard))


def give_memory_back() -> None:
    """Have the C library return its free pages to the system: a heap that is used at its end keeps all below."""
    if _trim is not None:
        _trim(0)


def _find_trim() -> Callable[[int], int] | None:
    """glibc's alone."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


_trim = _find_trim()
