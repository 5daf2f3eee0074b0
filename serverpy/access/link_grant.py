"""The rights of a request that a client sends to a signed link."""

from __future__ import annotations

from collections.abc import Callable, Collection

from serverpy.access.grant import Grant
from serverpy.access.key import Key
from serverpy.errors import QuotaExceeded


class LinkGrant(Grant):
    """The rights of a request to a signed link: those of the grant `base`, but without a rate limit on extractions.
    `base` belongs to the API key that issued the link or, if the link was issued without a key, to the client.
    `is_local` states whether the client is on this machine. `spend` counts bytes against the limit of the link
    itself."""

    is_admin = False

    def __init__(
        self, base: Grant, key: Key | None = None, *, is_local: bool = False, spend: Callable[[int], None] | None = None
    ) -> None:
        self._base = base
        self._spend = spend
        self.key = key
        self.account = base.account
        self.is_local = is_local
        self.limits_sites = base.limits_sites
        self.counts_bytes = base.counts_bytes or spend is not None

    @property
    def methods(self) -> Collection[str]:
        return self._base.methods

    def check_site(self, extractor: str) -> None:
        self._base.check_site(extractor)

    async def enter(self, *, head_only: bool = False) -> None:
        await self._base.enter(head_only=head_only)

    def leave(self) -> None:
        self._base.leave()

    def spend(self, nbytes: int) -> None:
        try:
            if self._spend is not None:
                self._spend(nbytes)
        except QuotaExceeded as error:
            self._base.spend(error.left)
            raise
        self._base.spend(nbytes)
