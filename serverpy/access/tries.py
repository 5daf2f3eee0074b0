"""A limit on failed tries of keys for each client, so that nobody guesses keys, or fills the log, at full speed.

A key that was accepted from a network before is accepted from there even when the limit is reached. Otherwise, anybody
behind the same NAT or proxy could lock out its holder.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from serverpy.errors import RateLimited

LIMIT = 20
"""Failed tries in WINDOW_SECONDS after which a client network has to wait."""
WINDOW_SECONDS = 60.0
KEPT = 1024
"""Number of networks, and of pairs of network and key, that are remembered; the oldest are forgotten first."""


class Tries:
    """The failed tries of the last WINDOW_SECONDS, by client network. Times are those of one monotonic clock."""

    def __init__(self, limit: int = LIMIT, kept: int = KEPT) -> None:
        self._limit = limit
        self._kept = kept
        self._failed: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """For each network the time of the first failure in its window, and the number of failures."""
        self._accepted: OrderedDict[tuple[str, str], None] = OrderedDict()

    def check(self, network: str, name: str | None, now: float) -> None:
        """Raises `RateLimited` if `network` has failed too often. `name` is the key that was found, if any."""
        since, count = self._failed.get(network, (now, 0))
        left = since + WINDOW_SECONDS - now
        if count < self._limit or left <= 0 or (name is not None and (network, name) in self._accepted):
            return
        raise RateLimited("Too many invalid keys came from this address: wait a minute.", math.ceil(left))

    def failed(self, network: str, now: float) -> None:
        """Count a key that was not accepted."""
        since, count = self._failed.pop(network, (now, 0))
        if since + WINDOW_SECONDS <= now:
            since, count = now, 0
        self._failed[network] = since, count + 1
        if len(self._failed) > self._kept:
            self._failed.popitem(last=False)

    def accepted(self, network: str, name: str) -> None:
        """Remember that the key `name` is used from `network`."""
        pair = network, name
        self._accepted[pair] = None
        self._accepted.move_to_end(pair)
        if len(self._accepted) > self._kept:
            self._accepted.popitem(last=False)
