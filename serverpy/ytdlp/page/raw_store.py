"""The raw dictionaries of the last extractions, kept in the worker for downloads by yt-dlp itself."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from http.cookiejar import CookieJar
from typing import Any

from serverpy.errors import FormatNotFound, ItemNotFound
from serverpy.extraction.messages import WorkerOptions
from serverpy.ytdlp.page.mapping import formats_of, is_complete

MAX_RAWS = 256
MAX_RAW_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Raw:
    """One extraction as yt-dlp left it. `info` is the processed dictionary: read it, copy it, do not change it.
    `cookies` is the jar at the end of the extraction; give a copy to a session (`session.open` makes one)."""

    info: dict[str, Any] = field(repr=False)
    cookies: CookieJar = field(repr=False)
    options: WorkerOptions = field(repr=False)

    def entry(self, item: int | None) -> dict[str, Any]:
        """The dictionary of the 1-based `item` of a playlist or post; the whole for None. Raises ItemNotFound where
        there is none, or only an address of one."""
        if item is None:
            return self.info
        entries = self.info.get("entries") or []
        if (
            not 0 < item <= len(entries)
            or not isinstance(entries[item - 1], dict)
            or not is_complete(entries[item - 1])
        ):
            raise ItemNotFound(f"There is no item {item} here.")
        found: dict[str, Any] = entries[item - 1]
        return found

    def format(self, item: int | None, track_id: str) -> dict[str, Any]:
        """A new dictionary as yt-dlp's downloaders want it: the entry with the format's fields over its own. Raises
        FormatNotFound."""
        info = self.entry(item)
        for fmt in formats_of(info):
            if str(fmt.get("format_id") or "0") == track_id:
                merged = {key: value for key, value in info.items() if key not in ("formats", "requested_formats")}
                return {**merged, **fmt}
        raise FormatNotFound("This format is not among those of the page.")


class RawStore:
    """The last extractions, by `raw_id`, bounded in number and (by an estimate) in bytes. Thread-safe."""

    def __init__(self, *, count: int = MAX_RAWS, limit: int = MAX_RAW_BYTES) -> None:
        self._count = count
        self._limit = limit
        self._lock = threading.Lock()
        self._raws: OrderedDict[str, tuple[Raw, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._raws)

    def put(self, raw_id: str, raw: Raw) -> None:
        """Keep `raw`, at the cost of those that were not asked for in the longest time. One that is alone over the
        bound is not kept."""
        size = estimate(raw.info)
        if size > self._limit:
            return
        with self._lock:
            _, replaced = self._raws.pop(raw_id, (raw, 0))
            self._raws[raw_id] = raw, size
            self.bytes += size - replaced
            while len(self._raws) > self._count or self.bytes > self._limit:
                _, (_, gone) = self._raws.popitem(last=False)
                self.bytes -= gone

    def get(self, raw_id: str) -> Raw | None:
        """`abc.3` is the third item of `abc`, as a `Raw` of its own."""
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
            raw = replace(raw, info=raw.entry(int(item)))
        return raw


def estimate(value: Any) -> int:
    """Roughly how many bytes a structure of plain values holds. Objects of yt-dlp count as 1 KiB each."""
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
            else:
                total += 1024
    return total
