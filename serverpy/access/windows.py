"""The counters of rate limits: items and strategy of the `limits` library, over a storage in memory that is bounded.
`rates.py` imports this module at the first count, because the library takes 1.2 MB.

The library's own storage in memory keeps a counter for every account that it has seen within a window, and looks at all
of them after each count. IPv6 gives one client more networks than a server has memory."""

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
"""Maximum number of counters, of about 300 bytes each. A new counter replaces the one whose window began first, which
then counts from zero again."""


class Counters(Storage):
    """A counter for each account and window."""

    STORAGE_SCHEME = ["async+serverpy"]  # noqa: RUF012  # declared by the library, which reads the attribute

    def __init__(self, clock: Callable[[], float] = time.time, most: int = MAX_COUNTERS) -> None:
        super().__init__()
        self._clock = clock
        self._most = most
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """The count and the end of the window, in seconds since the epoch, in the order in which the windows began."""

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
    """Counts by account in fixed windows, which begin with the first count of an account."""

    def __init__(self, clock: Callable[[], float] = time.time, most: int = MAX_COUNTERS) -> None:
        self.counters = Counters(clock, most)
        self._limiter = FixedWindowRateLimiter(self.counters)
        self._clock = clock

    async def count(self, rate: str, account: str) -> Allowance:
        """Count one for `account`, unless a window of `rate` is full: then none of them is changed."""
        items = parse(rate)
        is_full = not all([await self._limiter.test(item, account) for item in items])
        if not is_full:
            is_full = not all([await self._limiter.hit(item, account) for item in items])
        found = [(item, await self._limiter.get_window_stats(item, account)) for item in items]
        return self._allowance(found, is_full=is_full)

    def _allowance(self, found: list[tuple[RateLimitItem, WindowStats]], *, is_full: bool) -> Allowance:
        """Describe the window that is nearest to its limit; of several, the one that lasts longest."""
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
    """Parse a rate such as `60/minute` or `10/second;1000/day`. Raises ValueError if it is invalid."""
    return tuple(parse_many(rate))
