"""yt-dlp's format selectors, applied by yt-dlp itself to what the server knows of the tracks.

The selector is the client's. yt-dlp's language has two ways to keep a processor busy for ever, and both are closed:
products of whole lists (`all+all`), and regular expressions that repeat a group.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from yt_dlp import YoutubeDL

from serverpy.errors import FormatNotFound, InvalidParameter
from serverpy.extraction.messages import Format
from serverpy.ytdlp.log import Log

MAX_SELECTOR_CHARACTERS = 1000
MAX_CHOICES = 1000
_MAX_VALUE_CHARACTERS = 64
_MAX_REPEATS = 3
_MAX_PARTS = 10


def select(selector: str, formats: Sequence[Format]) -> tuple[tuple[str, ...], ...]:
    """The track ids of each stream that `selector` asks for, more than one for a merge. `formats` are in yt-dlp's
    order, worst first. Raises InvalidParameter for a selector that does not parse, FormatNotFound if nothing fits."""
    _check(selector)
    with YoutubeDL({"logger": Log(), "check_formats": False, "cachedir": False}, auto_init=False) as ydl:
        try:
            picked = ydl._select_formats([_as_dict(item) for item in formats], ydl.build_format_selector(selector))
        except (SyntaxError, ValueError, TypeError, re.error, RecursionError, IndexError) as error:
            raise InvalidParameter("The format selector cannot be read.") from error
    choices = tuple(_ids(item) for item in picked[:MAX_CHOICES])
    if not choices:
        raise FormatNotFound("No format of this page fits the selector.")
    return choices


def _check(selector: str) -> None:
    if len(selector) > MAX_SELECTOR_CHARACTERS:
        raise InvalidParameter("The format selector is too long.")
    if selector.strip() in ("", "-"):
        raise InvalidParameter("The format selector cannot be read.")
    if "+" in selector and re.search(r"\ball\b", selector):
        raise InvalidParameter("The format selector must not merge `all`; `mergeall` does.")
    if "+" in selector and max(selector.count(","), selector.count("+")) > _MAX_PARTS:
        raise InvalidParameter("The format selector merges too many formats.")
    if "~=" in selector and (
        re.search(r"\)\s*[*+{]|\\\d", selector) or len(re.findall(r"[*+{]", selector)) > _MAX_REPEATS
    ):
        raise InvalidParameter("The regular expression in the format selector is too complex.")


def _as_dict(item: Format) -> dict[str, Any]:
    fields = {key: value for key, value in msgspec.structs.asdict(item).items() if value is not None}
    return {key: _short(value) if key != "format_id" else value for key, value in fields.items()}


def _short(value: Any) -> Any:
    return value[:_MAX_VALUE_CHARACTERS] if isinstance(value, str) else value


def _ids(picked: dict[str, Any]) -> tuple[str, ...]:
    return tuple(part["format_id"] for part in picked.get("requested_formats") or (picked,))
