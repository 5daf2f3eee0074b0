"""The server's side of the worker process: start it, talk to it, replace it.

`Worker` is one process. `Workers` is what the rest of the server uses: always one worker that takes new requests, and
for a while those it replaced, which finish what they run. An extraction that does not stop when it is told to (nothing
interrupts a regular expression but the end of its process) costs a worker its place, and nobody else their request.

    Workers ── Worker ══ socketpair ══ serverpy.ytdlp.main
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

import serverpy
from serverpy.errors import (
    Busy,
    ConfigurationError,
    Draining,
    ExtractionFailed,
    ExtractionTimeout,
    InvalidParameter,
    ServerPYError,
)
from serverpy.extraction import messages
from serverpy.extraction.info import Media, Track
from serverpy.extraction.messages import (
    Cancel,
    Configure,
    DownloadEnd,
    DownloadStarted,
    Extract,
    Extracted,
    Failed,
    Format,
    Frames,
    MessageTooLarge,
    RawGone,
    Ready,
    Reply,
    Request,
    Select,
    Selected,
    Stats,
    StatsRequest,
    WorkerOptions,
)
from serverpy.tasks import cancel, spawn

if TYPE_CHECKING:
    from serverpy.settings import Settings

log = logging.getLogger(__name__)

START_SECONDS = 60.0
CLOSE_SECONDS = 2.0
ANSWER_SECONDS = 10.0
_RECEIVE_BYTES = 256 * 1024

R = TypeVar("R", bound=Reply)


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
        self._directory: Path | None = None
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
        self._directory = Path(tempfile.mkdtemp(prefix="serverpy-"))
        self._sock, theirs = socket.socketpair()
        self._sock.setblocking(False)
        with theirs:
            self._process = await _whole(_start_process(theirs.fileno()))
        self._tasks = [
            spawn(self._receive(self._sock), name="worker replies"),
            spawn(self._send(self._sock), name="worker requests"),
        ]
        self._post(Configure(options=self.options, directory=str(self._directory)))
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
                shutil.rmtree(self._directory, ignore_errors=True)

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
        request = messages.Download(id=next(self._ids), raw_id=raw_id, item=item, track_id=track_id)
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

    def _call(
        self, request: Extract | messages.Download | Select | StatsRequest, descriptor: int | None = None
    ) -> Call:
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


def _expect(reply: Reply, kind: type[R]) -> R:
    """The reply as `kind`; raises the error that it carries instead."""
    if isinstance(reply, Failed):
        raise messages.to_error(reply)
    if not isinstance(reply, kind):
        raise ExtractionFailed("The extraction process gave an answer to another question.")
    return reply


# Replacement


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersLimits:
    """Seconds. `wait`: for a free extraction thread. `grace`: for a cancelled request to let go of its thread, before
    the worker is replaced. `retirement`: the longest that a replaced worker may finish what it runs; at most `retired`
    such workers are kept. `first_pause` and `longest_pause`: between starts of workers that die at once;
    a worker which lived for `healthy` starts the count anew."""

    wait: float = 15.0
    grace: float = 2.0
    retirement: float = 1800.0
    retired: int = 2
    first_pause: float = 0.2
    longest_pause: float = 10.0
    healthy: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersState:
    """For /health. `pids` begins with the worker that takes new requests; `stats` is its own account."""

    pids: tuple[int, ...] = ()
    extractions: int = 0
    downloads: int = 0
    waiting: int = 0
    restarts: int = 0
    ready: Ready | None = None
    stats: Stats | None = None


class Download:
    """An embedded download under way. Its owner awaits `wait` to the end, or calls `cancel`."""

    def __init__(self, workers: Workers, worker: Worker, call: Call) -> None:
        self._workers = workers
        self._worker = worker
        self._call = call

    async def wait(self) -> int:
        """The number of bytes written, when all are in the pipe. Raises a ServerPYError. Cancelling this does not
        cancel the download."""
        return _expect(await asyncio.shield(self._call.reply), DownloadEnd).bytes

    async def cancel(self) -> None:
        """Returns when the worker's thread has let go of the pipe, or after a short grace, when the worker is being
        replaced. Nothing happens if the download has ended."""
        await self._workers._stop(self._worker, self._call)


class Workers:
    """The worker that takes requests, and those it replaced. Between `start` and `aclose`, on one loop."""

    def __init__(self, options: WorkerOptions, limits: WorkersLimits = WorkersLimits()) -> None:
        self.options = options
        self._limits = limits
        self._worker: Worker | None = None
        self._retired: dict[Worker, asyncio.Task[None]] = {}
        self._all: set[Worker] = set()
        """Every worker that is not closed yet, whatever became of it."""
        self._renewal: asyncio.Task[Worker] | None = None
        self._line: deque[asyncio.Future[None]] = deque()
        self._stops: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._not_before = 0.0
        self.restarts = 0
        self._closed = False

    async def start(self) -> None:
        """Start the first worker. Raises ConfigurationError, or ExtractionFailed if it does not come up. Without it,
        the first request starts one."""
        await self._current()

    async def aclose(self) -> None:
        """End all workers and their children; requests under way fail. Within a few seconds."""
        self._closed = True
        for waiter in self._line:
            _settle(waiter)
        renewals = [self._renewal] if self._renewal else []
        for task in [*renewals, *self._stops, *self._retired.values()]:
            await cancel(task)
        self._worker = None
        self._retired.clear()
        await asyncio.gather(*(self._close(worker) for worker in list(self._all)))

    async def _close(self, worker: Worker) -> None:
        await worker.aclose()
        self._all.discard(worker)

    async def extract(self, url: str) -> Media:
        """Raises a ServerPYError: Busy if no thread becomes free in time, ExtractionTimeout after EXTRACT_TIMEOUT of
        work. Cancelling tells the worker."""
        worker = await self._free_worker()
        call = worker.extract(url)
        call.reply.add_done_callback(lambda _: self._wake())
        try:
            async with asyncio.timeout(self.options.extract_timeout):
                reply = await asyncio.shield(call.reply)
        except TimeoutError:
            raise ExtractionTimeout("The extraction took too long.") from None
        finally:
            if not call.reply.done():
                self._stop_soon(worker, call)
        return _expect(reply, Extracted).media

    async def select(self, media: Media, selector: str) -> tuple[tuple[str, ...], ...]:
        """The ids of the tracks that yt-dlp's selector picks from `media`: one tuple for each stream it asks for, more
        than one id for a merge. Raises InvalidParameter, FormatNotFound."""
        worker = await self._current()
        formats = tuple(format_of(track) for track in media.tracks)
        request = Select(id=worker.next_id(), selector=selector, formats=formats)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return _expect(await worker.ask(request), Selected).choices
        except TimeoutError:
            self._retire(worker)
            raise InvalidParameter("The format selector takes too long.") from None

    async def download(self, raw_id: str, item: int | None, track_id: str, write_fd: int) -> Download:
        """Have yt-dlp write a track into the pipe `write_fd`, which is taken over and closed here, whatever happens.
        Raises RawGone if the worker does not know `raw_id` (any more): extract again, with `fresh`."""
        with _closing(write_fd) as descriptor:
            worker = await self._current()
            call = worker.download(raw_id, item, track_id, descriptor.release())
        try:
            _expect(await asyncio.shield(call.started), DownloadStarted)
        finally:
            if not call.started.done():
                self._stop_soon(worker, call)
        return Download(self, worker, call)

    async def state(self) -> WorkersState:
        """What /health shows. Starts no worker, and waits no longer than a second for one."""
        workers = [worker for worker in (self._worker, *self._retired) if worker]
        return WorkersState(
            pids=tuple(worker.pid for worker in workers if worker.pid is not None),
            extractions=sum(len(worker.extractions) for worker in workers),
            downloads=sum(len(worker.downloads) for worker in workers),
            waiting=len(self._line),
            restarts=self.restarts,
            ready=self._worker.ready if self._worker else None,
            stats=await self._stats(),
        )

    async def _stats(self) -> Stats | None:
        worker = self._worker
        if worker is None or worker.gone.is_set():
            return None
        try:
            async with asyncio.timeout(1.0):
                return _expect(await worker.ask(StatsRequest(id=worker.next_id())), Stats)
        except (TimeoutError, ServerPYError):
            return None

    # A free thread

    async def _free_worker(self) -> Worker:
        """A worker with a free extraction thread, first come, first served. Raises Busy."""
        try:
            async with asyncio.timeout(self._limits.wait):
                if self._line:
                    await self._queue()
                while True:
                    worker = await self._current()
                    if len(worker.extractions) < self.options.extract_workers:
                        return worker
                    await self._queue(first=True)
        except TimeoutError:
            raise Busy("Every extraction thread is taken.") from None

    async def _queue(self, *, first: bool = False) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if first:
            self._line.appendleft(waiter)
        else:
            self._line.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # the turn was ours, and goes to the next
            raise
        finally:
            with suppress(ValueError):
                self._line.remove(waiter)

    def _wake(self) -> None:
        """A thread may be free: it is the next one's turn to look."""
        for waiter in self._line:
            if not waiter.done():
                waiter.set_result(None)
                return

    # Ending a request, and a worker that does not

    def _stop_soon(self, worker: Worker, call: Call) -> None:
        task = spawn(self._stop(worker, call), name=f"stop call {call.id}")
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)

    async def _stop(self, worker: Worker, call: Call) -> None:
        worker.cancel(call)
        await asyncio.wait([call.reply], timeout=self._limits.grace)
        if not call.reply.done():
            log.warning("A request does not let go of its thread: worker %s is replaced", worker.pid)
            self._retire(worker)

    def _retire(self, worker: Worker) -> None:
        """No new requests for `worker`; it ends when what it runs has ended."""
        if worker is self._worker:
            self._worker = None
        if worker in self._retired or self._closed:
            return
        while len(self._retired) >= self._limits.retired:
            oldest = next(iter(self._retired))
            self._retired.pop(oldest).cancel()
            oldest.kill()
        self._retired[worker] = spawn(self._see_off(worker), name=f"retired worker {worker.pid}")
        self._wake()

    async def _see_off(self, worker: Worker) -> None:
        try:
            async with asyncio.timeout(self._limits.retirement):
                while running := [call.reply for call in worker.calls if not call.cancelled]:
                    await asyncio.wait(running)
        except TimeoutError:
            log.warning("Worker %s was given %s s to finish, and is killed", worker.pid, self._limits.retirement)
        finally:
            worker.kill()
            self._retired.pop(worker, None)
            await self._close(worker)

    async def _current(self) -> Worker:
        """The worker that takes requests, started if there is none: once for all who wait, even if they leave.
        Raises ExtractionFailed, ConfigurationError, Draining."""
        if self._worker is not None and not self._worker.gone.is_set():
            return self._worker
        if self._closed:
            raise Draining("The server is stopping.")
        renewal = self._renewal
        if renewal is None:
            renewal = self._renewal = spawn(self._renew(), name="start worker")
            renewal.add_done_callback(self._renewed)
        await asyncio.wait([renewal])
        if renewal.cancelled():
            raise Draining("The server is stopping.")
        return renewal.result()

    async def _renew(self) -> Worker:
        if self._worker is not None:
            lost, self._worker = self._worker, None
            await self._bury(lost)
        await asyncio.sleep(self._not_before - time.monotonic())
        self._worker = await self._start_worker()
        return self._worker

    def _renewed(self, renewal: asyncio.Task[Worker]) -> None:
        self._renewal = None
        if not renewal.cancelled() and (error := renewal.exception()):
            log.error("No worker could be started: %s", error)

    async def _bury(self, lost: Worker) -> None:
        log.error("Worker %s has died and is replaced", lost.pid)
        self._count_failure(lost)
        await self._close(lost)

    def _count_failure(self, worker: Worker) -> None:
        """The pause before the next start doubles with each worker that did not live long."""
        now = time.monotonic()
        self.restarts += 1
        self._failures = 1 if now - worker.started_at > self._limits.healthy else self._failures + 1
        pause = min(self._limits.first_pause * 2 ** (self._failures - 1), self._limits.longest_pause)
        self._not_before = now + (pause if self._failures > 1 else 0.0)

    async def _start_worker(self) -> Worker:
        worker = Worker(self.options)
        self._all.add(worker)
        try:
            await worker.start()
        except BaseException as error:
            if isinstance(error, ExtractionFailed):
                self._count_failure(worker)
            worker.kill()
            await self._close(worker)
            if isinstance(error, ConfigurationError) and self.restarts:
                raise ExtractionFailed("The extraction process does not start.") from error
            raise
        spawn_watch = spawn(self._watch(worker), name=f"watch worker {worker.pid}")
        self._stops.add(spawn_watch)
        spawn_watch.add_done_callback(self._stops.discard)
        return worker

    async def _watch(self, worker: Worker) -> None:
        """A worker that dies is replaced at once, not by the next request."""
        await worker.gone.wait()
        if worker is self._worker and not self._closed:
            self._wake()
            with suppress(ServerPYError):
                await self._current()


