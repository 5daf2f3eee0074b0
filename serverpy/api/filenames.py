"""Content-Disposition (RFC 6266) for titles in any script."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

_MAX_BYTES = 200
"""Longest name without its extension, in UTF-8 bytes; file systems allow 255 in total."""
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


_EXTENSION = re.compile(r"[A-Za-z0-9]{1,16}")


def file_name(title: str | None, ext: str) -> str:
    """Make a name that every file system accepts from `title`, without path separators, control and direction
    characters. `ext` comes from the page as well; an invalid one becomes `bin`."""
    return f"{_stem(title or '')}.{ext if _EXTENSION.fullmatch(ext) else 'bin'}"


def own_name(name: str) -> str:
    """Make the name that the client asked for safe, and keep its extension."""
    stem, dot, ext = name.rpartition(".")
    return file_name(stem, ext) if dot and stem and _EXTENSION.fullmatch(ext) else _stem(name)


def _stem(title: str) -> str:
    stem = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", title)).strip(" .")
    stem = stem.encode("utf-8", "ignore")[:_MAX_BYTES].decode("utf-8", "ignore").strip(" .")
    return f"media{stem}" if not stem.strip("_") or _RESERVED.fullmatch(stem) else stem


def content_disposition(name: str, *, attachment: bool) -> str:
    """Return the header's value: `filename` in ASCII for old clients, `filename*` (RFC 8187) with the exact name."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    ascii_name = _FORBIDDEN.sub("_", ascii_name)  # compatibility forms decompose into forbidden characters: ℅ is c/o
    stem, dot, ext = ascii_name.rpartition(".")
    ascii_name = (f"{stem.strip() or 'media'}.{ext}" if dot else ascii_name or "media").replace("%", "_")
    kind = "attachment" if attachment else "inline"
    return f"{kind}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"
