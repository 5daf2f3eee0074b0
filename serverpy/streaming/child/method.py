"""The method `subprocess`: a child process for each request runs yt-dlp's own command line, with a pipe as its standard
output.

This method isolates a stream from the server process. Benchmarks compare the memory use of the other methods with it: a
child takes about 55 MB of memory and 2 to 4 seconds of CPU time. The child extracts the page itself, downloads only
media that is one file, and resumes, checks and decrypts it as the method `embedded` does (`ytdlp/download/`).
"""

from __future__ import annotations

import errno
import logging
import time
from typing import TYPE_CHECKING

from serverpy.body import SESSION_BYTES, Source
from serverpy.errors import Busy, InvalidParameter, InvalidUrl, ServerPYError, UpstreamFailed
from serverpy.extraction.selectors import check_selector
from serverpy.extraction.values import Track
from serverpy.memory.room import Lender
from serverpy.plan import Capability, Plan
from serverpy.streaming.child.messages import MAX_FOUND_BYTES, MESSAGE_BYTES
from serverpy.streaming.child.options import ChildOptions
from serverpy.streaming.os_pipe import HandOver
from serverpy.streaming.slots import Slot, Slots

if TYPE_CHECKING:
    from serverpy.streaming.child.body import SubprocessBody
    from serverpy.streaming.child.process import Child

log = logging.getLogger(__name__)

PROTOCOLS = frozenset(("http", "https", "m3u8", "m3u8_native", "http_dash_segments", "ism", "f4m"))
"""The protocols of yt-dlp that its command line can download to its standard output without another program."""
_FULL = frozenset((errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT))


class Subprocess:
    """The opener of the method `subprocess`, with at most `max_children` child processes at once. `open` waits up to
    `timeouts.wait` seconds for a free slot, and raises `Busy` if none becomes free."""

    def __init__(self, options: ChildOptions, hand_over: HandOver, *, max_children: int) -> None:
        self._options = options
        self._hand_over = hand_over
        self._swept = False
        self.slots = Slots(max_children, options.timeouts.wait, "children of the subprocess method")
        self.capability = Capability(
            opener="subprocess",
            method="subprocess",
            stream_bytes=self.stream_bytes,
            carries=self.carries,
            bytes_for=lambda tracks: self.stream_bytes,
            automatic=False,
            extracts=True,
        )

    @property
    def stream_bytes(self) -> int:
        in_server = SESSION_BYTES + 2 * self._hand_over.chunk_bytes
        return self._hand_over.pipe_bytes + in_server + 2 * MESSAGE_BYTES + MAX_FOUND_BYTES

    def carries(self, track: Track) -> bool:
        return not (track.is_live or track.has_drm or track.refusal) and track.protocol in PROTOCOLS

    async def open(self, plan: Plan, source: Source, reservation: Lender) -> SubprocessBody:
        # a late import, because most servers never run a child, and its modules take 0.4 MB
        from serverpy.streaming.child.body import open_body

        _check(source)
        slot = await self.slots.take()
        began = time.monotonic()
        try:
            child = self._start(source, slot)
        except BaseException:
            slot.release()
            raise
        return await open_body(child, source, self._options, began)

    def _start(self, source: Source, slot: Slot) -> Child:
        from serverpy.streaming.child.files import sweep_directories
        from serverpy.streaming.child.process import Child

        try:
            if not self._swept:
                sweep_directories()
                self._swept = True
            return Child(self._options, source, slot, self._hand_over)
        except OSError as error:
            log.error("a yt-dlp child process cannot be started: %s", error)
            raise _not_started(error) from error


def _check(source: Source) -> None:
    if not source.url.lower().startswith(("http://", "https://")):
        raise InvalidUrl("The address is not an http(s) URL.")
    if "\0" in f"{source.url}{source.format}":
        raise InvalidParameter("No parameter may contain a NUL character.")
    if source.format is not None:
        check_selector(source.format)


def _not_started(error: OSError) -> ServerPYError:
    if error.errno in _FULL:
        return Busy("The server has no resources for another child process. Try again later.")
    return UpstreamFailed("Yt-dlp could not be started.")
