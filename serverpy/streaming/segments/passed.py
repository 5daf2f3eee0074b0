"""The record of the latest segments of a live playlist that a cursor has passed, by URL. If the media sequence numbers
in a later version of the playlist are wrong, the cursor finds its position by the URLs. The module does no I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from serverpy.streaming.segments.segment import Segment

KEPT = 32
"""Number of the latest segments that are remembered. Most live playlists list fewer segments at a time."""


class Passed:
    """The URLs and positions of the latest segments that a cursor has passed. A query in a URL may be a token that
    changes, or the name of the segment. Therefore URLs are first compared with their queries. If that finds no segment,
    URLs are compared without their queries, but only if no two remembered segments have the same URL without its
    query."""

    def __init__(self) -> None:
        self._by_url: OrderedDict[int, int] = OrderedDict()
        self._by_path: OrderedDict[int, int | None] = OrderedDict()

    def add(self, segment: Segment, position: int) -> None:
        _keep(self._by_url, _hash(segment.url, segment), position)
        path = _hash(path_of(segment), segment)
        _keep(self._by_path, path, None if path in self._by_path else position)

    def position_of(self, segment: Segment) -> int | None:
        """Return the position at which the cursor passed `segment`. Returns None if the segment is not remembered."""
        found = self._by_url.get(_hash(segment.url, segment))
        return self._by_path.get(_hash(path_of(segment), segment)) if found is None else found

    def clear(self) -> None:
        self._by_url.clear()
        self._by_path.clear()


def path_of(segment: Segment) -> str:
    return segment.url.partition("?")[0]


def _hash(address: str, segment: Segment) -> int:
    return hash((address, segment.first, segment.end))


def _keep(known: OrderedDict[int, int] | OrderedDict[int, int | None], key: Hashable, position: int | None) -> None:
    known[key] = position  # type: ignore
    known.move_to_end(key)  # type: ignore
    if len(known) > KEPT:
        known.popitem(last=False)
