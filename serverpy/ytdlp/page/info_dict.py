"""yt-dlp's dictionaries: their shapes, and functions that read fields of any type.

yt-dlp has many extractors, and pages may be hostile, so any field may have a wrong type. The functions return None for
a value that they cannot use.
"""

from __future__ import annotations

import math
import re
from typing import Any
from urllib.parse import urlsplit

InfoDict = dict[str, Any]

MAX_TITLE = 1000
MAX_TEXT = 4000
MAX_URL = 256 * 1024
_MAX_INT = 2**53
_EXTENSION = re.compile(r"[A-Za-z0-9]{1,16}")


def is_playlist(info: InfoDict) -> bool:
    return info.get("_type") in ("playlist", "multi_video", "compat_list")


def is_complete(entry: InfoDict) -> bool:
    """Return whether an entry of a playlist is a full result of an extraction, and not only the URL of a page that has
    not been extracted."""
    return entry.get("_type", "video") not in ("url", "url_transparent")


def formats_of(info: InfoDict) -> list[InfoDict]:
    """Return the formats in yt-dlp's dictionary `info`. If the dictionary has no list of formats, the dictionary itself
    is the only format."""
    formats = info.get("formats")
    return formats if isinstance(formats, list) else [info]


def text(value: Any, limit: int) -> str | None:
    """Return `value` as a string that JSON can represent, truncated to `limit` characters. Returns None if the string
    is empty. Returns None, too, if the string is too long and `limit` is MAX_URL, because a URL must not be
    truncated."""
    if value is None or isinstance(value, dict | list | tuple | set):
        return None
    clean = str(value).encode("utf-8", "replace").decode()
    if limit >= MAX_URL and len(clean) > limit:
        return None
    return clean[:limit] or None


def address(value: Any) -> str | None:
    """Return `value` as a URL that `urlsplit` accepts. Returns None for any other value, because the whole page would
    fail if `urlsplit` raised an error later."""
    url = text(value, MAX_URL)
    try:
        parts = urlsplit(url or "")
        _ = parts.hostname, parts.port  # `hostname` and `port` raise ValueError if the URL is invalid
    except ValueError:
        return None
    return url


def extension(value: Any, default: str) -> str:
    """Return `value` as a file extension that is safe in file names and headers. Returns `default` if `value` is not
    such an extension."""
    found = text(value, 20)
    return found if found and _EXTENSION.fullmatch(found) else default


def number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def integer(value: Any) -> int | None:
    found = number(value)
    return int(found) if found is not None and abs(found) <= _MAX_INT else None
