"""Waits for a condition, which fail at their deadline; and the signals that a child starts with."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

SECONDS = 20.0
POLL_SECONDS = 0.01


def wait_for(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(POLL_SECONDS)


async def eventually(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  any condition
            await asyncio.sleep(POLL_SECONDS)


def as_from_a_terminal() -> None:
    """For `preexec_fn`: SIGINT and SIGHUP end the child, although whoever runs the tests may ignore them."""
    _both(signal.SIG_DFL)


def as_by_nohup() -> None:
    """For `preexec_fn`: the child starts with SIGINT and SIGHUP ignored."""
    _both(signal.SIG_IGN)


def _both(handler: signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)
