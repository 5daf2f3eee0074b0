"""A limit on the invalid API keys that each client network may send, so that no client can try keys, or fill the log,
at full speed.

The server accepts a valid key even if the network of the client has reached the limit: otherwise one client behind a
NAT or proxy could lock out all other clients behind that NAT or proxy. This is safe, because keys are too long to be
guessed.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from serverpy.errors import RateLimited

LIMIT = 20
"""Maximum number of invalid keys from one network in WINDOW_SECONDS. Further invalid keys get a 429 response."""
WINDOW_SECONDS = 60.0
KEPT = 1024
"""Maximum number of networks with a counter. The network whose last invalid key is the oldest loses its counter
first."""


class Tries:
    """Counters of invalid API keys by client network. The window of a network begins with an invalid key and lasts
    WINDOW_SECONDS. All times are seconds of one monotonic clock."""

    def __init__(self, limit: int = LIMIT, kept: int = KEPT) -> None:
        self._limit = limit
        self._kept = kept
        self._failed: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """For each network, the time of the first invalid key in its window, and the number of invalid keys in the
        window."""

    def fail(self, network: str, now: float) -> None:
        """Count an invalid key from `network`. Raises `RateLimited` if the network has already reached the limit."""
        since, count = self._failed.pop(network, (now, 0))
        if since + WINDOW_SECONDS <= now:
            since, count = now, 0
        self._failed[network] = since, min(count + 1, self._limit + 1)
        if len(self._failed) > self._kept:
            self._failed.popitem(last=False)
        if count >= self._limit:
            left = math.ceil(since + WINDOW_SECONDS - now)
            raise RateLimited(
                "Too many invalid API keys from this address. Wait a minute, then send a valid key.", left
            )
