"""Helpers that run yt-dlp downloads in threads, whose pipes a test reads."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

from yt_dlp import YoutubeDL

from serverpy.net.egress import Egress
from serverpy.net.guard import Guard, parse_networks
from serverpy.ytdlp.children import Ticket
from serverpy.ytdlp.download.track import transfer
from serverpy.ytdlp.session.proxies import SessionProxies

DEADLINE = 60.0
PROMPT_SECONDS = 15.0


@contextlib.contextmanager
def session(ticket: Ticket, **options: Any) -> Iterator[YoutubeDL]:
    """Open a YoutubeDL without the changes of the worker, but otherwise as `instance.open` does. The connections of
    this YoutubeDL go through a proxy; setting the `Ticket` aborts these connections."""
    with proxies().open() as proxy, ticket.hook(proxy.cut):
        params = {"quiet": True, "no_warnings": True, "cachedir": False, "socket_timeout": 20, "proxy": proxy.url}
        with YoutubeDL({**params, **options}, auto_init=False) as ydl:
            yield ydl


@functools.cache
def proxies() -> SessionProxies:
    """Return the egress proxies of the downloads. As in the worker, all downloads share one event loop, which runs
    until the process ends."""
    guard = Guard(parse_networks(["127.0.0.0/8"]))
    made = SessionProxies(lambda: Egress(guard))
    made.start()
    return made


class Running:
    """A download by the function `transfer` in a thread, as a context manager. Leaving the context cancels the
    download, joins the thread, and closes the reading end of the pipe."""

    def __init__(self, info: dict[str, Any], pipe_bytes: int = 65536, **options: Any) -> None:
        self.reader, self._writer = os.pipe()
        fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, pipe_bytes)
        self.cancelled = Ticket()
        self.count: int | None = None
        self.error: BaseException | None = None
        self._options = options
        self._info = info
        self.thread = threading.Thread(target=self._run, name="download-under-test")

    def _run(self) -> None:
        try:
            self.count = transfer(
                lambda: session(self.cancelled, **self._options), self._info, self._writer, self.cancelled
            )
        except BaseException as error:  # noqa: BLE001  # keep every exception of the download, so that the test can check it
            self.error = error

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cancelled.set()
        self.close_reader()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()

    def close_reader(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1

    def read(self, size: int = 65536) -> bytes:
        return os.read(self.reader, size)

    def read_all(self) -> bytes:
        """Read the pipe to its end, and join the thread. Returns all bytes."""
        pieces = []
        while piece := self.read():
            pieces.append(piece)
        self.thread.join(DEADLINE)
        return b"".join(pieces)

    def ends(self) -> bool:
        """Wait for the end of the thread. Returns True if the thread ends long before its own timeout or a fault of the
        site would end it."""
        self.thread.join(PROMPT_SECONDS)
        return not self.thread.is_alive()


def progressive(url: str, **fields: Any) -> dict[str, Any]:
    return {"id": "x", "title": "x", "format_id": "0", "url": url, "ext": "mp4", "protocol": "http", **fields}
