"""The part of the method `embedded` that runs in the download process: yt-dlp's own downloader writes one format into a
pipe."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from yt_dlp.utils import determine_protocol

from serverpy.errors import DrmProtected, ServerPYError, UnsupportedConversion, UpstreamFailed
from serverpy.extraction.messages import WorkerOptions
from serverpy.ytdlp.children import Stopped
from serverpy.ytdlp.download import downloaders, fragments
from serverpy.ytdlp.download.sink import OneFile, PipeWriter
from serverpy.ytdlp.download.upstream import MediaRequests, translate
from serverpy.ytdlp.mpd.formats import REFUSAL
from serverpy.ytdlp.page.crossing import RawTrack
from serverpy.ytdlp.session import instance
from serverpy.ytdlp.stop import Stop, stopped

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 60
"""Maximum number of seconds that a site may require a client to wait before the first request for the media (yt-dlp's
field `available_at`; YouTube requires 5 s)."""

HTTP = frozenset({"http", "https"})
OpenSession = Callable[[], AbstractContextManager[Any]]


def run(track: RawTrack, fd: int, cancelled: threading.Event, options: WorkerOptions) -> int:
    """Write the bytes of `track` to the pipe `fd`. Closes `fd` in any case. See `transfer` for the result and the
    errors."""
    return transfer(lambda: instance.open(options, track.cookies, cancelled, extracts=False), track.info, fd, cancelled)


def transfer(open_session: OpenSession, info: dict[str, Any], fd: int, cancelled: threading.Event) -> int:
    """Write the media that `info` describes to the pipe `fd`, in the calling thread. Closes `fd` in any case. `info`
    contains the fields of a format, and the fields of the page that the format lacks. Returns the number of bytes as
    soon as the last byte is in the pipe.

    Raises a `ServerPYError` if the download fails, if `cancelled` is set, or if the reader of the pipe has closed the
    reading end (which sets `cancelled`). If `cancelled` is a `Ticket`, `cancelled.set()` ends any wait of the thread
    within about 0.1 s. The thread checks a plain event only between its operations.
    """
    try:
        with Stop(cancelled, fd) as stop:
            return _transfer(open_session, _for_downloaders(info), stop)
    finally:
        os.close(fd)


def _transfer(open_session: OpenSession, info: dict[str, Any], stop: Stop) -> int:
    out = PipeWriter(stop)
    try:
        with open_session() as ydl:
            _refuse_impossible(info)
            _wait_until(info.get("available_at"), stop)
            _download(MediaRequests(ydl, stop), info, out)
    except Stopped as error:
        raise stopped() from error
    except ServerPYError:
        stop.check()
        raise
    except Exception as error:  # if a media server is hostile, yt-dlp may raise any exception
        stop.check()
        log.info("yt-dlp's downloader failed: %s", type(error).__name__)
        # The traceback contains URLs, so it is logged only for debugging.
        log.debug("Traceback of the failed download:", exc_info=True)
        raise translate(error) from error
    return out.given


def _for_downloaders(info: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of `info` that downloaders may change, without the fields that would make yt-dlp download with
    ffmpeg."""
    kept = {name: value for name, value in info.items() if name not in _NOT_FOR_DOWNLOADERS}
    return {**kept, "protocol": determine_protocol(kept)}


def _wait_until(available_at: float | None, stop: Stop) -> None:
    seconds = (available_at or 0) - time.time()
    if seconds > MAX_WAIT_SECONDS:
        raise UpstreamFailed("The media is not available yet. Try again later.")
    if seconds > 0:
        stop.pause(seconds)


def _download(requests: MediaRequests, info: dict[str, Any], out: PipeWriter) -> None:
    options = downloaders.params(requests)
    protocol = info["protocol"]
    if protocol in HTTP:
        downloaders.FileDownloader(requests, options, OneFile(out.write), info).run()
    elif make := fragments.BY_PROTOCOL.get(protocol):
        make(requests, options, out).run(info)
    else:
        raise UnsupportedConversion("Yt-dlp needs other programs to download this format. Choose another format.")


def _refuse_impossible(info: dict[str, Any]) -> None:
    if info.get("has_drm") is True:
        raise DrmProtected("The media is encrypted with DRM.")
    if (refusal := info.get(REFUSAL)) and "fragments" not in info:
        raise UnsupportedConversion(refusal)
    if info.get("is_live") and info["protocol"] != "http_dash_segments_generator":
        raise UnsupportedConversion("This method cannot stream live media: choose another method.")


_NOT_FOR_DOWNLOADERS = frozenset(
    ("formats", "requested_formats", "requested_downloads", "section_start", "section_end", "entries")
)
