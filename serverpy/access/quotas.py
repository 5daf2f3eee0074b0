"""The bytes that each account has received today (UTC). Pure, except for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

DAY_SECONDS = 86400


class Quotas:
    """Counts of bytes by account, which begin anew at midnight UTC. Only accounts with a quota are counted, and these
    are keys, so the file of keys bounds the entries. The counts are in memory: a restart forgets them."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._day = 0
        self._spent: dict[str, int] = {}

    def __len__(self) -> int:
        """Number of accounts that have received bytes on the last day that was counted."""
        return len(self._spent)

    def is_spent(self, account: str, quota: int) -> bool:
        """Return whether `account` has used up its `quota` of bytes for today."""
        self._begin_day()
        return self._spent.get(account, 0) >= quota

    def spend(self, account: str, quota: int, nbytes: int) -> bool:
        """Count `nbytes` of `account`. Returns False if they exceed `quota`; then the quota is used up, although its
        last bytes were not sent: a stream of a few bytes for each later request would help nobody."""
        self._begin_day()
        spent = self._spent.get(account, 0) + nbytes
        self._spent[account] = min(spent, quota)
        return spent <= quota

    def seconds_left(self) -> float:
        """Return the seconds until the next day begins."""
        return DAY_SECONDS - self._clock() % DAY_SECONDS

    def _begin_day(self) -> None:
        day = int(self._clock() // DAY_SECONDS)
        if day != self._day:
            self._day = day
            self._spent.clear()
