"""Helpers that open a body with a single opener, without the engine around the opener, and read the body to its end."""

from __future__ import annotations

from typing import Any

from serverpy.body import Body, Source
from serverpy.memory.room import NO_ROOM


async def opened(opener: Any, source: Source, room: Any = NO_ROOM) -> Body:
    """Open the last track of `source`, which is the best track, with `opener`. If `source` has no extraction, `opener`
    opens the page itself."""
    tracks = () if source.media is None else source.media.tracks[-1:]
    body: Body = await opener.open(opener.capability.plan(tracks), source, room)
    return body


async def rest_of(body: Any) -> bytes:
    """Read `body` to its end. Returns all of its bytes."""
    pieces = []
    while piece := await body.read():
        pieces.append(piece)
    return b"".join(pieces)
