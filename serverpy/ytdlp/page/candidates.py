"""The candidates of a format selector: its first choice, and the next choices in yt-dlp's order, because ServerPY may
be unable to stream the first choice.

yt-dlp can merge every pair of formats, if necessary into a Matroska file. ServerPY can merge only some pairs, so
`bv+ba` means the best pair that ServerPY can merge, and `bv*+ba/b` means `b` if ServerPY can merge no pair. Only the
server process knows which pairs it can merge. It gives each format a kind, and gets one candidate of each kind, because
either all candidates of a kind can be streamed or none.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from yt_dlp import YoutubeDL

from serverpy.ytdlp.page.selector_tree import Atom, Chain, Merge, Node

Format = dict[str, Any]
Select = Callable[[dict[str, Any]], Iterable[Format]]

_SECONDS = 0.5
"""Maximum CPU time of one search for candidates, in seconds."""
_RANKED = re.compile(r"(?P<way>best|worst|b|w)(?:video|audio|v|a)?\*?(?P<number>\.[1-9]\d*)?")


class Candidates:
    """The candidates of one selector. `ydl` builds and evaluates the parts of the selector. `formats` are all formats
    in yt-dlp's order, the worst first."""

    def __init__(self, ydl: YoutubeDL, formats: Sequence[Format]) -> None:
        self._ydl = ydl
        self._built: dict[str, Select] = {}
        self._flags: dict[str, Any] = {}
        ydl._select_formats(list(formats), self._keep_flags)
        self._until = time.thread_time() + _SECONDS

    def _keep_flags(self, context: dict[str, Any]) -> list[Format]:
        """Keep the values in `context` that describe the whole page, without the formats. yt-dlp passes these values to
        each selector."""
        self._flags = {key: value for key, value in context.items() if key != "formats"}
        return []

    def of(self, node: Node, formats: Sequence[Format]) -> Iterator[Format]:
        """Yield the candidates of `node` among `formats`, one of each kind, the best first."""
        seen = set()
        for picked in self._all(node, formats):
            if (kind := _kind(picked)) not in seen:
                seen.add(kind)
                yield picked
            if time.thread_time() > self._until:
                return

    def _all(self, node: Node, formats: Sequence[Format]) -> Iterator[Format]:
        match node:
            case Atom():
                yield from self._atom(node, formats)
            case Chain():
                left = self._filtered(node.filters, formats)
                for part in node.parts:
                    yield from self.of(part, left)
            case Merge():
                second = list(self.of(node.second, formats))
                for one in self.of(node.first, formats):
                    yield from (self._merged(one, other) for other in second)

    def _atom(self, atom: Atom, formats: Sequence[Format]) -> Iterator[Format]:
        """Yield the format that yt-dlp picks by `atom` from `formats`. Then yield the format that yt-dlp would pick if
        `formats` contained neither a format of that kind nor a better format; and so on."""
        ranked = _RANKED.fullmatch(atom.name)
        is_worst_first = ranked is not None and ranked["way"].startswith("w")
        left, select = self._filtered(atom.filters, formats), self._selector(atom.name)
        seen = set()
        while (picked := next(iter(self._pick(select, left)), None)) is not None:
            yield picked
            at = next((number for number, each in enumerate(left) if each is picked), None)
            if at is None:  # the choice is a merge of all formats
                return
            seen.add(_kind(picked))
            rest = left[at + 1 :] if is_worst_first else left[:at]
            left = [each for each in rest if _kind(each) not in seen]
            if ranked is not None and ranked["number"]:
                select = self._selector(atom.name.removesuffix(ranked["number"]))

    def _filtered(self, filters: str, formats: Sequence[Format]) -> list[Format]:
        """Return the `formats` that pass `filters`, in the same order."""
        return list(self._pick(self._selector(f"all{filters}"), formats))[::-1] if filters else list(formats)

    def _merged(self, first: Format, second: Format) -> Format:
        """Return the format that yt-dlp makes of `first`+`second`. The selector `mergeall` merges all formats, from the
        last to the first."""
        return next(iter(self._pick(self._selector("mergeall"), [second, first])), first)

    def _pick(self, select: Select, formats: Sequence[Format]) -> Iterable[Format]:
        return select({**self._flags, "formats": list(formats)})

    def _selector(self, text: str) -> Select:
        if text not in self._built:
            self._built[text] = self._ydl.build_format_selector(text)
        return self._built[text]


def parts_of(picked: Format) -> Sequence[Format]:
    """Return the formats of which `picked` is the merge. If `picked` is not a merge, return only `picked`."""
    return picked.get("requested_formats") or (picked,)


def _kind(picked: Format) -> tuple[tuple[Any, bool, bool], ...]:
    return tuple(
        (each.get("kind"), each.get("vcodec") == "none", each.get("acodec") == "none") for each in parts_of(picked)
    )
