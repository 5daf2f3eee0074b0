"""Shared parts of the commands `info` and `get`: arguments, text that is safe to print to a terminal, and the handling
of Ctrl+C."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import click
import uvloop

from serverpy.errors import InvalidUrl
from serverpy.net.guard import check_url
from serverpy.tasks import spawn

READING = "reading the page…"
"""Text that the progress display shows until the page's title is known."""
PIPE_COLUMNS = 1000
"""Width of a table in characters if stdout is not a terminal: so wide that no text is truncated."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def one_line(text: str) -> str:
    """Return untrusted text as one line, without escape sequences and without characters that change the text
    direction."""
    return _CONTROLS.sub(" ", text).strip()


def page_url(argument: str) -> str:
    """Return `argument` as the URL of a page, unchanged. Raises `click.UsageError` if it is not a valid URL."""
    try:
        check_url(argument)
    except InvalidUrl as error:
        raise click.UsageError(f"{one_line(argument)}: {error.detail}") from None
    return argument


def size(count: float) -> str:
    """Format a number of bytes for people: `512 bytes`, `1.5 MiB`."""
    step = 0
    while count >= 1024 and step < len(_UNITS) - 1:
        count, step = count / 1024, step + 1
    return f"{count:.1f} {_UNITS[step]}" if step else f"{count:g} {_UNITS[0]}"


def run(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run the coroutine that `work` returns in an event loop of its own, and return its exit code. SIGINT and SIGTERM
    cancel the coroutine, which may still clean up; the exit code is then 128 plus the signal's number. A second signal
    ends the process immediately."""
    return uvloop.run(_until_signalled(work))


async def _until_signalled(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    loop = asyncio.get_running_loop()
    signals: list[int] = []

    def stop(number: int) -> None:
        signals.append(number)
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
        if signals:
            return 128 + signals[0]
        raise
