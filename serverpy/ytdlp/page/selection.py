"""The application of a format selector. yt-dlp itself applies the selector to the server's data about the formats.

The selector comes from the client. yt-dlp's selector language has two ways to keep a CPU busy forever, and both are
refused: products of whole lists (`all+all`, `extraction/selectors.py`), and regular expressions that can match in too
many ways (`selector_filters.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from serverpy.errors import FormatNotFound, InvalidParameter
from serverpy.extraction.messages import Format
from serverpy.extraction.selectors import check_selector
from serverpy.ytdlp.page.selector_filters import MAX_VALUE_CHARACTERS, LimitedFilters
from serverpy.ytdlp.session.log import Log

MAX_CHOICES = 1000


def select(selector: str, formats: Sequence[Format]) -> tuple[tuple[str, ...], ...]:
    """Return the format ids of each stream that `selector` asks for. A stream that is a merge has more than one id.
    `formats` are in yt-dlp's order, worst first. Raises InvalidParameter if the selector is invalid or could take too
    long, FormatNotFound if no format matches."""
    check_selector(selector)
    with LimitedFilters({"logger": Log(), "check_formats": False, "cachedir": False}, auto_init=False) as ydl:
        try:
            picked = ydl._select_formats([_as_dict(item) for item in formats], ydl.build_format_selector(selector))
        except (SyntaxError, ValueError, TypeError, re.error, RecursionError, IndexError) as error:
            raise InvalidParameter(
                "Invalid format selector. Use yt-dlp's syntax, such as `best[height<=720]`."
            ) from error
    choices = tuple(_ids(item) for item in picked[:MAX_CHOICES])
    if not choices:
        raise FormatNotFound("No format of this page matches the selector.")
    return choices


def _as_dict(item: Format) -> dict[str, Any]:
    fields = {key: value for key, value in msgspec.structs.asdict(item).items() if value is not None}
    return {key: _short(value) if key != "format_id" else value for key, value in fields.items()}


def _short(value: Any) -> Any:
    return value[:MAX_VALUE_CHARACTERS] if isinstance(value, str) else value


def _ids(picked: dict[str, Any]) -> tuple[str, ...]:
    return tuple(part["format_id"] for part in picked.get("requested_formats") or (picked,))
