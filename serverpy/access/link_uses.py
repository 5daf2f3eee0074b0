"""The uses and bytes of links that limit them, counted in the memory of one process.

A use is a response that begins with the first byte of the media. A response that begins later continues a use, as
players seek; if the link has not been used yet, it counts as a use itself. HEAD, 304 and probes (`PROBE_BYTES`) are no
uses. The counts of a link are kept until it expires. A restart forgets them, and each process of `--workers` has counts
of its own.
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
"""Maximum number of links whose counts are kept, at about 250 bytes each. A link without limits is not counted."""
MAX_SHARE = 1024
"""Maximum number of links of one account whose counts are kept, so that no account uses up those of the others."""
PROBE_BYTES = 2
"""Maximum length of a range that only asks whether the server honours ranges: Apple's players begin with
`bytes=0-1`."""


@dataclass(slots=True)
class _Count:
    expires: float
    account: str
    uses: int = 0
    nbytes: int = 0


_NOTHING = _Count(0, "")


class LinkUses:
    """The counts of the limited links. `account` is the account of a link: the key that issued it or, if no key did,
    the client that uses it."""

    def __init__(
        self, *, most: int = MAX_LINKS, share: int = MAX_SHARE, clock: Callable[[], float] = time.time
    ) -> None:
        self._most = most
        self._share = share
        self._clock = clock
        self._counts: dict[bytes, _Count] = {}
        self._shares = Counter[str]()
        """Number of counted links by account."""

    def __len__(self) -> int:
        return len(self._counts)

    def check(self, link: Link, *, from_start: bool) -> None:
        """Refuse early what would be refused once the stream is open. `from_start` is whether the client asks for the
        media from its first byte. Raises `LinkInvalid` if the uses or bytes of the link are used up."""
        count = self._counts.get(link.id, _NOTHING)
        if link.max_bytes is not None and count.nbytes >= link.max_bytes:
            raise LinkInvalid("All bytes that this link allows have been sent.")
        if from_start and link.uses is not None and count.uses >= link.uses:
            raise LinkInvalid(f"This link has been used as often as it allows: {link.uses} times.")

    def begin(self, link: Link, account: str, first: int, length: int | None) -> None:
        """Count a response that is about to begin with the byte `first`. `length` is the number of its bytes if it is
        the answer to a range. Raises `LinkInvalid` if the uses or bytes of the link are used up, `Busy` if too many
        links are counted."""
        if not link.is_counted:
            return
        is_probe = first == 0 and length is not None and length <= PROBE_BYTES
        count = self._counts.get(link.id, _NOTHING)
        is_use = not is_probe and (first == 0 or count.uses == 0)
        self.check(link, from_start=is_use)
        if is_use:
            self._count(link, account).uses += 1

    def spend(self, link: Link, account: str, nbytes: int) -> None:
        """Count bytes that are about to be sent. Raises `QuotaExceeded` if they are more than the link allows."""
        if link.max_bytes is None:
            return
        count = self._count(link, account)
        if count.nbytes + nbytes > link.max_bytes:
            count.nbytes = link.max_bytes
            raise QuotaExceeded("All bytes that this link allows have been sent.")
        count.nbytes += nbytes

    def _count(self, link: Link, account: str) -> _Count:
        """Return the counts of `link`, which begin at zero. Raises `Busy` if too many links are counted, because a link
        that is forgotten before it expires could be used again."""
        count = self._counts.get(link.id)
        if count is None:
            if self._is_full(account):
                self._forget_expired()
            if self._is_full(account):
                raise Busy("Too many links with a limit are in use.")
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
    """Return whether a GET with this range is a use if the range is honoured."""
    if asked is None:
        return True
    return asked.first == 0 and (asked.last is None or asked.last >= PROBE_BYTES)
