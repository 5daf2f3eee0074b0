"""The start of a worker's process, and its environment."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import serverpy
from serverpy.environment import passed_on
from serverpy.tasks import spawn


async def start_process(descriptor: int) -> asyncio.subprocess.Process:
    """Start `serverpy.ytdlp.main` with its end of the socketpair. If cancelled, wait until the process exists and kill
    it, so that no process is left."""
    task = spawn(_start(descriptor), name="start worker")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(OSError):
            process = await task
            process.kill()
            await process.wait()
        raise


async def _start(descriptor: int) -> asyncio.subprocess.Process:
    """Start the process in a session of its own, so that the server can kill it together with its children, and Ctrl-C
    in the terminal does not reach it."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "serverpy.ytdlp.main", str(descriptor)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        pass_fds=(descriptor,),
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """Return the part of the server's environment that a worker gets, with the directory of this package on
    PYTHONPATH."""
    environment = passed_on()
    paths = [str(Path(serverpy.__file__).parent.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment.setdefault("MALLOC_ARENA_MAX", "2")  # otherwise each thread's arena keeps the memory of its extractions
    return environment