class _Descriptor:
    """A file descriptor with one owner at a time."""

    def __init__(self, number: int) -> None:
        self._number: int | None = number

    def release(self) -> int:
        number, self._number = self._number, None
        assert number is not None
        return number

    def close(self) -> None:
        if self._number is not None:
            os.close(self.release())


@contextmanager
def _closing(number: int) -> Iterator[_Descriptor]:
    descriptor = _Descriptor(number)
    try:
        yield descriptor
    finally:
        descriptor.close()


def format_of(track: Track) -> Format:
    """What a selector may ask about `track`, in yt-dlp's words."""
    return Format(
        format_id=track.id,
        ext=track.ext,
        protocol=track.protocol,
        container=track.container,
        vcodec=_codec(track.vcodec),
        acodec=_codec(track.acodec),
        width=track.width,
        height=track.height,
        fps=track.fps,
        tbr=track.bitrate,
        filesize=track.size if track.size_exact else None,
        filesize_approx=None if track.size_exact else track.size,
        language=track.language,
        format_note=track.note,
    )


def _codec(name: str | None) -> str | None:
    return "none" if name is None else None if name == "unknown" else name


def worker_options(
    settings: Settings, *, own: tuple[tuple[str, int], ...] = (), plugin_paths: tuple[str, ...] = ()
) -> WorkerOptions:
    """The worker's part of the settings. `own` are the sockets that the server listens on."""
    return WorkerOptions(
        extract_workers=settings.extract_workers,
        max_workers=settings.max_workers,
        extract_timeout=settings.extract_timeout,
        stall_timeout=settings.stall_timeout,
        connect_timeout=settings.connect_timeout,
        chunk_bytes=settings.chunk_bytes,
        allow_networks=tuple(str(network) for network in settings.allow_networks),
        deny_ports=tuple(settings.deny_ports),
        own=own,
        allow_sites=tuple(settings.allow_sites),
        deny_sites=tuple(settings.deny_sites),
        generic_extractor=settings.generic_extractor,
        proxy=settings.proxy,
        cookies_file=_path(settings.cookies_file),
        impersonate=settings.impersonate,
        source_address=settings.source_address,
        ca_file=_path(settings.ca_file),
        plugin_paths=plugin_paths,
    )


def _path(path: Path | None) -> str | None:
    return str(path.absolute()) if path else None


__all__ = [
    "Download",
    "RawGone",
    "Worker",
    "WorkerOptions",
    "Workers",
    "WorkersLimits",
    "WorkersState",
    "worker_options",
]
