"""The raw dictionaries of the latest extractions, which the extraction process keeps for downloads by yt-dlp's own
downloaders."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from http.cookiejar import CookieJar
from typing import Any

from serverpy.errors import FormatNotFound, ItemNotFound
from serverpy.ytdlp.mpd.formats import REFUSAL, Fragments
from serverpy.ytdlp.page.crossing import RawTrack
from serverpy.ytdlp.page.info_dict import InfoDict, formats_of, is_complete

_OF_FORMATS = frozenset({"formats", "requested_formats", "fragments", REFUSAL})
"""Fields that yt-dlp copies from the format that it has selected to the dictionary of the page. The other formats of
the page must not inherit these fields."""
MAX_RAWS = 256
MAX_RAW_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RawMedia:
    """One extraction as yt-dlp returned it. `info` is the processed dictionary, which callers must not change.
    `cookies` is the cookie jar at the end of the extraction; `instance.open` copies it for each session."""

    info: InfoDict = field(repr=False)
    cookies: CookieJar = field(repr=False)

    def item(self, number: int) -> RawMedia:
        """Return the item `number` (1-based) of a playlist or post. Raises ItemNotFound if the page has no such item,
        or if yt-dlp has extracted only the URL of the item."""
        entries = self.info.get("entries") or []
        found = entries[number - 1] if 0 < number <= len(entries) else None
        if not isinstance(found, dict) or not is_complete(found):
            raise ItemNotFound(f"The page has no item {number}.")
        return replace(self, info=found)

    def track(self, track_id: str) -> RawTrack:
        """Return the format `track_id` for yt-dlp's downloaders. Raises FormatNotFound if the page has no such
        format."""
        return RawTrack(self.format(track_id), self.cookies)

    def format(self, track_id: str) -> InfoDict:
        """Return a new dictionary for yt-dlp's downloaders: the fields of the page, overridden by the fields of the
        format `track_id`. Raises FormatNotFound if the page has no such format."""
        for fmt in formats_of(self.info):
            if str(fmt.get("format_id") or "0") == track_id:
                merged = {key: value for key, value in self.info.items() if key not in _OF_FORMATS}
                return {**merged, **fmt}
        raise FormatNotFound(f"The page has no format with the id {track_id!r}.")


class RawStore:
    """LRU store of extractions by `raw_id`, with limits on their number and on their estimated size in bytes.
    Thread-safe."""

    def __init__(self, *, count: int = MAX_RAWS, limit: int = MAX_RAW_BYTES) -> None:
        self._count = count
        self._limit = limit
        self._lock = threading.Lock()
        self._raws: OrderedDict[str, tuple[RawMedia, int]] = OrderedDict()
        self._bytes = 0

    def put(self, raw_id: str, raw: RawMedia) -> None:
        """Store `raw`, and drop the least recently used extractions until the store keeps its limits. Does not store
        `raw` if it alone exceeds the limit in bytes."""
        size = estimate(raw.info)
        if size > self._limit:
            return
        with self._lock:
            _, replaced = self._raws.pop(raw_id, (raw, 0))
            self._raws[raw_id] = raw, size
            self._bytes += size - replaced
            while len(self._raws) > self._count or self._bytes > self._limit:
                _, (_, gone) = self._raws.popitem(last=False)
                self._bytes -= gone

    def get(self, raw_id: str) -> RawMedia | None:
        """Return the extraction `raw_id`, or an item of an extraction: `abc.3` is the third item of the extraction
        `abc`. Returns None if the store does not contain the extraction. Raises ItemNotFound if the extraction has no
        such item."""
        base, *items = raw_id.split(".")
        with self._lock:
            found = self._raws.get(base)
            if found is None:
                return None
            self._raws.move_to_end(base)
        raw = found[0]
        for item in items:
            if not item.isdecimal():
                return None
            raw = raw.item(int(item))
        return raw


def estimate(value: Any) -> int:
    """Estimate the memory, in bytes, of a structure of plain values. An object of yt-dlp counts as 1 KiB."""
    total, waiting, seen = 0, [value], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, str | bytes):
            total += 49 + len(item)
        elif isinstance(item, int | float | None):
            total += 28
        elif id(item) in seen:
            total += 8
        else:
            seen.add(id(item))
            if isinstance(item, dict):
                total += 64 + 100 * len(item)
                waiting.extend(item.values())
            elif isinstance(item, list | tuple):
                total += 56 + 8 * len(item)
                waiting.extend(item)
            elif isinstance(item, Fragments):
                total += item.held_bytes
            else:
                total += 1024
    return total
