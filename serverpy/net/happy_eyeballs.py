"""Connections by Happy Eyeballs (RFC 8305): the first address of a host that accepts a connection is used, and
remembered for later connections."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import zip_longest
from typing import TypeVar

from serverpy.tasks import spawn

ATTEMPT_DELAY_SECONDS = 0.25
"""Seconds after the start of a connection attempt until the next attempt starts in parallel (RFC 8305 §5)."""
PROXIED_DELAY_SECONDS = 2.0
"""Seconds after the start of a connection attempt through a proxy until the next attempt starts in parallel. The delay
is longer than ATTEMPT_DELAY_SECONDS, because an attempt through a proxy takes several round trips."""
MAX_ADDRESSES = 8
MAX_HOSTS = 512

T = TypeVar("T")


class Routes:
    """The latest address that accepted a connection, for each of the MAX_HOSTS most recent hosts. A `Routes` belongs to
    one event loop. A `Routes` only orders addresses, which the guard still checks after every look-up."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, str] = OrderedDict()

    def order(self, host: str, addresses: Sequence[str]) -> list[str]:
        """Return at most MAX_ADDRESSES of `addresses` in the order in which to try them."""
        return in_order(addresses, self._last.get(host))[:MAX_ADDRESSES]

    def remember(self, host: str, address: str) -> None:
        self._last[host] = address
        self._last.move_to_end(host)
        if len(self._last) > MAX_HOSTS:
            self._last.popitem(last=False)


def in_order(addresses: Sequence[str], last: str | None) -> list[str]:
    """Return `addresses` with alternating address families (RFC 8305 §4). The first family is that of `last` or, if
    `last` is None, that of the first address. If `last` is one of `addresses`, it comes first."""
    begun_with = ":" in (last or addresses[0])
    one = sorted((each for each in addresses if (":" in each) is begun_with), key=lambda each: each != last)
    other = [each for each in addresses if (":" in each) is not begun_with]
    return [each for pair in zip_longest(one, other) for each in pair if each is not None]


async def first_to_connect(
    attempts: Sequence[Callable[[], Awaitable[T]]], delay_seconds: float, discard: Callable[[T], None]
) -> tuple[int, T]:
    """Start `attempts` one after the other: the next attempt starts when one has failed, or after `delay_seconds`.
    Return the index and the result of the first attempt that succeeds. Cancel the other attempts. If one of these
    succeeds anyway, call `discard` with its result. Raises the last OSError if all attempts fail. If an attempt raises
    another error, raises that error at once. The caller sets a timeout."""
    if len(attempts) == 1:
        return 0, await attempts[0]()
    waiting, running = deque(enumerate(attempts)), dict[asyncio.Task[T], int]()
    try:
        while True:
            if waiting:
                number, attempt = waiting.popleft()
                running[spawn(_awaited(attempt), name="connection attempt")] = number
            done, _ = await asyncio.wait(
                running, timeout=delay_seconds if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                number, error = running[task], task.exception()
                if error is None:
                    del running[task]
                    return number, task.result()
                if not isinstance(error, OSError) or not (waiting or len(running) > 1):
                    raise error
                del running[task]
    finally:
        await _give_up(running, discard)


async def _awaited(attempt: Callable[[], Awaitable[T]]) -> T:
    return await attempt()


async def _give_up(running: dict[asyncio.Task[T], int], discard: Callable[[T], None]) -> None:
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
    for task in running:
        if not task.cancelled() and task.exception() is None:
            discard(task.result())
