"""The rights of one request, and the account that its use is counted for. `delivery.py` and `extraction/extractor.py`
consult the `Grant` of a request before they do anything that may be forbidden or limited. `access/limits.py` makes the
grants of HTTP clients."""

from __future__ import annotations

from collections.abc import Collection

from serverpy.access.key import Key

Headers = tuple[tuple[bytes, bytes], ...]
"""Header fields as in an ASGI response: pairs of a name in lower case and a value."""


class Grant:
    """The rights of one request. This class allows everything: it is the grant for the command line, and for programs
    that use ServerPY as a library. Subclasses allow less.

    `account` is the name for the user of the request in logs and `/streams`: the name of an API key or, without a key,
    the network of the client."""

    account = ""
    key: Key | None = None
    """The API key of the request or, for a signed link, the API key that issued the link. None without a key."""
    is_local = True
    """Whether the client is on this machine, so that a redirect may lead it to addresses that are not public."""
    is_admin = True
    """Whether the request may see and end the streams of all accounts."""
    counts_bytes = False
    """Whether the number of bytes that the client may receive is limited. If so, the caller must call `spend` before it
    sends bytes."""
    limits_sites = False
    """Whether only certain sites are allowed, so that `check_site` may raise an error. Then the streaming method
    `subprocess` is refused, because the server does not know the site before the child process of that method extracts
    the page."""

    @property
    def methods(self) -> Collection[str]:
        """The names of the streaming methods that the request may use; empty if it may use all."""
        return ()

    def check_site(self, extractor: str) -> None:
        """Check that the request may use the site of the yt-dlp extractor with the name `extractor`. Raises
        `KeyForbids` if it may not."""

    async def pay_extraction(self) -> None:
        """Count this request against the rate limit. The caller is about to start an extraction for the request. A
        request is counted once, however many pages it needs. Raises `RateLimited` if the rate limit is exceeded."""

    def settle(self) -> None:
        """Exempt all further extractions of this request from the rate limit. The caller has opened the stream, which
        must not fail only because the server has to extract the page again."""

    async def enter(self, *, head_only: bool = False) -> None:
        """Count a new stream against the limit on open streams. With `head_only`, for a HEAD request, count it against
        a separate limit. If the limit is reached, waits a short time for another stream of the account to end. Raises
        `RateLimited` if none ends in that time, `QuotaExceeded` if the key has used up its daily quota of bytes. After
        a call without an error, the owner of the stream must call `leave` exactly once."""

    def leave(self) -> None:
        """Count the end of a stream that `enter` has counted."""

    def spend(self, nbytes: int) -> None:
        """Count `nbytes` that the caller is about to send to the client. Raises `QuotaExceeded` if they exceed the
        daily quota of the key, or the limit of the signed link. The caller may then send only the first of them, as
        many as the attribute `left` of the error states."""

    def headers(self) -> Headers:
        """Return the header fields that tell the client the state of its rate limit, such as `RateLimit-Remaining`.
        Returns an empty tuple if the request was not counted against a rate limit."""
        return ()


UNLIMITED = Grant()
