"""What yt-dlp has to say."""

from __future__ import annotations

from collections import deque


class Log:
    """yt-dlp's logger: keeps the last lines of errors, and writes nothing anywhere."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=20)

    def debug(self, message: str) -> None:
        """Progress and debugging: dropped."""

    def warning(self, message: str) -> None:
        """Dropped as well: what matters comes as an error."""

    def error(self, message: str) -> None:
        self.errors.append(str(message)[:1000])
