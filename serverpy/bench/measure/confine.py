"""Less memory for a process that runs already: a memory cgroup where one can be made, else a limit on its data.

A server whose bound is true does not notice either of them.
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
    """For the time of a block the process may take `more_bytes` more than it has. `used_bytes` is what it holds by the
    kernel's count of pages. Raises OSError for a process of somebody else.

    A cgroup (version 2) counts from the moment the process is in it: pages that it had stay with its old group, so that
    the new one is given the room of what may be freed and taken anew, too. It also counts what the kernel holds for
    sockets. `RLIMIT_DATA` counts address space, not pages; only its soft limit is set, which children may lift."""
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
        with contextlib.suppress(ProcessLookupError):  # it has ended: whoever waits for it will say so
            resource.prlimit(pid, resource.RLIMIT_DATA, before)


def data_bytes(pid: int) -> int:
    """What RLIMIT_DATA counts: private writable mappings, used or not (`VmData`). Raises OSError if it has ended."""
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "VmData":
            return int(rest.split()[0]) * 1024
    raise OSError(f"the kernel does not say how much data process {pid} has")


def _new_group(home: Path, pid: int, limit: int) -> Path | None:
    """A cgroup below or beside `home`, with the process in it; None where none may be made."""
    for parent in (home, home.parent):
        group = parent / f"serverpy-bench-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue  # not ours to make
        try:
            (group / "memory.max").write_text(str(limit))
            (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            group.rmdir()
            continue  # its parent gives it no memory controller, or lets nobody in
        return group
    return None


def _own_group(pid: int) -> Path | None:
    """Of version 2, if memory is counted there."""
    for line in (PROC / str(pid) / "cgroup").read_text().splitlines():
        if line.startswith("0::"):
            group = CGROUPS / line[3:].lstrip("/")
            controllers = group / "cgroup.controllers"
            return group if controllers.is_file() and "memory" in controllers.read_text().split() else None
    return None


def _leave(group: Path, home: Path) -> None:
    """A group goes once nobody is in it: the process and its children go back to where they came from."""
    for each in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            (home / "cgroup.procs").write_text(each)
    group.rmdir()
