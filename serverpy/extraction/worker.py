"""The server's side of a yt-dlp process: one process from its start to its end, and the calls to it. Any number of
calls may be in progress at the same time, distinguished by their ids. Each call gets exactly one final reply: that of
the worker, or an error from `_lose` if the process can no longer reply. A download has two futures: `started` is done
when the worker has received the descriptor of the pipe, `reply` when the worker's thread has closed that descriptor.

Two tasks share the socket: `_send` writes what `_post` has queued, `_receive` reads replies. If reading or writing
fails, `_receive` kills the process and ends all calls with an error. `pool.py` decides which worker gets a request, and
replaces a worker that does not respond.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from serverpy.directories import PrivateDirectory, sweep
from serverpy.errors import Busy, ExtractionFailed, InvalidParameter
from serverpy.extraction import messages
from serverpy.extraction.descriptors import send_with
from serverpy.extraction.long_replies import decode_in_turns
from serverpy.extraction.messages import (
    Cancel,
    Configure,
    DownloadStarted,
    ErrorReply,
    Extract,
    Format,
    Frames,
    MessageTooLarge,
    Page,
    Ping,
    Ready,
    Reply,
    Request,
    Role,
    Select,
    StartDownload,
    WorkerLost,
    WorkerOptions,
    WriteRaw,
)
from serverpy.extraction.process import start_process
from serverpy.processes import Process
from serverpy.tasks import Closing, spawn

log = logging.getLogger(__name__)

START_SECONDS = 60.0
CLOSE_SECONDS = 2.0
DIRECTORY_PREFIX = "serverpy-worker-"
_RECEIVE_BYTES = 256 * 1024


class Call:
    """A request to the worker that is in progress. `reply` is done when the worker's thread is free again, or when the
    worker has died."""

    def __init__(self, id_: int) -> None:
        self.id = id_
        self.cancelled = False
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[Reply] = loop.create_future()
        self.reply: asyncio.Future[Reply] = loop.create_future()

    def take(self, reply: Reply) -> None:
        """Record `reply`: the final reply, or a `DownloadStarted`, which precedes it."""
        if not self.started.done():
            self.started.set_result(reply)
        if not isinstance(reply, DownloadStarted) and not self.reply.done():
            self.reply.set_result(reply)


class Worker:
    """One yt-dlp process, from `start` to `aclose`. The owner must call `aclose` even if `start` failed."""

    def __init__(self, options: WorkerOptions, role: Role) -> None:
        self.options = options
        self.role = role
        self.ready: Ready | None = None
        self.started_at = time.monotonic()
        self.extractions: set[Call] = set()
        self.downloads: set[Call] = set()
        self.gone = asyncio.Event()
        """Event that is set when the worker process can no longer reply."""
        self._calls: dict[int, Call] = {}
        self._ids = itertools.count(1)
        self._process: Process | None = None
        self._sock: socket.socket | None = None
        self._directory: PrivateDirectory | None = None
        self._to_send: asyncio.Queue[tuple[bytes, Sequence[int]]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self.aclose = Closing(self._close, "close worker")
        """Stop the process and its children, within about CLOSE_SECONDS."""

    def __repr__(self) -> str:
        state = "gone" if self.gone.is_set() else f"{len(self.extractions)}+{len(self.downloads)} calls"
        return f"<Worker {self.role} {self.pid} {state}>"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def calls(self) -> set[Call]:
        """The extractions and downloads that this worker has in progress."""
        return self.extractions | self.downloads

    async def start(self) -> None:
        """Start the process and wait until it accepts requests. Raises `ConfigurationError` if the process rejects its
        settings, `Busy` if the system has no resources for a process, and `ExtractionFailed` if the process does not
        start."""
        try:
            sweep(DIRECTORY_PREFIX)
            self._directory = PrivateDirectory(DIRECTORY_PREFIX)
            self._sock, theirs = socket.socketpair()
            self._sock.setblocking(False)
            with theirs:
                self._process = await start_process(self.role, theirs.fileno())
        except OSError as error:
            log.error("A yt-dlp process cannot be started: %s", error)
            raise Busy("The server has no resources for a yt-dlp process. Try again later.") from error
        self._tasks = [
            spawn(self._receive(self._sock), name="worker replies"),
            spawn(self._send(self._sock), name="worker requests"),
        ]
        self._post(Configure(options=self.options, directory=str(self._directory.path)))
        try:
            async with asyncio.timeout(START_SECONDS):
                self.ready = await asyncio.shield(self._ready)
        except TimeoutError:
            raise ExtractionFailed("The yt-dlp process did not start in time. Try again later.") from None

    async def _close(self) -> None:
        self._lose()
        try:
            await self._end_process()
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            self._drop_unsent()
            if self._sock is not None:
                self._sock.close()
            if self._directory is not None:
                self._directory.remove()

    def kill(self) -> None:
        """Kill the process and its children immediately. The owner must still call `aclose`."""
        if self._process is not None:
            self._process.signal(signal.SIGKILL)

    def extract(self, url: str) -> Call:
        call = self._call(Extract(id=next(self._ids), url=url))
        self._track(call, self.extractions)
        return call

    def write_raw(self, raw_id: str, track_id: str, file: int) -> Call:
        """Have the process write yt-dlp's dictionary of a track into `file`. The worker takes ownership of `file`: it
        closes the descriptor after sending it to the process, or if sending fails."""
        return self._call(WriteRaw(id=next(self._ids), raw_id=raw_id, track_id=track_id), (file,))

    def download(self, track_id: str, write_fd: int, raw: int, page: Page | None) -> Call:
        """Start the download of a track into the pipe `write_fd`. The file `raw` contains yt-dlp's dictionary of the
        track; if `page` is given, the file is empty, and the process extracts `page` itself. The worker takes ownership
        of both descriptors, as `write_raw` does."""
        request = StartDownload(id=next(self._ids), track_id=track_id, page=page)
        call = self._call(request, (write_fd, raw))
        self._track(call, self.downloads)
        return call

    async def select(self, selector: str, formats: tuple[Format, ...]) -> Reply:
        return await asyncio.shield(self._call(Select(id=next(self._ids), selector=selector, formats=formats)).reply)

    async def answers(self, seconds: float) -> bool:
        """Return whether the process answers within `seconds`. A process that holds Python's interpreter lock, or was
        stopped by a signal, does not answer."""
        call = self._call(Ping(id=next(self._ids)))
        await asyncio.wait([call.reply], timeout=seconds)
        return call.reply.done()

    def cancel(self, call: Call) -> None:
        """Tell the worker to stop `call`; `call.reply` is done when the worker has stopped it."""
        if not call.reply.done() and not call.cancelled:
            call.cancelled = True
            self._post(Cancel(id=call.id))

    def _call(
        self, request: Extract | WriteRaw | StartDownload | Select | Ping, descriptors: Sequence[int] = ()
    ) -> Call:
        call = Call(request.id)
        if self.gone.is_set():
            call.take(_died(call.id))
            _close_all(descriptors)
            return call
        self._calls[call.id] = call
        call.reply.add_done_callback(lambda _: self._calls.pop(call.id, None))
        self._post(request, descriptors)
        return call

    def _track(self, call: Call, calls: set[Call]) -> None:
        if not call.reply.done():
            calls.add(call)
            call.reply.add_done_callback(lambda _: calls.discard(call))

    def _post(self, request: Request, descriptors: Sequence[int] = ()) -> None:
        try:
            self._to_send.put_nowait((messages.encode(request), descriptors))
        except MessageTooLarge as error:
            _close_all(descriptors)
            raise InvalidParameter(
                "The request is too large for the yt-dlp process. Use a shorter URL or format selector."
            ) from error

    # Methods that use the socket

    async def _send(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):  # no handling here, because `_receive` handles the end of the connection
            while True:
                frame, descriptors = await self._to_send.get()
                if descriptors:
                    try:
                        frame = await send_with(sock, frame, descriptors)
                    finally:
                        _close_all(descriptors)
                await loop.sock_sendall(sock, frame)
        self._drop_unsent()

    def _drop_unsent(self) -> None:
        while not self._to_send.empty():
            _, descriptors = self._to_send.get_nowait()
            _close_all(descriptors)

    async def _receive(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        frames = Frames()
        try:
            while data := await loop.sock_recv(sock, _RECEIVE_BYTES):
                for body in frames.feed(data):
                    self._take(await decode_in_turns(body))
        except ConnectionError:
            log.debug("The connection to the worker process %s broke", self.pid)
        except (MessageTooLarge, msgspec.DecodeError) as error:
            log.error("The worker process %s sent an invalid message and is killed: %s", self.pid, error)
        finally:
            self.kill()
            self._lose()

    def _take(self, reply: Reply) -> None:
        if isinstance(reply, Ready):
            if not self._ready.done():
                self._ready.set_result(reply)
        elif call := self._calls.get(reply.id):
            call.take(reply)
        elif isinstance(reply, ErrorReply) and reply.id == 0 and not self._ready.done():
            self._ready.set_exception(messages.to_error(reply))

    def _lose(self) -> None:
        """End every call with an error, because the process can no longer reply."""
        self.gone.set()
        for call in list(self._calls.values()):
            call.take(_died(call.id))
        if not self._ready.done():
            self._ready.set_exception(ExtractionFailed("The extraction process did not start."))
            self._ready.exception()  # mark the exception as retrieved, because `start` may no longer wait for it

    async def _end_process(self) -> None:
        if self._process is None:
            return
        if self._sock is not None and not self._process.has_exited:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
        try:
            if await self._process.wait(CLOSE_SECONDS) is None:
                log.warning("Worker process %s does not end by itself and is killed", self.pid)
        finally:
            self.kill()
        await self._process.wait()


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _died(id_: int) -> ErrorReply:
    return messages.error_reply(id_, WorkerLost("The yt-dlp process ended unexpectedly."))
