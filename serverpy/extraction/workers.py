"""The pool of workers, which is what the rest of the server uses: always one that takes new requests, and for a while
those it replaced, which finish what they run.

An extraction that does not stop when it is told to (nothing interrupts a regular expression but the end of its process)
costs a worker its place, and nobody else their request.

    Workers ── Worker ══ socketpair ══ serverpy.ytdlp.main
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from serverpy.errors import (
    Busy,
    ConfigurationError,
    Draining,
    ExtractionFailed,
    ExtractionTimeout,
    InvalidParameter,
    ServerPYError,
)
from serverpy.extraction.info import Media
from serverpy.extraction.messages import (
    DownloadEnd,
    DownloadStarted,
    Extracted,
    Failed,
    Ready,
    Reply,
    Select,
    Selected,
    Stats,
    StatsRequest,
    WorkerOptions,
    format_of,
    to_error,
)
from serverpy.extraction.worker import Call, Worker
from serverpy.tasks import cancel, spawn

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
SETTINGS_DO_NOT_WORK = "The server's settings do not work: its log says more."

R = TypeVar("R", bound=Reply)


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
    """For /health. `pids` begins with the worker that takes new requests."""

    pids: tuple[int, ...] = ()
    extractions: int = 0
    downloads: int = 0
    waiting: int = 0
    restarts: int = 0
    ready: Ready | None = None


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
        replaced. Nothing happens if the download has ended. The stopping is `Workers`' own: whoever gives up waiting
        here does not end it."""
        if not self._call.reply.done():
            await asyncio.wait([self._workers._stop_soon(self._worker, self._call)])


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
        self._settings_work = False
        """A worker has come up with them."""
        self._refused: str | None = None
        """Why none ever will. What a worker refuses later (COOKIES_FILE may change) is tried again, with pauses."""
        self._failures = 0
        self._not_before = 0.0
        self.restarts = 0
        self._closed = False

    async def start(self) -> None:
        """Start the first worker. Raises ConfigurationError, or ExtractionFailed if it does not come up. Without it,
        the first request starts one."""
        await self._running()

    async def aclose(self) -> None:
        """End all workers and their children; requests under way fail. Within a few seconds."""
        self._closed = True
        for waiter in self._line:
            if not waiter.done():
                waiter.set_result(None)
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

    def state(self) -> WorkersState:
        """What /health shows."""
        workers = [worker for worker in (self._worker, *self._retired) if worker]
        return WorkersState(
            pids=tuple(worker.pid for worker in workers if worker.pid is not None),
            extractions=sum(len(worker.extractions) for worker in workers),
            downloads=sum(len(worker.downloads) for worker in workers),
            waiting=len(self._line),
            restarts=self.restarts,
            ready=self._worker.ready if self._worker else None,
        )

    async def stats(self) -> Stats | None:
        """The worker's own account. Starts no worker, and waits no longer than a second for one."""
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

    def _stop_soon(self, worker: Worker, call: Call) -> asyncio.Task[None]:
        return self._keep(spawn(self._stop(worker, call), name=f"stop call {call.id}"))

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Until it ends; `aclose` cancels it."""
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)
        return task

    async def _stop(self, worker: Worker, call: Call) -> None:
        worker.cancel(call)
        await asyncio.wait([call.reply], timeout=self._limits.grace)
        if not call.reply.done():
            log.warning("A request does not let go of its thread: worker %s is replaced", worker.pid)
            self._retire(worker)
            if all(each.cancelled for each in worker.calls):
                worker.kill()  # nobody waits for anything that a retired worker still does

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
        """As `_running`, for a request: what is wrong with the settings is not the client's to know. Raises
        ExtractionFailed, Draining."""
        try:
            return await self._running()
        except ConfigurationError as error:
            raise ExtractionFailed(SETTINGS_DO_NOT_WORK) from error

    async def _running(self) -> Worker:
        """The worker that takes requests, started if there is none: once for all who wait, even if they leave. Once
        the settings were refused, no other is started. Raises ExtractionFailed, ConfigurationError, Draining."""
        if self._worker is not None and not self._worker.gone.is_set():
            return self._worker
        if self._closed:
            raise Draining("The server is stopping.")
        if self._refused is not None:
            raise ConfigurationError(self._refused)
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
            if isinstance(error, ServerPYError):
                self._count_failure(worker)
            worker.kill()
            await self._close(worker)
            if isinstance(error, ConfigurationError) and not self._settings_work:
                self._refused = error.detail
            raise
        self._settings_work = True
        self._keep(spawn(self._watch(worker), name=f"watch worker {worker.pid}"))
        return worker

    async def _watch(self, worker: Worker) -> None:
        """A worker that dies is replaced at once, not by the next request."""
        await worker.gone.wait()
        if worker is self._worker and not self._closed:
            self._wake()
            with suppress(ServerPYError):
                await self._current()


def _expect(reply: Reply, kind: type[R]) -> R:
    """The reply as `kind`; raises the error that it carries instead."""
    if isinstance(reply, Failed):
        error = to_error(reply)
        if isinstance(error, ConfigurationError):
            log.error("The worker cannot work with its settings: %s", error)
            raise ExtractionFailed(SETTINGS_DO_NOT_WORK) from error
        raise error
    if not isinstance(reply, kind):
        raise ExtractionFailed("The extraction process gave an answer to another question.")
    return reply


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
