"""The Content-Disposition header (RFC 6266), whose file name may be in any script."""

from __future__ import annotations

import functools
import re
import unicodedata
from urllib.parse import quote

from serverpy.containers import BY_EXTENSION

_MAX_BYTES = 200
"""Maximum length of a file name without its extension, in UTF-8 bytes. File systems allow 255 bytes with the
extension."""
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_EXTENSION = re.compile(r"[A-Za-z0-9]{1,16}")


def file_name(title: str | None, ext: str) -> str:
    """Turn `title` into a file name that every file system accepts: without path separators, control characters and
    text-direction characters. The extension `ext` comes from the page, too: an invalid `ext` becomes `bin`."""
    return f"{_stem(title or '')}.{ext if _EXTENSION.fullmatch(ext) else 'bin'}"


def own_name(name: str, ext: str) -> str:
    """Return a safe form of the file name that the client asked for. The safe name ends in the extension of the media,
    `ext`, or in another extension of the same format: otherwise the name could choose the program that opens the
    file."""
    stem, dot, own = name.rpartition(".")
    if not dot:
        return file_name(name, ext)
    known = BY_EXTENSION.get(own.lower())
    if own.lower() == ext.lower() or (known is not None and known == BY_EXTENSION.get(ext.lower())):
        return file_name(stem, own)
    return file_name(name if known is None else stem, ext)


def path_name(name: str | None, to: str) -> str:
    """Return the last segment of a link's path, which players show and `curl -O` saves. `name` is the name that the
    client asked for, `to` the target of the media."""
    if name is None:
        return f"media.{to}" if to in BY_EXTENSION else "media"
    stem, dot, ext = name.rpartition(".")
    return file_name(stem, ext) if dot and _EXTENSION.fullmatch(ext) else _stem(name)


def _stem(title: str) -> str:
    stem = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", title)).strip(" .")
    stem = stem.encode("utf-8", "ignore")[:_MAX_BYTES].decode("utf-8", "ignore").strip(" .")
    return f"media{stem}" if not stem.strip("_") or _RESERVED.fullmatch(stem) else stem


@functools.lru_cache(maxsize=64)
def content_disposition(name: str, *, attachment: bool) -> str:
    """Return the value of the Content-Disposition header for a safe `name`: `filename` in ASCII for old clients,
    `filename*` (RFC 8187) with the exact name.

    The function sanitises the ASCII name again, because NFKD may produce forbidden characters: NFKD turns U+FF02 into a
    quotation mark, and U+2105 into `c/o`."""
    stem, dot, ext = name.rpartition(".")
    ascii_name = _stem(_ascii(stem)) + dot + ext if dot and _EXTENSION.fullmatch(ext) else _stem(_ascii(name))
    # some clients decode percent-encoded characters in `filename` (RFC 6266 appendix D)
    ascii_name = ascii_name.replace("%", "_")
    kind = "attachment" if attachment else "inline"
    return f"{kind}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
