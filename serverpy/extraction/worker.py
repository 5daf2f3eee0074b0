"""The worker process as the server sees it: one process from its start to its end, and what is asked of it.

Any number of requests are under way at once; each gets exactly one answer, from here if the process dies. Which worker
is asked, and what becomes of one that does not answer, is `workers.py`'s matter.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

import serverpy
from serverpy.directories import PrivateDirectory, sweep
from serverpy.errors import ExtractionFailed, InvalidParameter
from serverpy.extraction import messages
from serverpy.extraction.messages import (
    Cancel,
    Configure,
    Download,
    DownloadStarted,
    Extract,
    Failed,
    Frames,
    MessageTooLarge,
    Ready,
    Reply,
    Request,
    Select,
    StatsRequest,
    WorkerOptions,
)
from serverpy.tasks import spawn

log = logging.getLogger(__name__)

START_SECONDS = 60.0
CLOSE_SECONDS = 2.0
DIRECTORY_PREFIX = "serverpy-worker-"
_RECEIVE_BYTES = 256 * 1024


class Call:
    """A request under way. `reply` is done when the worker's thread is free again, or the worker is gone."""

    def __init__(self, id_: int) -> None:
        self.id = id_
        self.cancelled = False
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[Reply] = loop.create_future()
        self.reply: asyncio.Future[Reply] = loop.create_future()

    def take(self, reply: Reply) -> None:
        """Called once with the answer, before that perhaps with `DownloadStarted`."""
        if not self.started.done():
            self.started.set_result(reply)
        if not isinstance(reply, DownloadStarted) and not self.reply.done():
            self.reply.set_result(reply)


