"""The pauses while a playlist is parsed, so that a long playlist does not hold up the other streams of the event loop.
The functions are pure.

A *turn* is what is parsed at once. It is limited in characters, and each line counts some characters more, because
short lines take as long as long ones (10 to 40 microseconds). So a turn takes a few milliseconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

TURN_LENGTH = 8 * 1024
"""Maximum length of the lines of one turn, in characters. The last line may exceed this limit."""
LINE_LENGTH = 64
"""Number of characters that a turn counts for a line in addition to its text."""


def parsed(lines: Iterable[str], feed: Callable[[str], T | None]) -> Iterator[T | None]:
    """Yield the results of `feed` for `lines` that are not None, and None after each turn."""
    left = TURN_LENGTH
    for line in lines:
        if (result := feed(line)) is not None:
            yield result
        left -= len(line) + LINE_LENGTH
        if left < 0:
            left = TURN_LENGTH
            yield None
