"""What `info` and `get` share towards the person at the terminal: text that cannot command it, and Ctrl+C."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from serverpy.tasks import spawn

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def one_line(text: str) -> str:
    """`text` of a stranger, as one line without escape sequences or characters that turn the direction of writing."""
    return _CONTROLS.sub(" ", text).strip()


def size(count: float) -> str:
    """A number of bytes for people: `512 bytes`, `1.5 MiB`."""
    step = 0
    while count >= 1024 and step < len(_UNITS) - 1:
        count, step = count / 1024, step + 1
    return f"{count:.1f} {_UNITS[step]}" if step else f"{count:g} {_UNITS[0]}"


def run(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """The exit code of `work`, run in a loop of its own. SIGINT and SIGTERM cancel it, and wait until it has cleaned
    up: then the code is 128 and the signal's number. A second signal ends the process at once."""
    return uvloop.run(_until_told(work))


async def _until_told(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    loop = asyncio.get_running_loop()
    told: list[int] = []

    def stop(number: int) -> None:
        told.append(number)
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        task.cancel()

    task = spawn(work(), name="command")
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if told:
            return 128 + told[0]
        raise
