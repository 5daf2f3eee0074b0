"""An upper bound for the work of a client's regular expression, computed before the expression runs.

`re` backtracks if a pattern can match in several ways, and holds the interpreter lock until it is done, so that no
other thread of the process runs. The parser of `re` returns the parts of a pattern. From these parts, this module
counts in how many ways `re` can try the pattern at one position of a text. The module refuses a pattern with a part
that it cannot count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

_parser: Any = import_module("re._parser")  # not in typeshed; `_of_part` refuses unknown parts of a pattern

MAX_CHARACTERS = 64
"""Maximum length of a pattern in characters."""
_NEVER = 1 << 64
_ONE_CHARACTER = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN"})
_EDGES = frozenset({"AT_BEGINNING", "AT_BEGINNING_STRING", "AT_END", "AT_END_STRING"})
_FLAGS = re.IGNORECASE | re.UNICODE
"""The allowed flags of a regular expression. Other flags are refused: MULTILINE would let `^` and `$` match at many
positions of a text, VERBOSE hides the structure of a pattern, and LOCALE applies only to bytes."""


class TooMuch(ValueError):
    """Error: a pattern is too long, or has parts that can make it slow."""


def ways(pattern: str, longest: int) -> int:
    """Return the number of ways in which `re` can try `pattern` at one position of a text of at most `longest`
    characters.

    Raises `re.error` if the pattern is invalid, and RecursionError if it is nested too deeply. Raises TooMuch if it is
    too long, or contains a part whose ways this function cannot count: a back reference, lookaround, a repeated group,
    or a flag other than `i`.
    """
    if len(pattern) > MAX_CHARACTERS:
        raise TooMuch(f"The regular expression is longer than {MAX_CHARACTERS} characters.")
    parsed = _parser.parse(pattern)
    if parsed.state.flags & ~_FLAGS:
        raise TooMuch("The regular expression has flags that are not allowed.")
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
    raise TooMuch(f"The regular expression has parts that are not allowed ({kind}).")


def _of_edge(value: Any, longest: int) -> int:
    if str(value) not in _EDGES:
        raise TooMuch(f"The regular expression has parts that are not allowed ({value}).")
    return 1


def _of_choice(value: Any, longest: int) -> int:
    return sum(_of_sequence(branch, longest) for branch in value[1])


def _of_group(value: Any, longest: int) -> int:
    _, flags_on, flags_off, inner = value
    if (flags_on | flags_off) & ~_FLAGS:
        raise TooMuch("The regular expression has flags that are not allowed.")
    return _of_sequence(inner, longest)


def _of_repeat(value: Any, longest: int) -> int:
    """Return the number of ways in which `re` can try a repetition. Only two kinds are allowed: any number of
    repetitions of a single character, and a group that occurs at most once."""
    fewest, most, inner = value
    if len(inner) == 1 and str(inner[0][0]) in _ONE_CHARACTER:
        return max(1, min(int(most), longest) - min(int(fewest), longest) + 1)
    if (fewest, most) == (0, 1):
        return 1 + _of_sequence(inner, longest)
    raise TooMuch("The regular expression repeats a group.")


_COUNTED: dict[str, Callable[[Any, int], int]] = {
    "AT": _of_edge,
    "BRANCH": _of_choice,
    "SUBPATTERN": _of_group,
    "MAX_REPEAT": _of_repeat,
    "MIN_REPEAT": _of_repeat,
}
