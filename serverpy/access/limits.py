"""The limits of HTTP clients: counters for each account (an API key, or the network of a client without a key), and the
grants of requests, which increase the counters."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from serverpy.access.allowance import Allowance
from serverpy.access.grant import Grant, Headers
from serverpy.access.key import NO_LIMIT, Key
from serverpy.access.quotas import Quotas
from serverpy.access.rates import Rates
from serverpy.access.streams import Streams
from serverpy.errors import KeyForbids, QuotaExceeded, RateLimited
from serverpy.extraction.sites import Sites
from serverpy.options import ClientLimits

STREAMS_RETRY_SECONDS = 5
"""Value of `Retry-After`, in seconds, for a client that has too many streams open."""


class Limits:
    """The counters of one serving process for each account: extractions, open streams, and bytes sent today."""

    def __init__(self, limits: ClientLimits = ClientLimits(), clock: Callable[[], float] = time.time) -> None:
        self.settings = limits
        self.rates = Rates(clock)
        self.streams = Streams()
        self.quotas = Quotas(clock)

    def grant_for(
        self, account: str, key: Key | None = None, *, is_local: bool = False, is_admin: bool = False
    ) -> ClientGrant:
        """Return the grant of one request. The request is counted for `key` or, without a key, for `account`, which is
        the network of the client.

        `is_local` states whether the client is on this machine and used no proxy. Without a key, a local client may
        open any number of streams, and `ClientLimits.local_rate` limits its extractions. `is_admin` states whether the
        client may see and end the streams of all accounts."""
        if key is not None:
            rate = self.settings.rate if key.rate is None else None if key.rate == NO_LIMIT else key.rate
            streams = self.settings.streams if key.streams is None else key.streams
        elif is_local:
            rate, streams = self.settings.local_rate, None
        else:
            rate, streams = self.settings.rate, self.settings.streams
        return ClientGrant(self, account, key, rate, streams, is_local=is_local, is_admin=is_admin)


class ClientGrant(Grant):
    """The rights of one request of an HTTP client. `rate` limits extractions, in the syntax of the `limits` library.
    `streams` is the maximum number of open streams. None means no limit."""

    def __init__(
        self,
        limits: Limits,
        account: str,
        key: Key | None,
        rate: str | None,
        streams: int | None,
        *,
        is_local: bool,
        is_admin: bool,
    ) -> None:
        self.account = account if key is None else key.name
        self.is_local = is_local
        self.is_admin = is_admin
        self.key = key
        self._limits = limits
        # the prefix is necessary, because the name of a key may look like an IP address
        self._payer = f"address {account}" if key is None else f"key {key.name}"
        self._rate = rate
        self._streams = streams
        self._quota = None if key is None else key.bytes_per_day
        self.counts_bytes = self._quota is not None
        self.limits_sites = key is not None and bool(key.sites)
        self._allowance: Allowance | None = None
        self._is_settled = False
        self._place: str | None = None
        """Name under which `Streams` has counted the stream of this request. None if the stream is not counted."""

    @property
    def methods(self) -> Collection[str]:
        return () if self.key is None else self.key.methods

    def check_site(self, extractor: str) -> None:
        if self.key is not None and self.key.sites and not Sites(allow=self.key.sites).may_run(extractor):
            raise KeyForbids("This API key may not be used for this site: ask the operator to allow the site.")

    async def pay_extraction(self) -> None:
        if self._rate is None or self._is_settled:
            return
        self._allowance = allowance = await self._limits.rates.count(self._rate, self._payer)
        if allowance.is_exceeded:
            raise RateLimited(
                f"Rate limit exceeded: at most {allowance.limit} page extractions in {allowance.window} seconds. "
                f"Try again in {allowance.reset} seconds.",
                allowance.reset,
            )
        self._is_settled = True

    def settle(self) -> None:
        self._is_settled = True

    async def enter(self, *, head_only: bool = False) -> None:
        if self._quota is not None and self._limits.quotas.is_spent(self._payer, self._quota):
            raise self._quota_exceeded()
        if self._streams is None:
            return
        place = f"heads of {self._payer}" if head_only else self._payer
        if not await self._limits.streams.enter(place, self._streams):
            raise RateLimited(
                f"Too many open streams: at most {self._streams} for each key or address. "
                "Try again when another stream has ended.",
                STREAMS_RETRY_SECONDS,
            )
        self._place = place

    def leave(self) -> None:
        if self._place is not None:
            self._limits.streams.leave(self._place)

    def spend(self, nbytes: int) -> None:
        if self._quota is None:
            return
        fitting = self._limits.quotas.spend(self._payer, self._quota, nbytes)
        if fitting < nbytes:
            raise self._quota_exceeded(fitting)

    def headers(self) -> Headers:
        return () if self._allowance is None else self._allowance.headers

    def _quota_exceeded(self, left: int = 0) -> QuotaExceeded:
        seconds = int(self._limits.quotas.seconds_left()) + 1
        return QuotaExceeded(
            f"The quota of this API key is used up: {self._quota} bytes a day. Try again after midnight UTC.",
            seconds,
            left=left,
        )
