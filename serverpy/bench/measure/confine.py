"""A limit on the memory of a running process: a memory cgroup if the bench may create one, else RLIMIT_DATA. A server
that keeps to its own memory bound never reaches the limit.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

How = Literal["cgroup", "prlimit"]

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")


@contextlib.contextmanager
def confined(pid: int, more_bytes: int, used_bytes: int) -> Iterator[How]:
    """Let the process take at most `more_bytes` beyond the memory that it has now, for the duration of the block.
    `used_bytes` is the memory that the process has now, by the kernel's count of pages. Raises OSError if the process
    belongs to another user.

    A cgroup (version 2) counts only pages that the process takes after it has joined the cgroup; earlier pages stay
    with the old cgroup. The limit includes `used_bytes` nevertheless, because the process may free these pages and take
    new ones. A cgroup also counts the kernel's socket buffers. `RLIMIT_DATA` counts address space, not pages. The bench
    sets only its soft limit, which the process itself may raise."""
    home = _own_group(pid)
    group = _new_group(home, pid, more_bytes + used_bytes) if home is not None else None
    if home is not None and group is not None:
        try:
            yield "cgroup"
        finally:
            _leave(group, home)
        return
    before = resource.prlimit(pid, resource.RLIMIT_DATA)
    resource.prlimit(pid, resource.RLIMIT_DATA, (data_bytes(pid) + more_bytes, before[1]))
    try:
        yield "prlimit"
    finally:
        # If the process has ended, there is no limit to restore.
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_DATA, before)


def data_bytes(pid: int) -> int:
    """Return the number of bytes that RLIMIT_DATA counts: private writable mappings, used or not (`VmData`). Raises
    OSError if the process has ended."""
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "VmData":
            return int(rest.split()[0]) * 1024
    raise OSError(f"/proc/{pid}/status has no field VmData")


def _new_group(home: Path, pid: int, limit: int) -> Path | None:
    """Make a cgroup inside `home` or beside it, and move the process into the new cgroup. Returns None if that is not
    permitted."""
    for parent in (home, home.parent):
        group = parent / f"serverpy-bench-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue  # the bench has no permission to create a cgroup in `parent`
        try:
            (group / "memory.max").write_text(str(limit))
            (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            group.rmdir()
            continue  # the parent cgroup does not enable the memory controller, or this process may not use the new one
        return group
    return None


def _own_group(pid: int) -> Path | None:
    """Return the version 2 cgroup of the process. Returns None if that cgroup has no memory controller."""
    for line in (PROC / str(pid) / "cgroup").read_text().splitlines():
        if line.startswith("0::"):
            group = CGROUPS / line[3:].lstrip("/")
            controllers = group / "cgroup.controllers"
            return group if controllers.is_file() and "memory" in controllers.read_text().split() else None
    return None


def _leave(group: Path, home: Path) -> None:
    """Move the process and its children back into the cgroup `home` and remove `group`. The kernel removes only an
    empty cgroup."""
    for each in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            (home / "cgroup.procs").write_text(each)
    group.rmdir()
