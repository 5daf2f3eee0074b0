"""Counters, for the metrics, of requests that were refused because of a key, a link, a limit or the Host field."""

from __future__ import annotations

from collections import Counter

from serverpy.errors import (
    HeadersTooLarge,
    HostUnknown,
    KeyForbids,
    KeyInvalid,
    KeyRequired,
    LinkExpired,
    LinkInvalid,
    QuotaExceeded,
    RateLimited,
    ServerPYError,
    UrlTooLong,
)

_COUNTED = (
    *(HeadersTooLarge, HostUnknown, KeyForbids, KeyInvalid, KeyRequired),
    *(LinkExpired, LinkInvalid, QuotaExceeded, RateLimited, UrlTooLong),
)


class Refusals:
    """Counters of the refused requests and streams of one serving process, by the `code` of the error. Every code has a
    counter, which is 0 at first, so that its metric exists before the first refusal."""

    def __init__(self) -> None:
        self.codes = Counter({error.code: 0 for error in _COUNTED})

    def count(self, error: ServerPYError) -> None:
        """Increase the counter for `error`. Has no effect if the class of `error` is not in `_COUNTED`."""
        if isinstance(error, _COUNTED):
            self.codes[error.code] += 1
