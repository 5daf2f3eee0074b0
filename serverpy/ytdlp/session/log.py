"""yt-dlp's logger."""

from __future__ import annotations


class Log:
    """Logger that discards everything, because yt-dlp raises what matters."""

    def debug(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...

    def error(self, message: str) -> None: ...
