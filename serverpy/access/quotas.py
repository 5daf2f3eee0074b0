"""Counters for the bytes that the server sends to each account in a day (UTC)."""

from __future__ import annotations

import time
from collections.abc import Callable

DAY_SECONDS = 86400


class Quotas:
    """Counters of bytes by account, which are reset at midnight UTC. Only API keys can have a quota, and only accounts
    with a quota have a counter, so the number of keys limits the number of counters. A restart of the server loses the
    counters, which are in memory."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._day = 0
        self._spent: dict[str, int] = {}

    def __len__(self) -> int:
        """Return the number of accounts that have a counter."""
        return len(self._spent)

    def is_spent(self, account: str, quota: int) -> bool:
        """Return whether `account` has used up today's `quota`, which is in bytes."""
        self._begin_day()
        return self._spent.get(account, 0) >= quota

    def spend(self, account: str, quota: int, nbytes: int) -> int:
        """Count `nbytes` that the server is about to send to `account`. Returns how many of them fit into `quota`."""
        self._begin_day()
        spent = self._spent.get(account, 0)
        fitting = max(0, min(nbytes, quota - spent))
        self._spent[account] = spent + fitting
        return fitting

    def seconds_left(self) -> float:
        """Return the seconds until midnight UTC."""
        return DAY_SECONDS - self._clock() % DAY_SECONDS

    def _begin_day(self) -> None:
        day = int(self._clock() // DAY_SECONDS)
        if day != self._day:
            self._day = day
            self._spent.clear()
