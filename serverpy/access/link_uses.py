"""Counters for signed links whose number of uses, or of bytes, is limited. They are in the memory of one process.

A response that begins with the first byte of the media is a use of the link. A response that begins with a later byte
continues a use, because players seek; but if the link has not been used yet, this response is its first use. Responses
to HEAD, 304 responses, and responses to probes (ranges of at most `PROBE_BYTES`) are not uses. The counters of a link
are kept until the link expires. A restart of the server loses them, and each process of `--workers` has its own
counters.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from serverpy.access.links import SKEW_SECONDS, Link
from serverpy.errors import Busy, LinkInvalid, QuotaExceeded
from serverpy.ranges import ByteRange

MAX_LINKS = 4096
"""Maximum number of links with counters, which take about 250 bytes for each link. A link without limits has no
counters."""
MAX_SHARE = 1024
"""Maximum number of links with counters for each account, so that one account cannot use up MAX_LINKS."""
PROBE_BYTES = 2
"""Maximum length, in bytes, of a requested range that only tests whether the server supports ranges: Apple's players
begin with `bytes=0-1`."""


@dataclass(slots=True)
class _Count:
    expires: float
    account: str
    uses: int = 0
    nbytes: int = 0


_NOTHING = _Count(0, "")


class LinkUses:
    """The counters of all links with limits. At most `most` links have counters, and at most `share` links of one
    account. The account of a link is the API key that issued it or, if it was issued without a key, the client that
    uses it."""

    def __init__(
        self, *, most: int = MAX_LINKS, share: int = MAX_SHARE, clock: Callable[[], float] = time.time
    ) -> None:
        self._most = most
        self._share = share
        self._clock = clock
        self._counts: dict[bytes, _Count] = {}
        self._shares = Counter[str]()
        """Number of links with counters, by account."""

    def __len__(self) -> int:
        return len(self._counts)

    def check(self, link: Link, *, from_start: bool) -> None:
        """Check the limits of the link before its stream is opened. `from_start` states whether the client requests
        the media from its first byte. Raises `LinkInvalid` if the uses or bytes of the link are used up."""
        count = self._counts.get(link.id, _NOTHING)
        if link.max_bytes is not None and count.nbytes >= link.max_bytes:
            raise LinkInvalid("All bytes that this link allows have been sent: ask for a new link.")
        if from_start and link.uses is not None and count.uses >= link.uses:
            raise LinkInvalid(f"This link has reached its maximum number of uses ({link.uses}): ask for a new link.")

    def begin(self, link: Link, account: str, first: int, length: int | None) -> None:
        """Count a response that is about to begin with the byte `first` of the media, if the response is a use of the
        link. `length` is its length in bytes if the response is a 206 (Partial Content), otherwise None. Raises
        `LinkInvalid` if the uses or bytes of the link are used up, `Busy` if too many links have counters."""
        if not link.is_counted:
            return
        is_probe = first == 0 and length is not None and length <= PROBE_BYTES
        count = self._counts.get(link.id, _NOTHING)
        is_use = not is_probe and (first == 0 or count.uses == 0)
        self.check(link, from_start=is_use)
        if is_use:
            self._count(link, account).uses += 1

    def spend(self, link: Link, account: str, nbytes: int) -> None:
        """Count `nbytes` that are about to be sent. Raises `QuotaExceeded` if the link allows fewer bytes. The caller
        may then send only the first of them, as many as the attribute `left` of the error states."""
        if link.max_bytes is None:
            return
        count = self._count(link, account)
        fitting = min(nbytes, link.max_bytes - count.nbytes)
        count.nbytes += fitting
        if fitting < nbytes:
            raise QuotaExceeded("All bytes that this link allows have been sent: ask for a new link.", left=fitting)

    def _count(self, link: Link, account: str) -> _Count:
        """Return the counters of `link`. Creates counters with the value 0 if `link` has none. Raises `Busy` if too
        many other links have counters. The counters of a link that has not expired are never removed, because that link
        could then be used again."""
        count = self._counts.get(link.id)
        if count is None:
            if self._is_full(account):
                self._forget_expired()
            if self._is_full(account):
                raise Busy("Too many signed links with a limit on uses or bytes are in use. Try again later.")
            count = self._counts[link.id] = _Count(link.expires + SKEW_SECONDS, account)
            self._shares[account] += 1
        return count

    def _is_full(self, account: str) -> bool:
        return len(self._counts) >= self._most or self._shares[account] >= self._share

    def _forget_expired(self) -> None:
        now = self._clock()
        self._counts = {id: count for id, count in self._counts.items() if count.expires > now}
        self._shares = Counter(count.account for count in self._counts.values())


def asks_from_start(asked: ByteRange | None) -> bool:
    """Return whether a GET request for the range `asked` requests the media from its first byte, and is not a probe.
    None stands for a request without a range."""
    if asked is None:
        return True
    return asked.first == 0 and (asked.last is None or asked.last >= PROBE_BYTES)
