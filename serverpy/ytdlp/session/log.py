"""yt-dlp's logger."""

from __future__ import annotations


class Log:
    """Writes nothing anywhere: what matters is raised."""

    def debug(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...

    def error(self, message: str) -> None: ...
