"""Counts of what keys, links, limits and the check of the host have refused, for the metrics."""

from __future__ import annotations

from collections import Counter

from serverpy.errors import (
    HostUnknown,
    KeyForbids,
    KeyInvalid,
    KeyRequired,
    LinkExpired,
    LinkInvalid,
    QuotaExceeded,
    RateLimited,
    ServerPYError,
)

_COUNTED = (HostUnknown, KeyForbids, KeyInvalid, KeyRequired, LinkExpired, LinkInvalid, QuotaExceeded, RateLimited)


class Refusals:
    """The number of refused requests and streams of one serving process, by the code of the error. A code that has not
    occurred yet counts 0, so that its metric exists from the start."""

    def __init__(self) -> None:
        self.codes = Counter({error.code: 0 for error in _COUNTED})

    def count(self, error: ServerPYError) -> None:
        """Count `error` if it is a refusal; an error of another kind is not counted."""
        if isinstance(error, _COUNTED):
            self.codes[error.code] += 1
