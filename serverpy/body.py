"""The contract of the openers: `open` a `Plan`, get a `Body` with its head known and its first bytes in hand.

A body is pulled: `read` gives the next bytes, `b""` at the true end, and raises a `SourceError` if the bytes stop short
of it. There is no other end. When `aclose` returns, sockets, pipes, the work of threads, and children that served this
body are gone. Every opener is held to this by tests/contract.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from serverpy.errors import ServerPYError
from serverpy.extraction.values import Media
from serverpy.memory.budget import Reservation
from serverpy.plan import Capability, Plan
from serverpy.ranges import ByteRange

SESSION_BYTES = 32 * 1024
"""The objects of one stream in the serving process: connections, parsers, headers, cookies, tasks; measured, with a
margin."""
UNBOUNDED = sys.maxsize
"""For `Body.read`: no bound but the method's own chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a plan's tracks come from, and which of their bytes the client wants.

    `url` is the page as the client gave it; `format` the selector, if any. `media` is what the extraction found; None
    only for an opener that extracts for itself. `item` is 1-based. `if_range` is the client's validator, as sent.
    `start` is where in a live stream to begin: seconds from the oldest segment listed, below 0 back from the end of the
    playlist, None for the edge.
    """

    url: str
    format: str | None = None
    item: int | None = None
    media: Media | None = None
    range: ByteRange | None = None
    if_range: str | None = None
    start: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is known of the bytes before the first is sent.

    `length` is the exact number of bytes that `read` will give, or None. `start` is the offset of the first byte in
    the whole, `total` the length of the whole if known; `partial` says that a range was asked for and is honoured.
    `seekable` says that ranges of these bytes can be asked for.
    """

    content_type: str
    ext: str
    length: int | None = None
    start: int = 0
    total: int | None = None
    partial: bool = False
    seekable: bool = False
    estimate: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    title: str | None = None
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds by name, for `Server-Timing`: connect, first-byte."""


class Body(Protocol):
    """An open stream. One owner reads it and closes it."""

    @property
    def head(self) -> Head: ...

    async def read(self, most: int = UNBOUNDED) -> bytes:
        """Read the next bytes, `b""` at the end: at most `most` (1 or more) or one chunk of the method, whichever is
        smaller. `most` bounds what is asked of the source; bytes that have come already (the first of the body, the
        rest of a record or block, those of a shared upstream) are returned as they are, up to one chunk. A merge
        asks its sources for a chunk each, and gives `most` bytes of it."""
        ...

    @property
    def loss(self) -> ServerPYError | None:
        """The error that ended the stream while nobody read, or None."""
        ...

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Call `tell` when the stream is lost: a client that reads nothing would otherwise learn it at its next
        read."""
        ...

    async def aclose(self) -> None:
        """Idempotent. May be called at any time; a read that is under way raises `UpstreamFailed`."""
        ...


class Opener(Protocol):
    """One way to turn a plan into a body."""

    @property
    def capability(self) -> Capability: ...

    async def open(self, plan: Plan, source: Source, reservation: Reservation) -> Body:
        """Open `plan`, which `capability` made and for which `reservation` holds `plan.nbytes`. What the body holds
        beyond that, `reservation` lends until the body is closed. Raises a `ServerPYError`; leaves nothing behind if it
        raises or is cancelled."""
        ...
