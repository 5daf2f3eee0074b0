"""One format of yt-dlp, written into a pipe by yt-dlp's own downloader. The download process of the method `embedded`
and the child processes of the method `subprocess` use this module."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from yt_dlp.utils import determine_protocol

from serverpy.errors import DrmProtected, ServerPYError, UnsupportedConversion, UpstreamFailed
from serverpy.ytdlp.children import Stopped
from serverpy.ytdlp.download import downloaders
from serverpy.ytdlp.download.sink import OneFile, PipeWriter
from serverpy.ytdlp.download.upstream import MediaRequests, translate
from serverpy.ytdlp.mpd.formats import REFUSAL
from serverpy.ytdlp.stop import Stop, stopped

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 60
"""Maximum number of seconds that a site may require a client to wait before the first request for the media (yt-dlp's
field `available_at`; YouTube requires 5 s)."""

HTTP = frozenset({"http", "https"})
OpenSession = Callable[[], AbstractContextManager[Any]]
"""Function that returns a context manager of a YoutubeDL."""


def write_format(open_session: OpenSession, info: dict[str, Any], stop: Stop) -> int:
    """Write the media that `info` describes to the pipe of `stop`, in the calling thread. `info` contains the fields of
    a format, and the fields of the page that the format lacks. Returns the number of bytes as soon as the last byte is
    in the pipe. Raises a `ServerPYError` if the download fails or is stopped."""
    out = PipeWriter(stop)
    try:
        with open_session() as ydl:
            info = _for_downloaders(info)
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
        return
    # a late import, because these modules take 1 MB, which a child process that downloads a file does not need
    from serverpy.ytdlp.download import fragments

    if make := fragments.BY_PROTOCOL.get(protocol):
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
