"""The server's requests to its worker processes: extractions, applications of a format selector, and downloads.

    Workers ── WorkerPool ── Worker ══ socketpair ══ serverpy.ytdlp.main

Each request goes to the pool's current worker (`pool.py` chooses it, and replaces a worker that hangs), and ends with
the worker's reply or with a `ServerPYError`. Cancelling a request tells the worker to stop it.
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
    """The state of the worker processes, for `/health`. `pids` begins with the process ID of the worker that takes new
    requests. `stopped` means that no worker runs, because the last worker was idle or did not start; the next request
    then starts a worker. `ready` is the `Ready` message of the last worker that started, or None."""

    status: WorkerStatus = "stopped"
    pids: tuple[int, ...] = ()
    extractions: int = 0
    downloads: int = 0
    waiting: int = 0
    restarts: int = 0
    ready: Ready | None = None


class Download:
    """An embedded download in progress. Its owner must await `wait` to the end, or call `cancel`."""

    def __init__(self, pool: WorkerPool, worker: Worker, call: Call) -> None:
        self._pool = pool
        self._worker = worker
        self._call = call

    async def wait(self) -> int:
        """Wait until all bytes are in the pipe, and return the number of bytes. Raises a `ServerPYError` if the
        download fails. If the caller is cancelled, the download continues."""
        return _expect(await asyncio.shield(self._call.reply), DownloadEnd).bytes

    async def cancel(self) -> None:
        """Stop the download. Returns when the worker's thread has released the pipe or, if it does not do so, after a
        grace period; the pool then replaces the worker. The download stops even if the caller is cancelled.
        Idempotent."""
        if not self._call.reply.done():
            await asyncio.wait([self._pool.stop_soon(self._worker, self._call)])


class Workers:
    """The requests to the worker processes, and the queue of the requests that wait for a thread. Belongs to one event
    loop."""

    def __init__(self, options: WorkerOptions, limits: WorkersLimits = DEFAULT_LIMITS) -> None:
        self.options = options
        self._queue = WaitingQueue()
        self._pool = WorkerPool(options, limits, self._queue.wake)

    async def start(self) -> None:
        """Start the first worker. Raises `ConfigurationError` if the worker rejects its settings, and
        `ExtractionFailed` if the worker does not start. The call is optional: without it, the first request starts the
        worker."""
        await self._pool.start()

    async def aclose(self) -> None:
        """Stop all workers and their child processes within a few seconds. Requests in progress fail."""
        self._queue.wake_all()
        await self._pool.aclose()

    async def extract(self, url: str) -> Media:
        """Extract the page `url`. Raises `Busy` if no thread becomes free in time, `ExtractionTimeout` if the
        extraction takes longer than EXTRACT_TIMEOUT, and the worker's error if the extraction fails. If the caller is
        cancelled, the worker stops the extraction."""
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
        selector asks for, with more than one id for a merge. Raises `InvalidParameter` if the selector is invalid, and
        `FormatNotFound` if no track matches the selector."""
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
        `RawGone` if the worker does not have the extraction `raw_id`; the caller must then extract the page again, with
        `fresh=True`."""
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

    # Methods that find a worker with a free thread

    async def _free_worker(self) -> Worker:
        """Return a worker with a free extraction thread; waiting requests get a thread in the order of their arrival.
        Raises `Busy` if no thread becomes free in time."""
        try:
            async with asyncio.timeout(self.options.timeouts.wait):
                if self._queue:
                    await self._queue.wait()
                while True:
                    worker = await self._current_in_turn()
                    free = self.options.limits.extract_workers - len(worker.extractions)
                    if free > 0:
                        if free > 1:
                            # the next waiting request may also find a free thread, because a new worker has several
                            self._queue.wake()
                        return worker
                    await self._queue.wait(first=True)
        except TimeoutError:
            raise Busy("All extraction threads are busy. Try again later.") from None

    async def _current_in_turn(self) -> Worker:
        """Return the current worker, or start a worker. If that fails, wake the next waiting request, because perhaps
        no other event will wake the queue."""
        try:
            return await self._pool.get()
        except BaseException:
            self._queue.wake()
            raise


def _expect(reply: Reply, kind: type[R]) -> R:
    """Return `reply` if its type is `kind`. Raises the worker's error if `reply` is an `ErrorReply`, and
    `ExtractionFailed` if its type is any other."""
    if isinstance(reply, ErrorReply):
        error = to_error(reply)
        if isinstance(error, ConfigurationError):
            log.error("The worker process rejected a setting: %s", error)
            raise ExtractionFailed(SETTINGS_DO_NOT_WORK) from error
        raise error
    if not isinstance(reply, kind):
        raise ExtractionFailed("The extraction process sent an unexpected reply type.")
    return reply
