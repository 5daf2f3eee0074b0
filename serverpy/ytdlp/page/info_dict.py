"""yt-dlp's dictionaries: their shapes, and readers for fields of any type.

There are many extractors, and pages are hostile, so any field may have a wrong type. A reader returns None for a value
that it cannot use.
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
    """Return whether an entry of a playlist is a full result, and not only an address to extract."""
    return entry.get("_type", "video") not in ("url", "url_transparent")


def formats_of(info: InfoDict) -> list[InfoDict]:
    """Return the formats of a result. A result with only one format may be that format itself."""
    formats = info.get("formats")
    return formats if isinstance(formats, list) else [info]


def text(value: Any, limit: int) -> str | None:
    """Return a string that JSON can carry, cut to `limit` characters. Returns None if the string is empty, or if it is
    too long and `limit` is that of a URL."""
    if value is None or isinstance(value, dict | list | tuple | set):
        return None
    clean = str(value).encode("utf-8", "replace").decode()
    if limit >= MAX_URL and len(clean) > limit:
        return None
    return clean[:limit] or None


def address(value: Any) -> str | None:
    """Return a URL that `urlsplit` accepts. Returns None for any other value, because parsing it later would fail the
    whole page."""
    url = text(value, MAX_URL)
    try:
        parts = urlsplit(url or "")
        _ = parts.hostname, parts.port  # reading both raises ValueError if the URL is invalid
    except ValueError:
        return None
    return url


def extension(value: Any, default: str) -> str:
    """Return a file extension that is safe in file names and headers. Returns `default` if `value` is not such an
    extension."""
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
