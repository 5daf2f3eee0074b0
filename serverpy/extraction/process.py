"""Functions that start a yt-dlp process and make its environment."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import serverpy
from serverpy.environment import passed_on
from serverpy.extraction.messages import Role
from serverpy.processes import Process, in_starter, kill_group


async def start_process(role: Role, descriptor: int) -> Process:
    """Start a process that runs `serverpy.ytdlp.main` in the given role, and pass it one end of a socketpair. If the
    caller is cancelled, wait until the process exists and kill it, so that no process is left. Raises `OSError` if the
    process cannot be started."""
    starting = in_starter(partial(_start, role, descriptor))
    try:
        popen = await asyncio.shield(asyncio.wrap_future(starting))
    except asyncio.CancelledError:
        # `exception` waits until the process has started, which takes some milliseconds
        if starting.exception() is None:
            kill_group(starting.result())
        raise
    try:
        return Process(popen)
    except OSError:
        kill_group(popen)
        raise


def _start(role: Role, descriptor: int) -> subprocess.Popen[bytes]:
    """Start the process in a session of its own (setsid(2)), so that the server can kill it together with its children,
    and Ctrl-C in the terminal does not reach it."""
    return subprocess.Popen(
        (sys.executable, "-P", "-m", "serverpy.ytdlp.main", role, str(descriptor), str(os.getpid())),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """Return the part of the server's environment that a yt-dlp process receives, with the directory of the package
    `serverpy` added to PYTHONPATH."""
    environment = passed_on()
    paths = [str(Path(serverpy.__file__).parent.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    # by default, malloc has an arena for each thread, and each arena keeps the memory that extractions have freed
    environment.setdefault("MALLOC_ARENA_MAX", "2")
    return environment
