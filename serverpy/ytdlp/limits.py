"""The limit on the memory of a yt-dlp process."""

from __future__ import annotations

import resource

from serverpy.extraction.messages import Role
from serverpy.options import Limits

MIB = 1024 * 1024
DATA_BYTES = 1024 * MIB
"""Memory, in bytes, that the limit allows for everything except the stacks of threads. The extraction of a page of 8
MiB needs up to 750 MB."""
STACK_BYTES = 8 * MIB
"""Bytes that the kernel counts towards the limit for the stack of one thread, even if the thread does not use them."""


def set_data_limit(role: Role, limits: Limits) -> None:
    """Limit the data segment of this process, so that an extraction that takes too much memory ends in a MemoryError or
    kills this process, but does not exhaust the memory of the machine. Each child process inherits the limit. If the
    hard limit is lower, the limit is the hard limit."""
    threads = limits.max_extractions if role == "extract" else limits.max_workers
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ours = DATA_BYTES + threads * STACK_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (ours if hard == resource.RLIM_INFINITY else min(ours, hard), hard))
