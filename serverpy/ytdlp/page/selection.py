"""The application of a format selector. yt-dlp's own code applies the selector to the data about the formats that the
server process sends.

The selector comes from the client. Two kinds of selectors in yt-dlp's language could keep a CPU busy forever, and both
are refused: products of whole lists (`all+all`, `extraction/selectors.py`), and regular expressions that can match in
too many ways (`selector_filters.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

from serverpy.errors import FormatNotFound, InvalidParameter
from serverpy.extraction.messages import Format
from serverpy.extraction.selectors import check_selector
from serverpy.ytdlp.page.candidates import Candidates, parts_of
from serverpy.ytdlp.page.details import fields_of
from serverpy.ytdlp.page.selector_filters import LimitedFilters
from serverpy.ytdlp.page.selector_tree import parse
from serverpy.ytdlp.session.log import Log

MAX_CHOICES = 100


def select(selector: str, formats: Sequence[Format]) -> tuple[tuple[str, ...], ...]:
    """Return the format ids of yt-dlp's choice by `selector`, followed by the format ids of the next choices, one of
    each kind (`candidates.py`). A choice that is a merge has more than one id. `formats` are in yt-dlp's order, the
    worst first. Raises InvalidParameter if the selector is invalid or could take too long, FormatNotFound if no format
    matches."""
    check_selector(selector)
    with LimitedFilters({"logger": Log(), "check_formats": False, "cachedir": False}, auto_init=False) as ydl:
        try:
            found = [fields_of(item) for item in formats]
            picked = ydl._select_formats(found, ydl.build_format_selector(selector))
            if not picked:
                raise FormatNotFound("No format of this page matches the selector.")
            return _with_others(_ids(picked[0]), selector, found)
        except (SyntaxError, ValueError, TypeError, AttributeError, re.error, RecursionError, IndexError) as error:
            raise InvalidParameter(
                "Invalid format selector. Use yt-dlp's syntax, such as `best[height<=720]`."
            ) from error


def _with_others(first: tuple[str, ...], selector: str, formats: list[dict[str, Any]]) -> tuple[tuple[str, ...], ...]:
    """Return `first`, the ids of yt-dlp's choice, followed by the ids of the other candidates. If the candidates do not
    begin with yt-dlp's choice, yt-dlp and `candidates.py` disagree on the meaning of the selector. In this case,
    returns only `first`."""
    node = parse(selector)
    if node is None:
        return (first,)
    with LimitedFilters({"logger": Log(), "check_formats": False, "cachedir": False}, auto_init=False) as ydl:
        picked = islice(Candidates(ydl, formats).of(node, formats), MAX_CHOICES)
        choices = tuple(dict.fromkeys(map(_ids, picked)))
    return choices if choices[:1] == (first,) else (first,)


def _ids(picked: dict[str, Any]) -> tuple[str, ...]:
    return tuple(part["format_id"] for part in parts_of(picked))
