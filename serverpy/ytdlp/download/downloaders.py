"""yt-dlp's own downloaders, changed to write into a stream. The downloaders use no file and no child process, hold a
limited number of bytes in memory, and raise an error if bytes are missing.

Each downloader here is a subclass of one of yt-dlp's downloaders, with its input and output replaced. yt-dlp's code
still handles the protocols. The downloaders raise a `ServerPYError`, or an exception of yt-dlp that `writing.py`
translates.
"""

from __future__ import annotations

from typing import Any

from yt_dlp.downloader.http import HttpFD
from yt_dlp.utils import NO_DEFAULT, ContentTooShortError

from serverpy.errors import UpstreamFailed
from serverpy.ytdlp.download.sink import OneFile
from serverpy.ytdlp.download.upstream import (
    BACK_OFF,
    IMPERSONATED_BYTES,
    PIECE_BYTES,
    EndOfFile,
    FileRequests,
    MediaRequests,
    translate,
)

STDOUT = "-"
"""The output file name for which yt-dlp's downloaders do not rename a file and do not look for a partial file."""


def params(ydl: Any) -> dict[str, Any]:
    """Return the parameters of the YoutubeDL instance, changed so that no downloader writes to disk, skips a fragment,
    waits, or starts a program."""
    return {
        **ydl.params,
        "buffersize": PIECE_BYTES,
        "concurrent_fragment_downloads": 1,
        "continuedl": False,
        "external_downloader": None,
        "fragment_retries": 0,  # the `FileDownloader` of the fragment already retries
        "keep_fragments": False,
        "max_filesize": None,
        "min_filesize": None,
        "nopart": True,
        "noprogress": True,
        "noresizebuffer": True,  # HttpFD would read blocks of up to 4 MiB, which take 6.2 MB per stream (measured)
        "quiet": True,
        "ratelimit": None,
        "retries": float("inf"),  # `report_retry` limits the retries
        "skip_unavailable_fragments": False,
        "test": False,
        "throttledratelimit": None,  # otherwise yt-dlp would mistake a slow client for throttling by the site
        "updatetime": False,
        "write_pages": False,
        "_no_ytdl_file": True,
    }


class Quiet:
    """Mixin that discards the messages of a yt-dlp downloader and raises its errors."""

    def to_screen(self, *args: Any, **kwargs: Any) -> None: ...

    def to_stderr(self, *args: Any, **kwargs: Any) -> None: ...

    def to_console_title(self, *args: Any, **kwargs: Any) -> None: ...

    def report_destination(self, filename: str) -> None: ...

    def report_warning(self, *args: Any, **kwargs: Any) -> None: ...

    def try_remove(self, filename: str) -> None: ...

    def try_rename(self, old_filename: str, new_filename: str) -> None: ...

    def try_utime(self, filename: str, last_modified_hdr: str | None) -> None: ...

    def _hook_progress(self, status: Any, info_dict: Any) -> None: ...

    def report_error(self, message: str, *args: Any, **kwargs: Any) -> None:
        # yt-dlp's message may contain URLs. The client does not need the message, because every such message means only
        # that yt-dlp cannot fetch the bytes.
        raise UpstreamFailed("Yt-dlp's downloader could not fetch the media.")


class FileDownloader(Quiet, HttpFD):  # type: ignore[misc]  # yt-dlp is untyped
    """Downloader of one file over HTTP into `file`. After a broken connection, the downloader resumes at the next
    byte."""

    def __init__(self, requests: MediaRequests, options: dict[str, Any], file: OneFile, info: dict[str, Any]) -> None:
        self._file = file
        self._stop = requests.stop
        self._tries = 0
        self._given = 0
        headers = info.get("http_headers") or {}
        window = any(name.lower() == "range" for name in headers)
        self._requests = requests
        absent, chunk_bytes = bool(info.get("may_be_absent")), _chunk_bytes(requests, options, info)
        self._source = FileRequests(requests, file, window=window, may_be_absent=absent, chunk_bytes=chunk_bytes)
        super().__init__(self._source, {**options, "http_chunk_size": None})
        self._info = {**info, "downloader_options": {}}

    def run(self) -> None:
        """Download the file. Returns when the last byte has been written. Raises `UpstreamFailed` if yt-dlp gives up,
        or if the number of bytes differs from the length that the media server stated."""
        try:
            if self.real_download(STDOUT, self._info) is False:
                raise UpstreamFailed("Yt-dlp's downloader could not fetch the media.")
        except EndOfFile:
            pass
        finally:
            self._source.close()
        total = self._source.total
        if total is not None and self._file.given != total:
            raise UpstreamFailed("The media server ended the body too early.")
        self._requests.has_begun = True

    def sanitize_open(self, filename: str, open_mode: Any) -> tuple[OneFile, str]:
        return self._file.reopen(open_mode), filename

    def report_retry(
        self, err: Exception, count: int, retries: float, frag_index: Any = NO_DEFAULT, fatal: bool = True
    ) -> None:
        """Allow three consecutive retries without a new byte, then raise the error. If the last response only was a
        part of the file, request the next part at once."""
        self._stop.check()
        if self._file.given > self._given:
            self._given, self._tries = self._file.given, 0
        if isinstance(err, ContentTooShortError) and self._source.ended_early():
            return
        if self._tries == len(BACK_OFF):
            raise translate(err) from err
        self._stop.pause(BACK_OFF[self._tries])
        self._tries += 1
        self._source.resume()


def _chunk_bytes(requests: MediaRequests, options: dict[str, Any], info: dict[str, Any]) -> int:
    """Return the maximum number of bytes that a request for the file asks for, or 0 if there is no maximum."""
    if info.get("impersonate") or requests.always_impersonates:
        return IMPERSONATED_BYTES
    its_options = info.get("downloader_options") or {}
    return int(options.get("http_chunk_size") or its_options.get("http_chunk_size") or 0)
