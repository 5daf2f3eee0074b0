"""Videos of several parts, each of which has its own formats (Bilibili, RTP).

yt-dlp returns such a page as a playlist of its parts or, because this server sets `noplaylist`, as its first part. But
`noplaylist` is meant for URLs that name both a video and a playlist that contains it, whereas the URL of such a page
names the whole video. The extractors call `InfoExtractor._yes_playlist` in both cases, so `install` patches this
method.
"""

from __future__ import annotations

from typing import Any

from yt_dlp.extractor.common import InfoExtractor

_LABEL = "multi-part episode"


def install() -> None:
    """Patch yt-dlp. An extractor that finds a video of several parts then sets `has_parts` of the instance. It returns
    a playlist of the parts if `lists_parts` of the instance is true, and otherwise the first part. Call this once per
    process."""
    ask = InfoExtractor._yes_playlist

    def yes_playlist(self: Any, playlist_id: Any, video_id: Any, *args: Any, **more: Any) -> Any:
        is_yes = ask(self, playlist_id, video_id, *args, **more)
        if is_yes or not is_of_parts(playlist_id, video_id, more.get("playlist_label")):
            return is_yes
        self._downloader.has_parts = True
        return getattr(self._downloader, "lists_parts", False)

    InfoExtractor._yes_playlist = yes_playlist


def is_of_parts(playlist_id: Any, video_id: Any, label: str | None) -> bool:
    """Return whether a playlist consists of the parts of a video. This is so if both have the same id, or if the
    extractor labels the playlist as a multi-part episode."""
    return bool(playlist_id) and (playlist_id == video_id or label == _LABEL)
