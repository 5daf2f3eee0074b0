"""The reaper of orphans, for a server that is process 1 of a container without an init. When a process ends, the kernel
makes its children children of process 1. Such a child stays a zombie after its end until process 1 waits for it.

The reaper waits only for a zombie that it has seen in two checks in a row. The server's own child processes have an
owner in the server, which waits for them immediately.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection
from pathlib import Path

INIT_PID = 1
LOOK_SECONDS = 2.0


class Reaper:
    """A reaper of the zombies among the children of this process. The caller calls `look` at regular intervals."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def look(self, owned: Collection[int] = ()) -> None:
        """Wait for each zombie that the previous call has also seen. Ignores the process ids in `owned`, for which
        another part of the program waits."""
        zombies = _zombies() - set(owned)
        for pid in zombies & self._seen:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._seen = zombies


async def reap_forever() -> None:
    reaper = Reaper()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        reaper.look()


def _zombies() -> set[int]:
    """Return the ids of the children of this process that have ended."""
    found, own = set(), str(os.getpid())
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # the program name, in parentheses, may contain spaces and parentheses
            state, parent, *_ = path.read_text().rpartition(")")[2].split()
            if state == "Z" and parent == own:
                found.add(int(path.parent.name))
    return found
