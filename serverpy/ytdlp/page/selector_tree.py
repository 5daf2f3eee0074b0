"""The structure of a format selector: which of its parts are alternatives (`/`), merges (`+`), lists (`,`) and groups.

This module needs a parser of its own, because yt-dlp's parser does not return the structure, but only a function that
chooses the format to download. yt-dlp still evaluates the parts: the atoms (`bv*.2[height<=720]`) and the filters.

    list  = choice ("," choice)*        merge = item ("+" merge)?
    choice = merge ("/" choice)?        item  = (name | "(" list ")") filter*
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Atom:
    """A selector without operators: `name`, such as `bv*.2`, and its filters, such as `[height<=720][fps>30]`."""

    name: str
    filters: str = ""


@dataclass(frozen=True, slots=True)
class Chain:
    """Alternative selectors, which apply to the formats that pass `filters`. The first selector whose choice can be
    streamed is wanted."""

    parts: tuple[Node, ...]
    filters: str = ""


@dataclass(frozen=True, slots=True)
class Merge:
    first: Node
    second: Node


Node = Atom | Chain | Merge

_TOKEN = re.compile(
    r"""(?P<filter>\[(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\]"'])*\])|(?P<op>[/+,()])|(?P<name>[^/+,()\[\]"'#\\]+)""",
    re.DOTALL,
)


def parse(selector: str) -> Node | None:
    """Return the structure of `selector`, which yt-dlp has accepted. Returns None if the selector uses a form that only
    yt-dlp's own parser reads, such as quotes outside of filters."""
    tokens, at = [], 0
    text = selector.strip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            return None
        at = found.end()
        if token := found[0] if found["filter"] else "".join(found[0].split()):
            tokens.append(token)
    parser = _Parser(tokens)
    try:
        node = parser.sequence()
    except _Unreadable:
        return None
    return None if parser.tokens else node


class _Unreadable(Exception):
    """Exception: a selector does not follow the grammar of this module."""


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens[::-1]

    def sequence(self) -> Node:
        parts = [self._choice()]
        while self._take(","):
            if not self.tokens or self.tokens[-1] == ")":
                break
            parts.append(self._choice())
        return parts[0] if len(parts) == 1 else Chain(tuple(parts))

    def _choice(self) -> Node:
        first = self._merge()
        if not self._take("/") or not self.tokens or self.tokens[-1] in ",)":
            return first
        return Chain((first, self._choice()))

    def _merge(self) -> Node:
        first = self._item()
        return Merge(first, self._merge()) if self._take("+") else first

    def _item(self) -> Node:
        if self._take("("):
            inner = self.sequence()
            if not self._take(")"):
                raise _Unreadable
            return Chain((inner,), self._filters())
        name = "best" if self._next_is_filter() else self._name()
        return Atom(name, self._filters())

    def _name(self) -> str:
        if not self.tokens or self.tokens[-1] in "/+,()":
            raise _Unreadable
        return self.tokens.pop()

    def _filters(self) -> str:
        found = ""
        while self._next_is_filter():
            found += self.tokens.pop()
        return found

    def _next_is_filter(self) -> bool:
        return bool(self.tokens) and self.tokens[-1].startswith("[")

    def _take(self, token: str) -> bool:
        if self.tokens and self.tokens[-1] == token:
            self.tokens.pop()
            return True
        return False
