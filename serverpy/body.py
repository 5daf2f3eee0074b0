"""The contract of the openers: `open` turns a `Plan` into a `Body` whose head is known and whose first bytes have
arrived.

The reader of a body pulls its bytes: `read` returns the next bytes, `b""` at the clean EOF, and raises a `SourceError`
if the bytes stop before EOF. A body has no other end. When `aclose` returns, the sockets, pipes, thread work and child
processes that served the body no longer exist. tests/contract checks every opener against this contract.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from serverpy.access.grant import UNLIMITED, Grant
from serverpy.default_choice import DEFAULT, Wish
from serverpy.errors import ServerPYError, UpstreamFailed
from serverpy.extraction.values import Media
from serverpy.memory.budget import Reservation
from serverpy.plan import Capability, Plan
from serverpy.ranges import ByteRange
from serverpy.tasks import Unlosable

SESSION_BYTES = 32 * 1024
"""Memory, in bytes, of one stream's objects in the server process: connections, parsers, headers, cookies and tasks.
The value was measured, and a margin added."""
UNBOUNDED = sys.maxsize
"""Value of the argument `most` of `Body.read` that sets no limit; only the chunk size of the method then limits a
read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The origin of a plan's tracks, and the bytes of them that the client wants.

    `url` is the page as the client gave it; `format` is the selector, if any. `media` is the result of the extraction;
    it is None only for an opener that extracts the page itself and makes the default choice by `wish`. `item` is
    1-based. `if_range` is the client's validator, as sent. `start` is the position in a live stream at which to begin,
    in seconds: from the oldest listed segment or, if negative, back from the end of the playlist; None means the live
    edge. `head_only` means that the body will not be read: an opener then requests only the bytes from which it learns
    the head. `continues` means that earlier reads got ranges of the same file, so that a refusal of this range may be
    temporary. `needs_range` means that the opener cannot use the whole file in place of the range, or that the media
    server has already sent a range of the file. `grant` pays for further extractions of the page, and states whether
    the client is on this machine.
    """

    url: str
    format: str | None = None
    item: int | None = None
    media: Media | None = None
    wish: Wish = DEFAULT
    range: ByteRange | None = None
    if_range: str | None = None
    start: float | None = None
    head_only: bool = False
    continues: bool = False
    needs_range: bool = False
    grant: Grant = UNLIMITED


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The facts about a body that are known before its first byte is sent.

    `length` is the exact number of bytes that `read` will return; None if unknown. `start` is the offset, in the whole
    file, of the first byte of the body. `total` is the length of the whole file in bytes, if known; `estimate` is an
    approximate length. `partial` means that a range was requested and is honoured, `seekable` that ranges of these
    bytes can be requested, `unstored_ranges` that caches must not store such ranges, `is_live` that the media is a live
    stream. `duration` is the number of seconds that the whole file plays; None if it is unknown, or if the media is
    live. `location` is the URL that the client is redirected to; such a body has no bytes.
    """

    content_type: str
    ext: str
    length: int | None = None
    start: int = 0
    total: int | None = None
    partial: bool = False
    seekable: bool = False
    unstored_ranges: bool = False
    is_live: bool = False
    duration: float | None = None
    estimate: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    title: str | None = None
    location: str | None = None
    address: str | None = field(default=None, repr=False)
    """The URL of a file, after redirects: for comparisons only, never to be shown."""
    timings: dict[str, float] = field(default_factory=dict)
    """Durations in seconds, by phase ("connect", "first-byte"), for the `Server-Timing` header."""


class Body(Protocol):
    """An open stream. One owner reads and closes the stream."""

    @property
    def head(self) -> Head: ...

    async def read(self, most: int = UNBOUNDED) -> bytes:
        """Return the next bytes, or `b""` at the end. `most` (1 or more) and the chunk size of the method limit the
        bytes that a call requests from the source. Bytes that have already arrived (the first bytes of the body, the
        rest of a TLS record or AES block, the bytes of a shared live stream) are returned immediately, up to one chunk,
        even if they exceed `most`. A merge requests a chunk from each of its sources, and returns at most `most`
        bytes."""
        ...

    @property
    def loss(self) -> ServerPYError | None:
        """The error with which the stream was lost between two reads (its client fell behind a shared live stream), or
        None if the stream is not lost."""
        ...

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Register `tell`, which the body calls when the stream is lost between two reads. Without such a callback, the
        caller learns of the loss only at its next read."""
        ...

    async def aclose(self) -> None:
        """Close the stream. Idempotent. The caller may close the stream at any time: a read in progress then raises
        `UpstreamFailed`."""
        ...


class HeadOnly(Unlosable):
    """The body for a source that is `head_only`, or for a redirect. It holds no open connection."""

    def __init__(self, head: Head) -> None:
        self.head = head

    async def read(self, most: int = UNBOUNDED) -> bytes:
        """Raise `UpstreamFailed`: this body was opened for a HEAD request or a redirect, so it has no bytes to read."""
        raise UpstreamFailed("The body cannot be read, because only the head of the media was requested.")

    async def aclose(self) -> None: ...


class Opener(Protocol):
    """A method of opening the media of a plan as a `Body`."""

    @property
    def capability(self) -> Capability: ...

    async def open(self, plan: Plan, source: Source, reservation: Reservation) -> Body:
        """Open `plan`, which this opener's `capability` has made. The caller has reserved `plan.nbytes` in
        `reservation`. The body may borrow more bytes from `reservation` until it is closed. Raises a `ServerPYError` if
        the plan cannot be opened. If the call raises or is cancelled, it leaves no connection, process or task
        behind."""
        ...
