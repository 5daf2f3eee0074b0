"""The pages of the sample site that have separate video and audio in segments of fragmented MP4, and the files of their
tracks."""

from __future__ import annotations

from pathlib import Path

from serverpy.sample.apart import files_of
from serverpy.sample.dash import FIRST_PERIOD_SEGMENTS
from serverpy.sample.dash import SEGMENTS as DASH_SEGMENTS

HLS = ("hls-apart", "hls-apart-byterange", "hls-apart-aes", "hls-apart-long")
DASH = ("dash", "dash-list", "dash-time", "dash-periods", "dash-ranges", "dash-bases")
RESTARTING = ("hls-apart-restart", "dash-restart")
"""Pages on which the timestamps of video and audio restart in the middle."""
WITH_LENGTH = ("hls-apart-byterange", "dash-ranges")
"""Pages whose playlist or MPD states the length of each segment in bytes."""
PAGES = (*HLS, *DASH)


def sources(media: Path, page: str, language: str = "en") -> tuple[bytes, bytes]:
    """Return the bytes of the best video track of `page`, and the bytes of its audio track. The bytes of a track are
    its segments, in order."""
    if page.startswith("hls-"):
        form = page.removeprefix("hls-")
        names = "low" if form == "apart-long" else "high", language
        video, audio = (b"".join(file.read_bytes() for file in files_of(media / "hls", form, name)) for name in names)
        return video, audio
    numbers = list(range(1, DASH_SEGMENTS + 1))
    if page == "dash-restart":
        numbers[FIRST_PERIOD_SEGMENTS:] = range(1, DASH_SEGMENTS - FIRST_PERIOD_SEGMENTS + 1)
    video, audio = (
        b"".join((media / "dash" / f"{name}-{part}").read_bytes() for part in ("init.mp4", *_fragments(numbers)))
        for name in ("video-360", "audio")
    )
    return video, audio


def _fragments(numbers: list[int]) -> list[str]:
    return [f"{number}.m4s" for number in numbers]
