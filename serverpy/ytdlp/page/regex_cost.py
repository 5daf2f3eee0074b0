"""An upper bound for the work of a client's regular expression, computed before it runs.

`re` backtracks if a pattern can match in several ways, and holds the interpreter lock while it does, so that nothing
else in the process runs. The parser of `re` returns the parts of a pattern, from which this module counts the ways to
try the pattern at one position of a text. The module accepts a pattern only if it can count the ways of all parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from re import _parser  # type: ignore[attr-defined]  # the stubs lack this module; unknown parts are refused
from typing import Any

MAX_CHARACTERS = 64
"""Maximum length of a pattern."""
_NEVER = 1 << 64
_ONE_CHARACTER = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN"})
_EDGES = frozenset({"AT_BEGINNING", "AT_BEGINNING_STRING", "AT_END", "AT_END_STRING"})
_FLAGS = re.IGNORECASE | re.UNICODE
"""The allowed flags. MULTILINE would let `^` and `$` match inside a text, VERBOSE hides the structure of a pattern,
LOCALE is only for bytes."""


class TooMuch(ValueError):
    """A pattern whose parts can make it slow."""


def ways(pattern: str, longest: int) -> int:
    """Return in how many ways `pattern` can be tried at one position of a text of at most `longest` characters.

    Raises `re.error` if the pattern is invalid, RecursionError if it is nested too deeply, and TooMuch if it contains a
    part that cannot be counted: back references, lookaround, repeated groups, flags other than `i`.
    """
    if len(pattern) > MAX_CHARACTERS:
        raise TooMuch("The expression is too long.")
    parsed = _parser.parse(pattern)
    if parsed.state.flags & ~_FLAGS:
        raise TooMuch("The expression has flags that are not allowed.")
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
    raise TooMuch(f"The expression has parts that are not allowed ({kind}).")


def _of_edge(value: Any, longest: int) -> int:
    if str(value) not in _EDGES:
        raise TooMuch(f"The expression has parts that are not allowed ({value}).")
    return 1


def _of_choice(value: Any, longest: int) -> int:
    return sum(_of_sequence(branch, longest) for branch in value[1])


def _of_group(value: Any, longest: int) -> int:
    _, flags_on, flags_off, inner = value
    if (flags_on | flags_off) & ~_FLAGS:
        raise TooMuch("The expression has flags that are not allowed.")
    return _of_sequence(inner, longest)


def _of_repeat(value: Any, longest: int) -> int:
    """Count the ways of a repetition: one character any number of times, or a group at most once."""
    fewest, most, inner = value
    if len(inner) == 1 and str(inner[0][0]) in _ONE_CHARACTER:
        return max(1, min(int(most), longest) - min(int(fewest), longest) + 1)
    if (fewest, most) == (0, 1):
        return 1 + _of_sequence(inner, longest)
    raise TooMuch("The expression repeats a group.")


_COUNTED: dict[str, Callable[[Any, int], int]] = {
    "AT": _of_edge,
    "BRANCH": _of_choice,
    "SUBPATTERN": _of_group,
    "MAX_REPEAT": _of_repeat,
    "MIN_REPEAT": _of_repeat,
}
