"""The duty of process 1 of a container without an init: to wait for orphans. When a process ends, the kernel makes its
children those of process 1, and keeps each of them as a zombie until process 1 waits for it.

The reaper waits only for a zombie that it has seen twice: children of the server's own have an owner, which waits for
them at once.
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
    """The zombies among the children of this process, except those in `owned`."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def look(self, owned: Collection[int] = ()) -> None:
        """Reap the zombies that the last look has seen, too."""
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
            # the name of the program, in parentheses, may contain anything
            state, parent, *_ = path.read_text().rpartition(")")[2].split()
            if state == "Z" and parent == own:
                found.add(int(path.parent.name))
    return found
