"""The number of streams that each account has open. Pure."""

from __future__ import annotations


class Streams:
    """Counts of open streams by account. An account without streams has no entry, so MAX_STREAMS and the queue for a
    place bound the entries."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def __len__(self) -> int:
        """Number of accounts that have streams open."""
        return len(self._open)

    def enter(self, account: str, most: int | None) -> bool:
        """Count a stream of `account`, unless it has `most` streams open; None is no limit. Returns whether the stream
        was counted."""
        count = self._open.get(account, 0)
        if most is not None and count >= most:
            return False
        self._open[account] = count + 1
        return True

    def leave(self, account: str) -> None:
        """Count the end of a stream that `enter` has counted."""
        count = self._open.pop(account)
        if count > 1:
            self._open[account] = count - 1
