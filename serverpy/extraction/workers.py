"""The pool of workers, which is what the rest of the server uses: always one that takes new requests, and for a while
those it replaced, which finish what they run.

An extraction that does not stop when it is told to (nothing interrupts a regular expression but the end of its process)
costs a worker its place, and nobody else their request. A worker that has had nothing to do for a while is let go; the
next need starts another.

    Workers ── Worker ══ socketpair ══ serverpy.ytdlp.main
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, TypeVar

from serverpy.errors import (
    Busy,
    ConfigurationError,
    Draining,
    ExtractionFailed,
    ExtractionTimeout,
    InvalidParameter,
    ServerPYError,
)
from serverpy.extraction.descriptors import closing
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
from serverpy.extraction.values import Media
from serverpy.extraction.waiting import WaitingQueue
from serverpy.extraction.worker import Call, Worker
from serverpy.tasks import cancel, spawn

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
SETTINGS_DO_NOT_WORK = "The server's settings do not work: its log says more."

R = TypeVar("R", bound=Reply)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersLimits:
    """Seconds. `grace`: for a cancelled request to let go of its thread, before the worker is replaced. `retirement`:
    the longest that a replaced worker may finish what it runs; at most `retired` such workers are kept. `first_pause`
    and `longest_pause`: between starts of workers that die at once; a worker that lived for `healthy` starts the count
    anew. `idle`: how long a worker is kept that nobody needs; None is for ever."""

    grace: float = 2.0
    retirement: float = 1800.0
    retired: int = 2
    first_pause: float = 0.2
    longest_pause: float = 10.0
    healthy: float = 30.0
    idle: float | None = None


WorkerStatus = Literal["starting", "running", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersState:
    """For /health. `pids` begins with the worker that takes new requests. `stopped` says that there is none (it was let
    go, or does not start): the next need starts one. `ready` is what the last that started had to say."""

    status: WorkerStatus = "stopped"
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
        self._line = WaitingQueue()
        self._stops: set[asyncio.Task[None]] = set()
        self._needs = 0
        """Requests that want a worker, or have asked one and wait."""
        self._last_need = 0.0
        self._ready: Ready | None = None
        """What the last worker that came up had to say. That there was one: the settings work."""
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
        self._line.wake_all()
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
        with self._need():
            worker = await self._free_worker()
            call = worker.extract(url)
            call.reply.add_done_callback(lambda _: self._line.wake())
            try:
                async with asyncio.timeout(self.options.timeouts.extract):
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
        with self._need():
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
        with closing(write_fd) as descriptor, self._need():
            worker = await self._current()
            call = worker.download(raw_id, item, track_id, descriptor.release())
            call.reply.add_done_callback(lambda _: self._note_need())
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
            status="running" if self._worker else "starting" if self._renewal else "stopped",
            pids=tuple(worker.pid for worker in workers if worker.pid is not None),
            extractions=sum(len(worker.extractions) for worker in workers),
            downloads=sum(len(worker.downloads) for worker in workers),
            waiting=len(self._line),
            restarts=self.restarts,
            ready=self._ready,
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
            async with asyncio.timeout(self.options.timeouts.wait):
                if self._line:
                    await self._line.wait()
                while True:
                    worker = await self._current_in_turn()
                    free = self.options.limits.extract_workers - len(worker.extractions)
                    if free > 0:
                        if free > 1:
                            self._line.wake()  # a new worker has several at once
                        return worker
                    await self._line.wait(first=True)
        except TimeoutError:
            raise Busy("Every extraction thread is taken.") from None

    async def _current_in_turn(self) -> Worker:
        """Whoever was woken and gets none passes the turn on: nobody else may be left to do so."""
        try:
            return await self._current()
        except BaseException:
            self._line.wake()
            raise

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
        self._line.wake()

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

    # A worker that nobody needs

    @contextmanager
    def _need(self) -> Iterator[None]:
        """Within, no worker is let go: whoever was given one finds it there."""
        self._needs += 1
        try:
            yield
        finally:
            self._needs -= 1
            self._note_need()

    def _note_need(self) -> None:
        self._last_need = time.monotonic()

    def _idle_left(self, worker: Worker) -> float | None:
        """In how many seconds `worker` may have been idle for long enough; None if that is never looked at."""
        idle = self._limits.idle
        if idle is None or worker is not self._worker:
            return None
        return idle if self._needs or worker.calls else self._last_need + idle - time.monotonic()

    async def _let_go(self, worker: Worker) -> None:
        """It takes no more requests from here on: who comes while it ends gets another."""
        self._worker = None
        log.info("Worker %s has had nothing to do for a while and is ended", worker.pid)
        await self._close(worker)

    # The worker that takes requests

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
        self._worker = worker = await self._start_worker()
        self._ready = worker.ready
        self._note_need()
        self._keep(spawn(self._watch(worker), name=f"watch worker {worker.pid}"))
        return worker

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
            if isinstance(error, ConfigurationError) and self._ready is None:
                self._refused = error.detail
            raise
        return worker

    async def _watch(self, worker: Worker) -> None:
        """A worker that dies is replaced at once, not by the next request; one that is idle for too long is let go."""
        while not worker.gone.is_set():
            left = self._idle_left(worker)
            if left is not None and left <= 0:
                await self._let_go(worker)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await worker.gone.wait()
        if worker is self._worker and not self._closed:
            self._line.wake()
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
