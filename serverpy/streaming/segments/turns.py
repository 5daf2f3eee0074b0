"""The pauses in the parsing of a playlist, during which the event loop runs other streams, so that a long playlist does
not delay them. The function is pure.

A *turn* is the part of a playlist that is parsed without a pause. The length of a turn is limited in characters. Each
line counts LINE_LENGTH characters in addition to its text, because a short line takes about as much time as a long line
(10 to 40 microseconds). Therefore a turn takes a few milliseconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

TURN_LENGTH = 8 * 1024
"""Maximum length of the lines of one turn, in characters. The last line may extend beyond this limit."""
LINE_LENGTH = 64
"""Number of characters that a turn counts for a line in addition to its text."""


def parsed(lines: Iterable[str], feed: Callable[[str], Iterable[T]]) -> Iterator[T | None]:
    """Yield the results of `feed` for each of `lines`, and None after each turn."""
    left = TURN_LENGTH
    for line in lines:
        yield from feed(line)
        left -= len(line) + LINE_LENGTH
        if left < 0:
            left = TURN_LENGTH
            yield None