class Worker:
    """One process, from `start` to `aclose`. Its owner calls `aclose`, also after a start that failed.

    Any number of calls at once; each ends with an answer, with a `Failed` of ours if the process dies.
    """

    def __init__(self, options: WorkerOptions) -> None:
        self.options = options
        self.ready: Ready | None = None
        self.started_at = time.monotonic()
        self.extractions: set[Call] = set()
        self.downloads: set[Call] = set()
        self.gone = asyncio.Event()
        """Set when the process no longer answers."""
        self._calls: dict[int, Call] = {}
        self._ids = itertools.count(1)
        self._process: asyncio.subprocess.Process | None = None
        self._sock: socket.socket | None = None
        self._directory: PrivateDirectory | None = None
        self._to_send: asyncio.Queue[tuple[bytes, int | None]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        state = "gone" if self.gone.is_set() else f"{len(self.extractions)}+{len(self.downloads)} calls"
        return f"<Worker {self.pid} {state}>"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def calls(self) -> set[Call]:
        """The extractions and downloads under way."""
        return self.extractions | self.downloads

    async def start(self) -> None:
        """Returns when the worker takes requests. Raises ConfigurationError, or ExtractionFailed if it does not come
        up."""
        sweep(DIRECTORY_PREFIX)
        self._directory = PrivateDirectory(DIRECTORY_PREFIX)
        self._sock, theirs = socket.socketpair()
        self._sock.setblocking(False)
        with theirs:
            self._process = await _whole(_start_process(theirs.fileno()))
        self._tasks = [
            spawn(self._receive(self._sock), name="worker replies"),
            spawn(self._send(self._sock), name="worker requests"),
        ]
        self._post(Configure(options=self.options, directory=str(self._directory.path)))
        try:
            async with asyncio.timeout(START_SECONDS):
                self.ready = await asyncio.shield(self._ready)
        except TimeoutError:
            raise ExtractionFailed("The extraction process did not start in time.") from None

    async def aclose(self) -> None:
        """End the process and its children. Returns within about CLOSE_SECONDS; may be called more than once.
        Cancelling it does not stop it: call it again to wait for the end."""
        self._lose()
        if self._closing is None:
            self._closing = spawn(self._close(), name=f"close worker {self.pid}")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
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
        """At once; `aclose` is still to be called."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def extract(self, url: str) -> Call:
        call = self._call(Extract(id=next(self._ids), url=url))
        self._track(call, self.extractions)
        return call

    def download(self, raw_id: str, item: int | None, track_id: str, write_fd: int) -> Call:
        """Takes `write_fd` over: closed here when it is sent, or cannot be."""
        request = Download(id=next(self._ids), raw_id=raw_id, item=item, track_id=track_id)
        call = self._call(request, write_fd)
        self._track(call, self.downloads)
        return call

    async def ask(self, request: Select | StatsRequest) -> Reply:
        """A question that the worker answers at once."""
        return await asyncio.shield(self._call(request).reply)

    def next_id(self) -> int:
        return next(self._ids)

    def cancel(self, call: Call) -> None:
        """Tell the worker to stop; `call.reply` says when it has."""
        if not call.reply.done() and not call.cancelled:
            call.cancelled = True
            self._post(Cancel(id=call.id))

    def _call(self, request: Extract | Download | Select | StatsRequest, descriptor: int | None = None) -> Call:
        call = Call(request.id)
        if self.gone.is_set():
            call.take(_died(call.id))
            if descriptor is not None:
                os.close(descriptor)
            return call
        self._calls[call.id] = call
        call.reply.add_done_callback(lambda _: self._calls.pop(call.id, None))
        self._post(request, descriptor)
        return call

    def _track(self, call: Call, calls: set[Call]) -> None:
        if not call.reply.done():
            calls.add(call)
            call.reply.add_done_callback(lambda _: calls.discard(call))

    def _post(self, request: Request, descriptor: int | None = None) -> None:
        try:
            self._to_send.put_nowait((messages.encode(request), descriptor))
        except MessageTooLarge as error:
            if descriptor is not None:
                os.close(descriptor)
            raise InvalidParameter("The request is too large.") from error

    # The socket

    async def _send(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):  # the reader notices the end
            while True:
                frame, descriptor = await self._to_send.get()
                if descriptor is not None:
                    try:
                        frame = await _send_descriptor(sock, frame, descriptor)
                    finally:
                        os.close(descriptor)
                await loop.sock_sendall(sock, frame)
        self._drop_unsent()

    def _drop_unsent(self) -> None:
        while not self._to_send.empty():
            _, descriptor = self._to_send.get_nowait()
            if descriptor is not None:
                os.close(descriptor)

    async def _receive(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        frames = Frames()
        try:
            while data := await loop.sock_recv(sock, _RECEIVE_BYTES):
                for body in frames.feed(data):
                    self._take(messages.decode_reply(body))
        except ConnectionError:
            log.debug("The connection to worker %s broke", self.pid)
        except (MessageTooLarge, msgspec.DecodeError) as error:
            log.error("Worker %s said something that it should not: %s", self.pid, error)
        finally:
            self.kill()
            self._lose()

    def _take(self, reply: Reply) -> None:
        if isinstance(reply, Ready):
            if not self._ready.done():
                self._ready.set_result(reply)
        elif call := self._calls.get(reply.id):
            call.take(reply)
        elif isinstance(reply, Failed) and reply.id == 0 and not self._ready.done():
            self._ready.set_exception(messages.to_error(reply))

    def _lose(self) -> None:
        """Nothing more will come: every call gets its answer from here."""
        self.gone.set()
        for call in list(self._calls.values()):
            call.take(_died(call.id))
        if not self._ready.done():
            self._ready.set_exception(ExtractionFailed("The extraction process does not start."))
            self._ready.exception()  # somebody may wait for it, or nobody any more

    async def _end_process(self) -> None:
        if self._process is None:
            return
        if self._sock is not None and self._process.returncode is None:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            log.warning("Worker %s does not end by itself and is killed", self.pid)
        finally:
            self.kill()
        await self._process.wait()


async def _start_process(descriptor: int) -> asyncio.subprocess.Process:
    """In a session of its own: its children can be ended with it, and the terminal's Ctrl-C is not theirs."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "serverpy.ytdlp.main", str(descriptor)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        pass_fds=(descriptor,),
        env=_environment(),
        start_new_session=True,
    )


async def _whole(starting: Coroutine[Any, Any, asyncio.subprocess.Process]) -> asyncio.subprocess.Process:
    """Cancelling waits until there is a process that can be ended: half of one would be nobody's."""
    task = spawn(starting, name="start worker")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(OSError):
            process = await task
            process.kill()
            await process.wait()
        raise


async def _send_descriptor(sock: socket.socket, frame: bytes, descriptor: int) -> bytes:
    """Send the beginning of `frame` with `descriptor`; what is left of it."""
    while True:
        try:
            return frame[socket.send_fds(sock, [frame], [descriptor]) :]
        except BlockingIOError:
            await _writable(sock)


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(sock)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _environment() -> dict[str, str]:
    """The server's, without its settings (some are secrets, and the worker reads hostile pages), and with the place
    from which this package was imported."""
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("SERVERPY_")}
    paths = [str(Path(serverpy.__file__).parent.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment.setdefault("MALLOC_ARENA_MAX", "2")  # else each thread's heap keeps what its extractions once needed
    return environment


def _died(id_: int) -> Failed:
    return messages.failed(id_, ExtractionFailed("The extraction process ended unexpectedly."))
