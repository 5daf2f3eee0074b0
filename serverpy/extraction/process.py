"""Functions that start a worker process and make its environment."""

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
    """Start a process that runs `serverpy.ytdlp.main`, and pass it one end of a socketpair. If the caller is cancelled,
    wait until the process exists and kill it, so that no process is left."""
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
    """Start the process in a session of its own (setsid(2)), so that the server can kill it together with its children,
    and Ctrl-C in the terminal does not reach it."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "serverpy.ytdlp.main", str(descriptor)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        pass_fds=(descriptor,),
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """Return the part of the server's environment that a worker process receives, with the directory of the package
    `serverpy` added to PYTHONPATH."""
    environment = passed_on()
    paths = [str(Path(serverpy.__file__).parent.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    # otherwise malloc has an arena for each thread, which keeps the memory that extractions have freed
    environment.setdefault("MALLOC_ARENA_MAX", "2")
    return environment
