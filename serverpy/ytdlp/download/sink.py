"""The outputs of yt-dlp's downloaders. `PipeWriter` blocks while the pipe is full, so that a slow reader slows down the
download from the media server. `OneFile` drops the bytes that yt-dlp's retries download again, because a stream cannot
be rewound.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Literal

from serverpy.errors import UpstreamFailed
from serverpy.ytdlp.stop import Stop, stopped

TAIL_BYTES = 4096
"""Number of bytes at the end of the output that are kept, to compare them with the bytes that a retry downloads
again."""


class PipeWriter:
    """Writer to the pipe `stop.pipe`. The writer makes the pipe non-blocking, and does not close it. `given` is the
    number of bytes that were written."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._fd = stop.pipe
        self.given = 0
        os.set_blocking(self._fd, False)

    def write(self, data: bytes) -> None:
        """Write `data`, and block while the pipe is full. Raises `UpstreamFailed` if the download is stopped or the
        reader of the pipe has closed the reading end."""
        view = memoryview(data)
        while view:
            self._stop.check()
            try:
                written = os.write(self._fd, view)
            except BlockingIOError:
                self._wait_for_room()
            except BrokenPipeError as error:
                raise stopped() from error
            else:
                self.given += written
                view = view[written:]

    def _wait_for_room(self) -> None:
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        poller.register(self._stop.wake, select.POLLIN)
        poller.poll()


class OneFile:
    """The output file of yt-dlp's HttpFD.

    HttpFD opens the file with a mode: `wb` starts at byte 0, `ab` continues. A second `wb` means that the media server
    did not resume but sends the whole file again. In this case `OneFile` drops the repeated bytes, but compares them
    with those of the last TAIL_BYTES bytes that it has written.
    """

    def __init__(self, give: Callable[[bytes], None]) -> None:
        self._give = give
        self._tail = b""
        self.given = 0
        self.position = 0

    def reopen(self, mode: Literal["wb", "ab"]) -> OneFile:
        if mode == "wb":
            self.position = 0
        return self

    def write(self, data: bytes) -> None:
        start, self.position = self.position, self.position + len(data)
        again = min(self.given - start, len(data))
        if again > 0:
            self._compare(data[:again], start)
            data = data[again:]
        if data:
            self._give(data)
            self.given += len(data)
            self._tail = (self._tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]

    @property
    def tail(self) -> bytes:
        """The last bytes that were written, or `b""` while the downloader downloads earlier bytes again."""
        return self._tail if self.position == self.given else b""

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def _compare(self, data: bytes, start: int) -> None:
        remembered_from = self.given - len(self._tail)
        begin, end = max(start, remembered_from), start + len(data)
        if begin < end and data[begin - start :] != self._tail[begin - remembered_from : end - remembered_from]:
            raise UpstreamFailed("The media server sent different bytes when a part of the media was requested again.")
