"""Conversion of yt-dlp's data about the subtitles of a page to `Subtitle` values."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import islice
from typing import Any

from serverpy.extraction.values import Subtitle
from serverpy.ytdlp.page.info_dict import InfoDict, address, extension, text

_AUTOMATIC_EXTENSIONS = frozenset({"vtt", "srt", "ttml"})
_MAX_INLINE = 256 * 1024
MAX_SUBTITLES = 5000
"""Maximum number of subtitle files of a page. YouTube lists up to 200 languages in three formats."""


def subtitles_of(info: InfoDict) -> Iterator[Subtitle]:
    return islice(_all_subtitles(info), MAX_SUBTITLES)


def _all_subtitles(info: InfoDict) -> Iterator[Subtitle]:
    for field, automatic in (("subtitles", False), ("automatic_captions", True)):
        languages = info.get(field)
        for language, files in languages.items() if isinstance(languages, dict) else ():
            for file in files if isinstance(files, list) else ():
                if isinstance(file, dict) and (subtitle := _subtitle(str(language), file, automatic)):
                    yield subtitle


def _subtitle(language: str, file: InfoDict, automatic: bool) -> Subtitle | None:
    ext = extension(file.get("ext"), "vtt")
    url = address(file.get("url")) or _inline(file.get("data"))
    if not url or (automatic and ext not in _AUTOMATIC_EXTENSIONS):
        return None
    return Subtitle(
        language=text(language, 100) or "und",
        ext=ext,
        url=url,
        name=text(file.get("name"), 200),
        automatic=automatic,
    )


def _inline(data: Any) -> str | None:
    """Return a `data:` URL (RFC 2397) with the subtitles that the page itself contains. Returns None if the page
    contains no subtitles, or if the subtitles have more than _MAX_INLINE characters."""
    if not isinstance(data, str) or len(data) > _MAX_INLINE:
        return None
    return "data:text/plain;charset=utf-8;base64," + base64.b64encode(data.encode("utf-8", "replace")).decode()
