"""The memory that the media of a page occupy, measured object by object, and its accounting in the memory budget.

The Python objects take about three times the size of the JSON message from which they are decoded, or more if they
consist of many small values. The bytes of a cached page that no stream uses are *spare*: the budget drops the page from
the cache when a stream needs the bytes. A page that has left the cache is charged as used until the last stream that
holds it releases it.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, Protocol

import msgspec

from serverpy.extraction.values import Entry, Fragment, Media, Track

CONTAINER_BYTES = 512
"""Memory, in bytes, that is counted for the container of one track and the beginning of its file: two dictionary
entries and their key. The cache of extractions stores both as soon as a stream has identified the container."""
_TURN = 200
"""Number of objects that are measured before the event loop runs other tasks. Measuring them takes a millisecond."""
_FRAGMENTS = 32
"""Number of fragments that count as one object, because measuring them takes as long as measuring one object."""
_SLACK = 1.1
"""Factor for what the allocator adds: it rounds the size of each object up to 16 bytes."""
_FRAGMENT_BYTES = sys.getsizeof(Fragment(url="")) + sys.getsizeof(1.0) + 8
_ENTRY_BYTES = 104
"""Memory, in bytes, of one entry of a dictionary, without its key and value."""


class Ledger(Protocol):
    """Interface of the part of the memory budget that counts the bytes of extractions."""

    def try_add_spare(self, nbytes: int) -> bool: ...

    def use(self, nbytes: int) -> None: ...

    def shrink(self, nbytes: int) -> None: ...

    def add_reclaimer(self, reclaim: Callable[[int], int]) -> None: ...

    @property
    def total_bytes(self) -> int: ...


async def footprint(media: Media) -> int:
    """Return the number of bytes that `media` take in memory."""
    total = 0
    for number, nbytes in enumerate(_sizes(media)):
        total += nbytes
        if number % _TURN == _TURN - 1:
            await asyncio.sleep(0)
    return int(total * _SLACK)


class Holding:
    """The charge for the memory of `media`: `nbytes` in `ledger`, which has already counted them as spare. After a call
    of `use`, the charge ends when `media` and the media of its entries have been deallocated. Belongs to the event loop
    that runs when it is created."""

    def __init__(self, media: Media, nbytes: int, ledger: Ledger) -> None:
        self.nbytes = nbytes
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()
        self._is_used = False
        every = list(_all_media(media))
        self._alive = len(every)
        for each in every:
            weakref.finalize(each, self._forget).atexit = False

    def use(self) -> None:
        """Charge the bytes as used. The caller is about to drop `media` from the cache, but still holds a reference to
        it."""
        self._is_used = True
        self._ledger.use(self.nbytes)

    def free(self) -> int:
        """Return the number of bytes that the ledger may now subtract from its spare bytes. Returns 0 if a stream still
        holds `media`, whose bytes are then charged as used."""
        if not self._alive:
            return self.nbytes
        self.use()
        return 0

    def _forget(self) -> None:
        """Count one of the media as deallocated. The garbage collector may call this method in any thread, in the
        middle of any code."""
        self._alive -= 1
        if not self._alive and self._is_used and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ledger.shrink, self.nbytes)


def _all_media(media: Media) -> Iterator[Media]:
    yield media
    for entry in media.entries:
        if entry.media is not None:
            yield from _all_media(entry.media)


def _sizes(media: Media) -> Iterator[int]:
    yield _own(media) + CONTAINER_BYTES * len(media.tracks)
    yield from map(_own, media.subtitles)
    yield from map(_own, media.cookies)
    for track in media.tracks:
        yield _track(track)
        for at in range(0, len(track.fragments), _FRAGMENTS):
            yield sum(_FRAGMENT_BYTES + sys.getsizeof(each.url) for each in track.fragments[at : at + _FRAGMENTS])
    for entry in media.entries:
        yield _own(entry)
        if entry.media is not None:
            yield from _sizes(entry.media)


def _track(track: Track) -> int:
    headers: Mapping[str, str] = track.headers
    aes = 0 if track.aes is None else _own(track.aes)
    return _own(track) + aes + sum(_ENTRY_BYTES + sys.getsizeof(a) + sys.getsizeof(b) for a, b in headers.items())


@cache
def _names(kind: Any) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass or `msgspec.Struct`."""
    if issubclass(kind, msgspec.Struct):
        return tuple(kind.__struct_fields__)
    return tuple(each.name for each in fields(kind))


def _own(value: Media | Track | Entry | object) -> int:
    """Return the bytes of a value and of its fields, but not of what its lists contain."""
    kind: Any = type(value)
    held = [getattr(value, name) for name in _names(kind)]
    return sys.getsizeof(value) + sum(sys.getsizeof(each) for each in held if isinstance(each, str | tuple | float))
