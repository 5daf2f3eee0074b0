"""How much work a client's regular expression can be, told before it is ever run.

`re` tries again and again where a pattern can fit in several ways, and holds the interpreter while it does, so that
nothing else in the process goes on. Its own parser says of what a pattern is made; from that follows in how many ways
it can be tried at one place of a text. Only parts whose ways can be counted are let through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from re import _parser  # type: ignore[attr-defined]  # not in the stubs; what it may name anew is refused
from typing import Any

MAX_CHARACTERS = 64
"""Of a pattern."""
_NEVER = 1 << 64
_ONE_CHARACTER = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN"})
_EDGES = frozenset({"AT_BEGINNING", "AT_BEGINNING_STRING", "AT_END", "AT_END_STRING"})
_FLAGS = re.IGNORECASE | re.UNICODE
"""MULTILINE would make edges of the inside of a text, VERBOSE hides what a pattern is, LOCALE is not for text."""


class TooMuch(ValueError):
    """The pattern has parts that can make it slow."""


def ways(pattern: str, longest: int) -> int:
    """In how many ways `pattern` can be tried at one place of a text of at most `longest` characters.

    Raises `re.error` for what is no pattern, RecursionError for one nested too deep, and TooMuch for what is not
    counted: back references, looking around, repeated groups, other flags than `i`.
    """
    if len(pattern) > MAX_CHARACTERS:
        raise TooMuch("It is too long.")
    parsed = _parser.parse(pattern)
    if parsed.state.flags & ~_FLAGS:
        raise TooMuch("It has flags that are not allowed.")
    return _of_sequence(parsed, longest)


def _of_sequence(parts: Iterable[tuple[Any, Any]], longest: int) -> int:
    product = 1
    for kind, value in parts:
        product = min(product * _of_part(kind, value, longest), _NEVER)
    return product


def _of_part(kind: Any, value: Any, longest: int) -> int:
    if str(kind) in _ONE_CHARACTER:
        return 1
    if counted := _COUNTED.get(str(kind)):
        return counted(value, longest)
    raise TooMuch(f"It has parts that are not allowed ({kind}).")


def _of_edge(value: Any, longest: int) -> int:
    if str(value) not in _EDGES:
        raise TooMuch(f"It has parts that are not allowed ({value}).")
    return 1


def _of_choice(value: Any, longest: int) -> int:
    return sum(_of_sequence(branch, longest) for branch in value[1])


def _of_group(value: Any, longest: int) -> int:
    _, flags_on, flags_off, inner = value
    if (flags_on | flags_off) & ~_FLAGS:
        raise TooMuch("It has flags that are not allowed.")
    return _of_sequence(inner, longest)


def _of_repeat(value: Any, longest: int) -> int:
    """Of one character any number of times; of a group at most once."""
    fewest, most, inner = value
    if len(inner) == 1 and str(inner[0][0]) in _ONE_CHARACTER:
        return max(1, min(int(most), longest) - min(int(fewest), longest) + 1)
    if (fewest, most) == (0, 1):
        return 1 + _of_sequence(inner, longest)
    raise TooMuch("It repeats a group.")


_COUNTED: dict[str, Callable[[Any, int], int]] = {
    "AT": _of_edge,
    "BRANCH": _of_choice,
    "SUBPATTERN": _of_group,
    "MAX_REPEAT": _of_repeat,
    "MIN_REPEAT": _of_repeat,
}
