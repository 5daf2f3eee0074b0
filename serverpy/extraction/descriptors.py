"""A file descriptor that is handed from one owner to the next."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


class Descriptor:
    """One owner at a time: closed here unless it was released to somebody else before."""

    def __init__(self, number: int) -> None:
        self._number: int | None = number

    def release(self) -> int:
        """To its next owner, who closes it."""
        number, self._number = self._number, None
        assert number is not None
        return number

    def close(self) -> None:
        if self._number is not None:
            os.close(self.release())


@contextmanager
def closing(number: int) -> Iterator[Descriptor]:
    """Closed on leaving, if it is still ours."""
    descriptor = Descriptor(number)
    try:
        yield descriptor
    finally:
        descriptor.close()
