"""The reader of one source file of a merged MP4. The reader uses one connection as long as each read begins at or
shortly after the end of the previous read, as is usual."""

from __future__ import annotations

from dataclasses import replace

from serverpy.body import Body, Head, Opener, Source
from serverpy.containers import MP4
from serverpy.errors import RangeNotSatisfiable, UnsupportedConversion, UpstreamFailed
from serverpy.media.weave.cache import SourceVersion
from serverpy.memory.budget import Reservation
from serverpy.net.urls import Origin, split
from serverpy.plan import Plan
from serverpy.ranges import ByteRange
from serverpy.validators import dates_differ, opaque_tags_differ

GAP_BYTES = 256 * 1024
"""Maximum size, in bytes, of a gap between two reads whose bytes the reader receives and discards. A new request for
the bytes after the gap would cost about as much."""
_LEAST_BYTES = 4096
"""Minimum number of bytes for which the reader sends a range request, even if it needs fewer."""


class Changed(UpstreamFailed):
    """Error: a source file has changed since the layout of the merged file was made."""

    def __init__(self) -> None:
        super().__init__("The media changed while it was read.")


class Ranged:
    """A source file of a merged MP4, which is read by range requests at its current URL."""

    def __init__(self, method: Opener, plan: Plan, source: Source, reservation: Reservation) -> None:
        self._method = method
        self._first_plan = plan
        self._plan = replace(plan, container=MP4)
        self.reservation = reservation
        self._source = source

    async def open(self, first: int, end: int, version: SourceVersion | None) -> Body:
        """Open the bytes from `first` up to, but not including, `end` (or up to the end of the source file, if that
        comes first). If `version` is not None, the source file must still have this version. Raises
        `UnsupportedConversion` if the media server does not support ranges, `Changed` if the source file has another
        version, and the errors of the method."""
        try:
            body = await self._open(first, end, version, None if version is None else version.validator)
            if version is not None and _has_moved(body, version):
                await body.aclose()
                body = await self._open(first, end, version, version.last_modified)
        except RangeNotSatisfiable as beyond:  # this server chose the range, so a 416 must not reach the client
            raise (UpstreamFailed("The media is empty.") if version is None else Changed()) from beyond
        error = _mismatch(body, first, version)
        if error is not None:
            await body.aclose()
            raise error
        return body

    async def _open(self, first: int, end: int, version: SourceVersion | None, validator: str | None) -> Body:
        # The first read has identified the container by the first bytes of the file as MP4. Later ranges need no
        # identification.
        plan = self._first_plan if version is None else self._plan
        source = replace(
            self._source,
            range=ByteRange(first, end - 1),
            if_range=validator,
            head_only=False,
            continues=version is not None,
            needs_range=True,
        )
        return await self._method.open(plan, source, self.reservation)


def server_of(head: Head) -> Origin | None:
    return None if head.address is None else split(head.address)[0]


def _has_moved(body: Body, version: SourceVersion) -> bool:
    """Return whether the ETag of the response differs from that of `version`, and another media server than that of
    `version` sent the response. Each of several media servers of one file may state an ETag of its own. In that case
    the Last-Modified date is the validator: the date and the length of the file must be the same at all media
    servers."""
    head = body.head
    return not head.partial and version.last_modified is not None and server_of(head) != version.server


def _mismatch(body: Body, first: int, version: SourceVersion | None) -> UpstreamFailed | UnsupportedConversion | None:
    head = body.head
    if version is None and (not head.partial or head.total is None):
        return UnsupportedConversion("The media server does not support ranges, so the formats cannot be merged.")
    if not head.partial or head.start != first:
        return Changed()
    if version is not None and (head.total != version.total or dates_differ(version.last_modified, head.last_modified)):
        return Changed()
    # the rule of `net/representation.py` for ETags that If-Range cannot compare, because they are weak
    has_dates = version is not None and None not in (version.last_modified, head.last_modified)
    if version is not None and not has_dates and server_of(head) == version.server:
        return Changed() if opaque_tags_differ(version.etag, head.etag) else None
    return None


class Forward:
    """A reader of one source file at rising offsets, which should stay below `end`. The reader opens a range at the
    first read, and a new range for an offset that lies before the current offset or far after it. The reader holds an
    open body and one chunk of that body. The owner must close the reader."""

    def __init__(self, ranged: Ranged, version: SourceVersion, end: int) -> None:
        self._ranged = ranged
        self._version = version
        self._end = end
        self._body: Body | None = None
        self._chunk = b""
        self._used = 0
        self._at = 0

    async def go_to(self, offset: int) -> None:
        """Open the source file at `offset`, unless the open body can skip to `offset`."""
        ahead = offset - self._at
        if self._body is None or not 0 <= ahead <= len(self._chunk) - self._used + GAP_BYTES:
            await self._open(offset)

    async def some(self, offset: int, most: int) -> bytes:
        """Read between 1 and `most` bytes at `offset`. Raises the errors of `Ranged.open`, and the error of the body if
        the read fails."""
        await self.go_to(offset)
        while True:
            here = len(self._chunk) - self._used
            skipped = min(offset - self._at, here)
            self._used += skipped
            self._at += skipped
            if here > skipped:
                return self._take(most)
            await self._next_chunk(offset, most)

    async def exactly(self, offset: int, length: int) -> bytes:
        """Read exactly `length` bytes at `offset`. Raises the errors of `some`."""
        parts = []
        while length:
            part = await self.some(offset, length)
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)

    async def aclose(self) -> None:
        body, self._body = self._body, None
        self._chunk = b""
        if body is not None:
            await body.aclose()

    def _take(self, most: int) -> bytes:
        if not self._used and len(self._chunk) <= most:
            taken, self._chunk = self._chunk, b""
        else:
            taken = self._chunk[self._used : self._used + most]
            self._used += len(taken)
        self._at += len(taken)
        if not self._chunk:
            self._used = 0
        return taken

    async def _next_chunk(self, offset: int, most: int) -> None:
        assert self._body is not None
        self._chunk, self._used = b"", 0
        self._chunk = await self._body.read(max(offset - self._at + most, _LEAST_BYTES))
        if not self._chunk:  # the body of the requested range ended before the byte at `offset`
            await self._open(offset)

    async def _open(self, offset: int) -> None:
        await self.aclose()
        end = self._end if offset < self._end else self._version.total
        self._body = await self._ranged.open(offset, end, self._version)
        self._at, self._used = offset, 0
