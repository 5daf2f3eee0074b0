"""The part of the method `embedded` that runs in the download process: yt-dlp's own downloader writes one format into a
pipe."""

from __future__ import annotations

import os
import threading
from typing import Any

from serverpy.extraction.messages import WorkerOptions
from serverpy.ytdlp.download.writing import OpenSession, write_format
from serverpy.ytdlp.page.crossing import RawTrack
from serverpy.ytdlp.session import instance
from serverpy.ytdlp.stop import Stop


def run(track: RawTrack, fd: int, cancelled: threading.Event, options: WorkerOptions) -> int:
    """Write the bytes of `track` to the pipe `fd`. Closes `fd` in any case. See `transfer` for the result and the
    errors."""
    return transfer(lambda: instance.open(options, track.cookies, cancelled, extracts=False), track.info, fd, cancelled)


def transfer(open_session: OpenSession, info: dict[str, Any], fd: int, cancelled: threading.Event) -> int:
    """Write the media that `info` describes to the pipe `fd`, in the calling thread. Closes `fd` in any case. See
    `write_format` for `info` and the result.

    Raises a `ServerPYError` if the download fails, if `cancelled` is set, or if the reader of the pipe has closed the
    reading end (which sets `cancelled`). If `cancelled` is a `Ticket`, `cancelled.set()` ends any wait of the thread
    within about 0.1 s. The thread checks a plain event only between its operations.
    """
    try:
        with Stop(cancelled, fd) as stop:
            return write_format(open_session, info, stop)
    finally:
        os.close(fd)
