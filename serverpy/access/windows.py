"""The counters of rate limits: the fixed windows of the `limits` library, with a bounded storage in memory. `rates.py`
imports this module only when it counts the first extraction, because the library takes 1.2 MB of memory.

The library's own in-memory storage is not bounded: it keeps a counter for every account that it has seen within a
window, and examines all counters after each count. One IPv6 client can have so many networks that their counters would
fill the memory."""

from __future__ import annotations

import functools
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from limits import RateLimitItem, WindowStats, parse_many
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter

from serverpy.access.allowance import Allowance

MAX_COUNTERS = 4096
"""Maximum number of counters, which take about 300 bytes each. A new counter replaces the counter whose window began
first; the account of the replaced counter starts again from zero."""


class Counters(Storage):
    """A bounded storage for the `limits` library, with one counter for each account and window."""

    STORAGE_SCHEME = ["async+serverpy"]  # noqa: RUF012  # the library `limits` declares and reads this attribute

    def __init__(self, clock: Callable[[], float] = time.time, most: int = MAX_COUNTERS) -> None:
        super().__init__()
        self._clock = clock
        self._most = most
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """The count and the end of the window (seconds since 1970) of each counter, in the order in which windows
        began."""

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        count = await self.get(key)
        if count:
            self._counts[key] = (count + amount, self._counts[key][1])
            return count + amount
        self._counts.pop(key, None)
        self._counts[key] = (amount, self._clock() + expiry)
        if len(self._counts) > self._most:
            self._counts.popitem(last=False)
        return amount

    async def get(self, key: str) -> int:
        count, end = self._counts.get(key, (0, 0.0))
        return count if end > self._clock() else 0

    async def get_expiry(self, key: str) -> float:
        return max(self._clock(), self._counts.get(key, (0, 0.0))[1])

    async def check(self) -> bool:
        return True

    async def reset(self) -> int:
        count = len(self._counts)
        self._counts.clear()
        return count

    async def clear(self, key: str) -> None:
        self._counts.pop(key, None)


class Windows:
    """Rate limits by account in fixed windows of time. A window begins when the first extraction of its account is
    counted."""

    def __init__(self, clock: Callable[[], float] = time.time, most: int = MAX_COUNTERS) -> None:
        self.counters = Counters(clock, most)
        self._limiter = FixedWindowRateLimiter(self.counters)
        self._clock = clock

    async def count(self, rate: str, account: str) -> Allowance:
        """Count one extraction of `account` in all windows of `rate`. If one of the windows is full, counts nothing,
        and sets `is_exceeded` in the returned allowance."""
        items = parse(rate)
        is_full = not all([await self._limiter.test(item, account) for item in items])
        if not is_full:
            is_full = not all([await self._limiter.hit(item, account) for item in items])
        found = [(item, await self._limiter.get_window_stats(item, account)) for item in items]
        return self._allowance(found, is_full=is_full)

    def _allowance(self, found: list[tuple[RateLimitItem, WindowStats]], *, is_full: bool) -> Allowance:
        """Return the state of the window with the fewest extractions left. If several windows have equally few left,
        returns the state of the window that ends last."""
        item, stats = min(found, key=lambda pair: (pair[1].remaining, -pair[1].reset_time))
        return Allowance(
            policy=", ".join(f"{each.amount};w={each.get_expiry()}" for each, _ in found),
            limit=item.amount,
            window=item.get_expiry(),
            remaining=stats.remaining,
            reset=max(0, math.ceil(stats.reset_time - self._clock())),
            is_exceeded=is_full,
        )


@functools.lru_cache(maxsize=64)
def parse(rate: str) -> tuple[RateLimitItem, ...]:
    """Parse a rate such as `60/minute` or `10/second;1000/day`. Raises ValueError if `rate` is invalid."""
    return tuple(parse_many(rate))
