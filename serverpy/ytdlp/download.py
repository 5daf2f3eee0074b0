"""The embedded method inside the worker: one format, by yt-dlp's own downloader, in the calling thread, into a pipe."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from serverpy.errors import FormatNotFound, ServerPYError, UpstreamFailed
from serverpy.ytdlp import downloaders
from serverpy.ytdlp.sink import OneFile, PipeWriter
from serverpy.ytdlp.stop import Stop
from serverpy.ytdlp.upstream import Upstream, translate

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 60
"""The longest that a site may ask to wait before the first byte (yt-dlp's `available_at`; YouTube asks for 5 s)."""

OpenSession = Callable[[], AbstractContextManager[Any]]


def transfer(open_session: OpenSession, info: dict[str, Any], fd: int, cancelled: threading.Event) -> int:
    """Write the media of `info` (a format, merged with its page's fields) to the pipe `fd`, which is closed here.

    Returns the number of bytes when the last is in the pipe. Raises a `ServerPYError` in any other case, also when
    `cancelled` is set or the pipe's reader has gone, within about 0.1 s wherever the thread was.
    """
    try:
        with Stop(cancelled, fd) as stop, open_session() as ydl:
            out = PipeWriter(stop)
            try:
                _wait_until(info.get("available_at"), stop)
                _download(Upstream(ydl, stop), info, out)
            except ServerPYError:
                stop.check()
                raise
            except Exception as error:  # yt-dlp may raise anything on what a hostile server sends
                stop.check()
                log.info("downloader failed: %s", type(error).__name__, exc_info=True)
                raise translate(error) from error
            return out.given
    finally:
        os.close(fd)


def _wait_until(available_at: float | None, stop: Stop) -> None:
    seconds = (available_at or 0) - time.time()
    if seconds > MAX_WAIT_SECONDS:
        raise UpstreamFailed("the media is not available yet")
    if seconds > 0:
        stop.pause(seconds)


def _download(upstream: Upstream, info: dict[str, Any], out: PipeWriter) -> None:
    options = downloaders.params(upstream)
    downloaders.FileDownloader(upstream, options, OneFile(out.write), info).run()


def choose(info: dict[str, Any], track_id: str) -> dict[str, Any]:
    """The format `track_id` of a page's `info`, with the page's fields that downloaders read."""
    formats = info.get("formats") or [info]
    for candidate in formats:
        if candidate.get("format_id") == track_id:
            page = {name: value for name, value in info.items() if name not in _NOT_FOR_DOWNLOADERS}
            return {**page, **candidate}
    raise FormatNotFound("the page no longer offers that format")


_NOT_FOR_DOWNLOADERS = frozenset(
    # Any of these would make yt-dlp choose ffmpeg, which is never started.
    ("formats", "requested_formats", "requested_downloads", "section_start", "section_end", "entries")
)
