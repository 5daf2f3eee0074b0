"""The decoding of long replies of the worker in parts, between which the event loop can run other tasks. The media of a
page may have 8 MiB of JSON, and to decode all of it without a pause would block the event loop for 0.05 to 0.2 seconds.

An *outline* is a value whose lists contain undecoded items. The decoder makes an outline quickly, because it skips over
these items.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

import msgspec

from serverpy.extraction.messages import Extracted, Reply, decode_reply
from serverpy.extraction.values import Entry, Fragment, Media, Subtitle, Track

TURN_BYTES = 128 * 1024
"""Maximum number of bytes of a long reply that are decoded before the event loop runs other tasks, unless one item of a
list is longer."""
_ITEM_BYTES = 64
"""Number of bytes that each decoded list item counts towards TURN_BYTES, in addition to its length."""
T = TypeVar("T")


async def decode_in_turns(body: bytes) -> Reply:
    """Decode a reply of the worker as `decode_reply` does. If the reply is an extraction longer than TURN_BYTES, let
    the event loop run other tasks between its parts. Raises `msgspec.DecodeError` if the reply is invalid."""
    if len(body) <= TURN_BYTES or not body.startswith(_EXTRACTED):
        return decode_reply(body)
    reply = _long_replies.decode(body)
    await asyncio.sleep(0)
    return Extracted(id=reply.id, media=await _media_in_turns(reply.media))


async def _media_in_turns(raw: msgspec.Raw) -> Media:
    outline = _outlines.decode(raw)
    await asyncio.sleep(0)
    fields = {name: getattr(outline, name) for name in outline.__struct_fields__}
    fields["tracks"] = tuple([each async for each in _in_turns(outline.tracks, _track_in_turns, _tracks)])
    fields["entries"] = tuple([each async for each in _in_turns(outline.entries, _entry_in_turns, _entries)])
    fields["subtitles"] = tuple([each async for each in _in_turns(outline.subtitles, None, _subtitles)])
    return Media(**fields)


async def _in_turns(
    items: tuple[msgspec.Raw, ...],
    long: Callable[[msgspec.Raw], Awaitable[T]] | None,
    decoder: msgspec.json.Decoder[T],
) -> AsyncIterator[T]:
    """Yield the decoded `items`, and let the event loop run other tasks after every TURN_BYTES of input. An item longer
    than TURN_BYTES is decoded with `long`, unless `long` is None."""
    passed = 0
    for item in items:
        nbytes = memoryview(item).nbytes
        is_long = long is not None and nbytes > TURN_BYTES
        yield await long(item) if long is not None and is_long else decoder.decode(item)
        passed += nbytes + _ITEM_BYTES
        if passed >= TURN_BYTES:
            passed = 0
            await asyncio.sleep(0)


async def _track_in_turns(raw: msgspec.Raw) -> Track:
    outline = _track_outlines.decode(raw)
    await asyncio.sleep(0)
    fields = {name: getattr(outline, name) for name in outline.__struct_fields__}
    fields["fragments"] = tuple([each async for each in _in_turns(outline.fragments, None, _fragments)])
    return Track(**fields)


async def _entry_in_turns(raw: msgspec.Raw) -> Entry:
    outline = _entry_outlines.decode(raw)
    await asyncio.sleep(0)
    media = await _media_in_turns(outline.media) if bytes(outline.media) != b"null" else None
    return Entry(title=outline.title, url=outline.url, duration=outline.duration, media=media)


def _outline(kind: type, *lists: str) -> Any:
    """Return a type with the fields of the dataclass `kind`, in which the `lists` are tuples of undecoded items."""
    hints = get_type_hints(kind)
    made: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for each in fields(kind):
        hint: Any = tuple[msgspec.Raw, ...] if each.name in lists else hints[each.name]
        if each.default_factory is not MISSING:
            made.append((each.name, hint, msgspec.field(default_factory=each.default_factory)))
        else:
            made.append((each.name, hint) if each.default is MISSING else (each.name, hint, each.default))
    return msgspec.defstruct(f"{kind.__name__}Outline", made, frozen=True, kw_only=True)


class _LongReply(msgspec.Struct, frozen=True, kw_only=True, tag="Extracted"):
    id: int
    media: msgspec.Raw


class _EntryOutline(msgspec.Struct, frozen=True, kw_only=True):
    title: str | None = None
    url: str | None = None
    duration: float | None = None
    media: msgspec.Raw = msgspec.Raw(b"null")


_EXTRACTED = b'{"type":"Extracted"'
_long_replies = msgspec.json.Decoder(_LongReply)
_outlines: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_outline(Media, "tracks", "entries", "subtitles"))
_track_outlines: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_outline(Track, "fragments"))
_entry_outlines = msgspec.json.Decoder(_EntryOutline)
_tracks = msgspec.json.Decoder(Track)
_entries = msgspec.json.Decoder(Entry)
_subtitles = msgspec.json.Decoder(Subtitle)
_fragments = msgspec.json.Decoder(Fragment)
