"""Bytes that a part of a stream holds, charged to what its stream has reserved."""

from __future__ import annotations

from typing import Protocol


class Room(Protocol):
    """What a stream has reserved, to hold more for a while (`budget.py`)."""

    def try_grow(self, nbytes: int) -> bool:
        """False if the budget has not so much to spare."""
        ...

    def shrink(self, nbytes: int) -> None: ...


class NoRoom:
    """Nothing beyond `stream_bytes`."""

    def try_grow(self, _nbytes: int) -> bool:
        return False

    def shrink(self, _nbytes: int) -> None: ...


NO_ROOM = NoRoom()
