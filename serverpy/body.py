"""The contract of the three methods: open a `Source`, get a `Body` with its head known and its first bytes in hand.

A body is pulled: `read` gives the next bytes, `b""` at the true end, and raises a `SourceError` where the bytes stop
short of it. There is no other end. `aclose` may be called at any time and more than once; when it returns, sockets,
pipes, threads' work and children that served this body are gone.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Protocol

from serverpy.extraction.values import Media, Track
from serverpy.memory.room import NO_ROOM, Room
from serverpy.ranges import ByteRange

SESSION_BYTES = 32 * 1024
"""The objects of one stream in the serving process: connections, parsers, headers, cookies, tasks; measured, with a
margin."""
UNBOUNDED = sys.maxsize
"""For `Body.read`: no bound but the method's own chunk."""
UNCUT = (
    "`start` and `end` cannot cut a stream whose bytes are the source's; of a live stream, `start` says where to begin."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a method is asked to open.

    `url` is the page as the client gave it; `format` the selector, if any. `media` and `track` are what the
    extraction found; None only for `subprocess`, whose child extracts for itself. `item` is 1-based. `if_range` is
    the client's validator, as sent. `start` is where in a live stream to begin: seconds from the oldest segment listed,
    below 0 back from the end of the list, None for the edge. `room` is where a stream asks for more than
    `stream_bytes`, for a reader that proved to be fast.
    """

    url: str
    format: str | None = None
    item: int | None = None
    media: Media | None = None
    track: Track | None = None
    range: ByteRange | None = None
    if_range: str | None = None
    start: float | None = None
    room: Room = NO_ROOM


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
        rest of a record or block, those of a shared upstream) are returned as they are, up to one chunk."""
        ...

    async def aclose(self) -> None: ...


class Method(Protocol):
    """One way to turn a `Source` into a `Body`. `stream_bytes` is the most that a stream of one file holds, and what is
    reserved before anything is known of the media."""

    @property
    def name(self) -> str: ...

    @property
    def stream_bytes(self) -> int: ...

    def bytes_for(self, track: Track) -> int:
        """The most that a stream of `track` holds, reserved from the budget before `open`."""
        ...

    def carries(self, track: Track) -> bool:
        """Whether this method can stream such a track at all."""
        ...

    async def open(self, source: Source) -> Body:
        """Raises a `ServerPYError`; leaves nothing behind when it does, or when it is cancelled."""
        ...
