"""The grant of a request that comes by a signed link."""

from __future__ import annotations

from collections.abc import Callable, Collection

from serverpy.access.grant import Grant


class LinkGrant(Grant):
    """The rights of `base`, but extractions are not counted, and `spend` is called with the bytes of each response.
    `base` is the grant of the key that issued the link, or that of the client if no key did."""

    def __init__(self, base: Grant, spend: Callable[[int], None] | None = None) -> None:
        self._base = base
        self._spend = spend
        self.account = base.account

    @property
    def methods(self) -> Collection[str]:
        return self._base.methods

    def check_site(self, extractor: str) -> None:
        self._base.check_site(extractor)

    def enter(self) -> None:
        self._base.enter()

    def leave(self) -> None:
        self._base.leave()

    def spend(self, nbytes: int) -> None:
        if self._spend is not None:
            self._spend(nbytes)
        self._base.spend(nbytes)
