"""The parser of a yt-dlp child's standard error. The parser keeps the last lines, and parses the line that describes
the format that the child will stream."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

MESSAGE_BYTES = 8 * 1024
"""Maximum number of bytes of the latest messages that are kept. Of a longer line, only the end is kept."""
MAX_FOUND_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The format that the yt-dlp child has chosen. A field is None if yt-dlp did not state it, or stated a value of
    another type."""

    title: str | None = None
    ext: str | None = None
    duration: float | None = None
    size: int | None = None
    is_live: bool = False
    is_merge: bool = False
    is_in_playlist: bool = False
    is_audio: bool | None = None
    """Whether the format has only audio; None if yt-dlp does not know."""


class ChildMessages:
    """The messages of one yt-dlp child, which the caller passes to `feed` as they arrive. The line that begins with
    `marker` describes the chosen format. After this line, `value` contains that description, and the event `found` is
    set."""

    def __init__(self, marker: str) -> None:
        self._marker = marker.encode()
        self._line = b""
        self._tail = b""
        self.found = asyncio.Event()
        self.value: Found | None = None

    @property
    def text(self) -> str:
        return (self._tail + self._line[-MESSAGE_BYTES:]).decode("utf-8", "replace")

    def feed(self, data: bytes) -> None:
        *lines, rest = (self._line + data).split(b"\n")
        for line in lines:
            self._take(line)
        self._line = rest[-MAX_FOUND_BYTES:]

    def _take(self, line: bytes) -> None:
        if line.startswith(self._marker) and not self.found.is_set():
            self.value = _parse(line[len(self._marker) :])
            self.found.set()
        else:
            self._tail = (self._tail + line + b"\n")[-MESSAGE_BYTES:]


def _parse(line: bytes) -> Found:
    try:
        value = json.loads(line)
    except ValueError:
        log.warning("a yt-dlp child process described its format in invalid JSON: length, title and type are unknown")
        return Found()
    return _found(value) if isinstance(value, dict) else Found()


def _found(value: Mapping[str, Any]) -> Found:
    duration = value.get("duration")
    return Found(
        title=_text(value.get("title")),
        ext=_text(value.get("ext")),
        duration=duration if isinstance(duration, int | float) else None,
        size=_count(value.get("filesize")) or _count(value.get("filesize_approx")),
        is_live=bool(value.get("is_live")),
        is_merge=bool(value.get("requested_formats")),
        is_in_playlist=value.get("playlist_index") is not None,
        is_audio=_is_audio(_text(value.get("vcodec")), _text(value.get("acodec"))),
    )


def _is_audio(vcodec: str | None, acodec: str | None) -> bool | None:
    """Return whether a format with these codecs has only audio. Returns None if the codecs do not show whether it has.
    yt-dlp writes the codec "none" if the format has no video or no audio, and writes no codec if it does not know the
    codec."""
    if vcodec == "none":
        return None if acodec == "none" else True
    return None if vcodec is None else False


def _text(value: object) -> str | None:
    """Return `value` if it is a string, otherwise None. If a text is missing, yt-dlp writes an empty list in its place,
    because the template FOUND asks for a slice of the text."""
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < math.inf else None
