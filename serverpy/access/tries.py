"""A limit on failed tries of keys for each client, so that nobody guesses keys, or fills the log, at full speed.

A valid key is accepted also when the limit is reached: keys are too long to be guessed, and otherwise anybody behind
the same NAT or proxy could lock out their holders.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from serverpy.errors import RateLimited

LIMIT = 20
"""Failed tries in WINDOW_SECONDS after which a client network has to wait."""
WINDOW_SECONDS = 60.0
KEPT = 1024
"""Number of networks that are remembered; the oldest are forgotten first."""


class Tries:
    """The failed tries of the last WINDOW_SECONDS, by client network. Times are those of one monotonic clock."""

    def __init__(self, limit: int = LIMIT, kept: int = KEPT) -> None:
        self._limit = limit
        self._kept = kept
        self._failed: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """For each network the time of the first failure in its window, and the number of failures."""

    def fail(self, network: str, now: float) -> None:
        """Count a key that was not accepted. Raises `RateLimited` if `network` has failed too often already."""
        since, count = self._failed.pop(network, (now, 0))
        if since + WINDOW_SECONDS <= now:
            since, count = now, 0
        self._failed[network] = since, min(count + 1, self._limit + 1)
        if len(self._failed) > self._kept:
            self._failed.popitem(last=False)
        if count >= self._limit:
            left = math.ceil(since + WINDOW_SECONDS - now)
            raise RateLimited("Too many invalid keys came from this address: wait a minute.", left)
