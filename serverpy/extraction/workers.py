"""The server's requests to its worker processes: extractions, selections, downloads.

    Workers ── WorkerPool ── Worker ══ socketpair ══ serverpy.ytdlp.main

Each request goes to the pool's current worker (`pool.py` chooses it, and replaces a worker that hangs), and ends with
the worker's answer or with a ServerPYError. Cancelling a request tells the worker to stop it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Literal, TypeVar

from serverpy.errors import Busy, ConfigurationError, ExtractionFailed, ExtractionTimeout, InvalidParameter
from serverpy.extraction.descriptors import closing
from serverpy.extraction.messages import (
    DownloadEnd,
    DownloadStarted,
    ErrorReply,
    Extracted,
    Ready,
    Reply,
    Selected,
    WorkerOptions,
    format_of,
    to_error,
)
from serverpy.extraction.pool import DEFAULT_LIMITS, SETTINGS_DO_NOT_WORK, WorkerPool, WorkersLimits
from serverpy.extraction.values import Media
from serverpy.extraction.waiting import WaitingQueue
from serverpy.extraction.worker import Call, Worker

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0

R = TypeVar("R", bound=Reply)

WorkerStatus = Literal["starting", "running", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersState:
    """The state of the workers, for `/health`. `pids` begins with the worker that takes new requests. `stopped` means
    that there is no worker (the last one was idle, or did not start) and that the next request starts a worker. `ready`
    is the message of the last worker that started."""

    status: WorkerStatus = "stopped"
    pids: tuple[int, ...] = ()
    extractions: int = 0
    downloads: int = 0
    waiting: int = 0
    restarts: int = 0
    ready: Ready | None = None


class Download:
    """An embedded download in progress. Its owner awaits `wait` to the end, or calls `cancel`."""

    def __init__(self, pool: WorkerPool, worker: Worker, call: Call) -> None:
        self._pool = pool
        self._worker = worker
        self._call = call

    async def wait(self) -> int:
        """Wait until all bytes are in the pipe, and return their number. Raises a ServerPYError if the download fails.
        Cancelling the wait does not cancel the download."""
        return _expect(await asyncio.shield(self._call.reply), DownloadEnd).bytes

    async def cancel(self) -> None:
        """Stop the download. Returns when the worker's thread has released the pipe, or after a grace period if the
        worker has to be replaced. Idempotent. Stops the download even if the caller is cancelled."""
        if not self._call.reply.done():
            await asyncio.wait([self._pool.stop_soon(self._worker, self._call)])


class Workers:
    """The requests to the worker processes, and the queue of the requests that wait for a thread. Valid between `start`
    and `aclose`, on one event loop."""

    def __init__(self, options: WorkerOptions, limits: WorkersLimits = DEFAULT_LIMITS) -> None:
        self.options = options
        self._queue = WaitingQueue()
        self._pool = WorkerPool(options, limits, self._queue.wake)

    async def start(self) -> None:
        """Start the first worker. Raises ConfigurationError if the worker rejects its settings, ExtractionFailed if the
        worker does not start. Optional: without this call, the first request starts a worker."""
        await self._pool.start()

    async def aclose(self) -> None:
        """End all workers and their children within a few seconds; requests in progress fail."""
        self._queue.wake_all()
        await self._pool.aclose()

    async def extract(self, url: str) -> Media:
        """Extract the page `url`. Raises Busy if no thread becomes free in time, ExtractionTimeout if the extraction
        takes more than EXTRACT_TIMEOUT seconds, and the errors of the extraction. If the caller is cancelled, the
        worker stops the extraction."""
        with self._pool.need():
            worker = await self._free_worker()
            call = worker.extract(url)
            call.reply.add_done_callback(lambda _: self._queue.wake())
            try:
                async with asyncio.timeout(self.options.timeouts.extract):
                    reply = await asyncio.shield(call.reply)
            except TimeoutError:
                raise ExtractionTimeout("The extraction took too long.") from None
            finally:
                if not call.reply.done():
                    self._pool.stop_soon(worker, call)
            return _expect(reply, Extracted).media

    async def select(self, media: Media, selector: str) -> tuple[tuple[str, ...], ...]:
        """Return the ids of the tracks that yt-dlp's selector picks from `media`: one tuple for each stream that the
        selector asks for, with more than one id for a merge. Raises InvalidParameter if the selector is invalid,
        FormatNotFound if no track matches the selector."""
        with self._pool.need():
            worker = await self._pool.get()
            formats = tuple(format_of(track) for track in media.tracks)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return _expect(await worker.select(selector, formats), Selected).choices
            except TimeoutError:
                self._pool.retire(worker)
                raise InvalidParameter("The format selector takes too long.") from None

    async def download(self, raw_id: str, track_id: str, write_fd: int) -> Download:
        """Have yt-dlp write a track into the pipe `write_fd`. This method owns `write_fd` and always closes it. Raises
        RawGone if the worker does not know `raw_id`; the caller must then extract again, with `fresh`."""
        with closing(write_fd) as descriptor, self._pool.need():
            worker = await self._pool.get()
            call = worker.download(raw_id, track_id, descriptor.release())
            call.reply.add_done_callback(lambda _: self._pool.note_need())
            try:
                _expect(await asyncio.shield(call.started), DownloadStarted)
            finally:
                if not call.started.done():
                    self._pool.stop_soon(worker, call)
            return Download(self._pool, worker, call)

    def state(self) -> WorkersState:
        pool, workers = self._pool, self._pool.workers
        return WorkersState(
            status="running" if pool.current else "starting" if pool.is_starting else "stopped",
            pids=tuple(worker.pid for worker in workers if worker.pid is not None),
            extractions=sum(len(worker.extractions) for worker in workers),
            downloads=sum(len(worker.downloads) for worker in workers),
            waiting=len(self._queue),
            restarts=pool.restarts,
            ready=pool.ready,
        )

    # A free thread

    async def _free_worker(self) -> Worker:
        """Return a worker with a free extraction thread; requests are served in the order of their arrival. Raises Busy
        if no thread becomes free in time."""
        try:
            async with asyncio.timeout(self.options.timeouts.wait):
                if self._queue:
                    await self._queue.wait()
                while True:
                    worker = await self._current_in_turn()
                    free = self.options.limits.extract_workers - len(worker.extractions)
                    if free > 0:
                        if free > 1:
                            self._queue.wake()  # a new worker has several free threads at once
                        return worker
                    await self._queue.wait(first=True)
        except TimeoutError:
            raise Busy("All extraction threads are busy. Try again later.") from None

    async def _current_in_turn(self) -> Worker:
        """Return the current worker. If there is none, pass the turn on, because no other event may wake the rest of
        the queue."""
        try:
            return await self._pool.get()
        except BaseException:
            self._queue.wake()
            raise


def _expect(reply: Reply, kind: type[R]) -> R:
    """Return `reply` if its type is `kind`. Raises the worker's error if `reply` is an `ErrorReply`, and
    ExtractionFailed if it has another type."""
    if isinstance(reply, ErrorReply):
        error = to_error(reply)
        if isinstance(error, ConfigurationError):
            log.error("The worker rejected its settings: %s", error)
            raise ExtractionFailed(SETTINGS_DO_NOT_WORK) from error
        raise error
    if not isinstance(reply, kind):
        raise ExtractionFailed("The extraction process sent an unexpected reply type.")
    return reply
