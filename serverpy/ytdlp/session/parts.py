"""Videos of several parts, each of which has its own formats (Bilibili, RTP).

yt-dlp returns such a page as a playlist of its parts or, because this server sets `noplaylist`, as its first part. But
`noplaylist` is meant for URLs that name a video and a playlist that contains it, and the URL of such a page names the
whole video. The extractors ask the same question in both cases, so `install` changes the answer.
"""

from __future__ import annotations

from typing import Any

from yt_dlp.extractor.common import InfoExtractor

_LABEL = "multi-part episode"


def install() -> None:
    """Patch yt-dlp: an extractor that finds a video of several parts returns a playlist of them if the instance has
    `lists_parts`, and otherwise the first part, and sets `has_parts` of the instance. Call this once per process."""
    ask = InfoExtractor._yes_playlist

    def yes_playlist(self: Any, playlist_id: Any, video_id: Any, *args: Any, **more: Any) -> Any:
        is_yes = ask(self, playlist_id, video_id, *args, **more)
        if is_yes or not is_of_parts(playlist_id, video_id, more.get("playlist_label")):
            return is_yes
        self._downloader.has_parts = True
        return getattr(self._downloader, "lists_parts", False)

    InfoExtractor._yes_playlist = yes_playlist


def is_of_parts(playlist_id: Any, video_id: Any, label: str | None) -> bool:
    """Return whether the playlist consists of the parts of the video: both have the same id, or the extractor calls the
    playlist so."""
    return bool(playlist_id) and (playlist_id == video_id or label == _LABEL)
