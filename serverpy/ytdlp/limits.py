"""How much memory the worker process may take."""

from __future__ import annotations

import resource

from serverpy.options import Limits

MIB = 1024 * 1024
DATA_BYTES = 1024 * MIB
"""What extractions may need at the most: a page of 8 MiB costs up to 750 MB."""
STACK_BYTES = 8 * MIB
"""What a thread's stack counts, used or not."""


def set_data_limit(limits: Limits) -> None:
    """From here on, a runaway extraction is a MemoryError or the end of this process, not of the machine. Children
    inherit the limit: each may take as much. Never above a limit that is there already."""
    threads = limits.max_workers + limits.extract_workers
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ours = DATA_BYTES + threads * STACK_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (ours if hard == resource.RLIM_INFINITY else min(ours, hard), hard))
