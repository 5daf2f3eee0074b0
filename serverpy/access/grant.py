"""What one request may do, and who pays for it. `delivery.py` and `extraction/extractor.py` ask a grant at each step;
`access/limits.py` makes the grants of HTTP clients."""

from __future__ import annotations

from collections.abc import Collection

from serverpy.access.key import Key

Headers = tuple[tuple[bytes, bytes], ...]
"""Header fields with names in lower case, as ASGI has them."""


class Grant:
    """The rights of one request. This class allows everything: it is the grant of the operator, and of a program that
    uses ServerPY as a library. Subclasses limit it.

    `account` names who pays, for logs and `/streams`: the name of a key, or the address of a client."""

    account = ""
    key: Key | None = None
    """The API key of the request, or that issued the link of the request."""
    is_local = True
    """Whether the client is on this machine, so that it reaches what only this machine reaches."""
    is_admin = True
    """Whether the streams of all accounts may be seen and ended."""
    counts_bytes = False
    """Whether `spend` must be called."""
    limits_sites = False
    """Whether `check_site` may raise. Then the page must be extracted by this server itself."""

    @property
    def methods(self) -> Collection[str]:
        """The names of the methods that may be used; empty for all."""
        return ()

    def check_site(self, extractor: str) -> None:
        """Raises `KeyForbids` if the media of this extractor is not allowed."""

    async def pay_extraction(self) -> None:
        """Count this request against the rate limit, because an extraction is about to start for it. A request is
        counted once, however many pages it needs. Raises `RateLimited` if the request is one too many."""

    def settle(self) -> None:
        """Let this request extract pages without being counted from now on: its stream is open, and must not end
        because its page has to be extracted again."""

    async def enter(self, *, head_only: bool = False) -> None:
        """Count a stream that begins, or a request for its head alone; the two have separate limits. Waits a short time
        for another stream of the account to end if too many are open. Raises `RateLimited` if too many are still open
        then, `QuotaExceeded` if no bytes are left for today. The owner of the stream calls `leave` exactly once after a
        call that does not raise."""

    def leave(self) -> None:
        """Count the end of a stream."""

    def spend(self, nbytes: int) -> None:
        """Count bytes that are about to be sent to the client. Raises `QuotaExceeded` if they exceed the bytes of
        today; the caller must then not send them."""

    def headers(self) -> Headers:
        """Return the header fields that the response carries, such as `RateLimit-Remaining`, if the request has been
        counted."""
        return ()


UNLIMITED = Grant()
