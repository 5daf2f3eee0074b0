"""The limits of HTTP clients: what each account has used, and the grants that charge it."""

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
"""Seconds after which a client that has too many streams open may ask again."""


class Limits:
    """The use of one serving process by its accounts: rates, open streams and bytes of today."""

    def __init__(self, limits: ClientLimits = ClientLimits(), clock: Callable[[], float] = time.time) -> None:
        self.settings = limits
        self.rates = Rates(clock)
        self.streams = Streams()
        self.quotas = Quotas(clock)

    def grant_for(
        self, account: str, key: Key | None = None, *, is_local: bool = False, is_admin: bool = False
    ) -> ClientGrant:
        """Make the grant of one request. Without a `key`, `account` pays, which is the network of the client.

        `is_local` is whether the client is on this machine and came through no proxy: without a key, it may open any
        number of streams, and has a rate limit of its own. `is_admin` is whether the client may see and end the streams
        of all accounts."""
        if key is not None:
            rate = self.settings.rate if key.rate is None else None if key.rate == NO_LIMIT else key.rate
            streams = self.settings.streams if key.streams is None else key.streams
        elif is_local:
            rate, streams = self.settings.local_rate, None
        else:
            rate, streams = self.settings.rate, self.settings.streams
        return ClientGrant(self, account, key, rate, streams, is_local=is_local, is_admin=is_admin)


class ClientGrant(Grant):
    """The rights of one request of an HTTP client. `rate` is in the syntax of the `limits` library, `streams` the
    number of streams at once; None is no limit."""

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
        self._payer = f"address {account}" if key is None else f"key {key.name}"  # a key may be named like an address
        self._rate = rate
        self._streams = streams
        self._quota = None if key is None else key.bytes_per_day
        self.counts_bytes = self._quota is not None
        self.limits_sites = key is not None and bool(key.sites)
        self._allowance: Allowance | None = None
        self._is_settled = False
        self._place: str | None = None
        """Account under which `Streams` counts the stream of this request; None if it is not counted."""

    @property
    def methods(self) -> Collection[str]:
        return () if self.key is None else self.key.methods

    def check_site(self, extractor: str) -> None:
        if self.key is not None and self.key.sites and not Sites(allow=self.key.sites).may_run(extractor):
            raise KeyForbids("This key may not be used for this site.")

    async def pay_extraction(self) -> None:
        if self._rate is None or self._is_settled:
            return
        self._allowance = allowance = await self._limits.rates.count(self._rate, self._payer)
        if allowance.is_exceeded:
            raise RateLimited(
                f"Rate limit exceeded: at most {allowance.limit} new pages in {allowance.window} seconds. "
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
                f"Too many streams at once: at most {self._streams} for each key or address. "
                "Try again when one of them has ended.",
                STREAMS_RETRY_SECONDS,
            )
        self._place = place

    def leave(self) -> None:
        if self._place is not None:
            self._limits.streams.leave(self._place)

    def spend(self, nbytes: int) -> None:
        if self._quota is not None and not self._limits.quotas.spend(self._payer, self._quota, nbytes):
            raise self._quota_exceeded()

    def headers(self) -> Headers:
        return () if self._allowance is None else self._allowance.headers

    def _quota_exceeded(self) -> QuotaExceeded:
        seconds = int(self._limits.quotas.seconds_left()) + 1
        return QuotaExceeded(
            f"The quota of this key is used up: {self._quota} bytes a day. The next day begins at midnight UTC.",
            seconds,
        )
