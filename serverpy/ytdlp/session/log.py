"""yt-dlp's logger."""

from __future__ import annotations


class Log:
    """Logger that discards all messages, because yt-dlp raises the important errors."""

    def debug(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...

    def error(self, message: str) -> None: ...
