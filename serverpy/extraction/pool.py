"""The pool of the yt-dlp processes of one role: at most one worker takes new requests, and the other workers finish the
requests that they have.

The states of a worker, and what changes them:

    starting ──▶ current ──▶ retired ──▶ closed
        └───────────┴───────────────────────▲

- starting: the task `_renew` starts the worker for all requests that wait, and continues even if they are cancelled. If
the start fails, these requests get the error, the worker is closed, and the next request starts another worker, after a
pause that doubles with each worker that dies soon after its start. - current: every new request goes to this worker.
`_watch` waits for two events that need no request: the process dies (the worker is closed and, if the pool `is_kept`,
replaced immediately; `worker.py` has already ended its requests with an error), or no request has needed the worker for
`idle` seconds (the worker is closed; the next request starts another). - retired (`retire`): a cancelled request did
not release its thread in time. Only the end of the process interrupts a regular expression, so one such request retires
the worker but does not harm the other requests: they finish on the retired worker, while a new worker starts for new
requests. If the worker is frozen, it is killed, and its requests fail with `WorkerLost`. `_finish` kills the retired
worker when these requests have ended, after `retirement` seconds, or to make room for another retired worker. A worker
that stops answering while it extracts (`replace`) is killed immediately. - closed: the process is reaped and its
directory removed. `_all` holds every worker that is not closed yet, so that `aclose` finds workers that are between two
states, too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from serverpy.errors import ConfigurationError, Draining, ExtractionFailed, ServerPYError, shortage
from serverpy.extraction.messages import Ready, Role, WorkerOptions
from serverpy.extraction.worker import Call, Worker
from serverpy.tasks import cancel, spawn

log = logging.getLogger(__name__)

SETTINGS_DO_NOT_WORK = "The server is misconfigured: see its log."


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersLimits:
    """The time limits of workers, in seconds. `grace`: how long a cancelled request may take to release its thread
    before the worker is replaced. `answer`: how long a replaced worker may take to answer before it counts as frozen
    and is killed. `frozen`: how long a worker that extracts pages may take to answer before it counts as frozen.
    `retirement`: how long a replaced worker may take to finish its requests; the pool keeps at most `retired` replaced
    workers. `first_pause` and `longest_pause`: the pause between starts of workers that die soon after their start; a
    worker that lived for `healthy` seconds resets the pause. `idle`: how long an unused worker is kept; None means for
    ever."""

    grace: float = 2.0
    answer: float = 5.0
    frozen: float = 2.0
    retirement: float = 1800.0
    retired: int = 2
    first_pause: float = 0.2
    longest_pause: float = 10.0
    healthy: float = 30.0
    idle: float | None = None


DEFAULT_LIMITS = WorkersLimits()


class WorkerPool:
    """The pool of the yt-dlp processes of one role: the current worker and the retired workers. Belongs to one event
    loop; its owner must call `aclose`. `is_kept`: whether a worker that dies is replaced before a request needs it."""

    def __init__(
        self, options: WorkerOptions, limits: WorkersLimits = DEFAULT_LIMITS, *, role: Role, is_kept: bool = False
    ) -> None:
        self._options = options
        self._limits = limits
        self._role = role
        self._is_kept = is_kept
        self._current: Worker | None = None
        self._retired: dict[Worker, asyncio.Task[None]] = {}
        self._all: set[Worker] = set()
        self._renewal: asyncio.Task[Worker] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._needs = 0
        """Number of requests that wait for a worker or for its reply."""
        self._last_need = 0.0
        self._refused: str | None = None
        """The error text if the first worker rejected its settings, otherwise None. If it is set, the pool starts no
        further worker. If a worker rejects its settings after an earlier worker was ready (the file COOKIES_FILE may
        have changed), the pool retries the start after a pause."""
        self._failures = 0
        self._not_before = 0.0
        self._closed = False
        self.restarts = 0
        self.is_failing = False
        """Whether the last attempt to start a worker has failed."""
        self.ready: Ready | None = None
        """The `Ready` message of the last worker that started, or None if no worker has started. The message shows that
        the settings work."""

    @property
    def current(self) -> Worker | None:
        return self._current

    @property
    def workers(self) -> list[Worker]:
        """The current worker, if there is one, followed by the retired workers."""
        return [worker for worker in (self._current, *self._retired) if worker]

    @property
    def is_starting(self) -> bool:
        return self._renewal is not None

    def holder_of(self, raw_id: str) -> Worker | None:
        """Return the worker that has made the extraction `raw_id`. Returns None if that worker no longer runs."""
        tag = raw_id.partition("-")[0]
        return next((each for each in self.workers if each.ready and each.ready.tag == tag), None)

    async def aclose(self) -> None:
        """Stop all workers and their child processes within a few seconds. Requests in progress fail. Idempotent."""
        self._closed = True
        renewals = [self._renewal] if self._renewal else []
        for task in [*renewals, *self._tasks, *self._retired.values()]:
            await cancel(task)
        self._current = None
        self._retired.clear()
        await asyncio.gather(*(self._close(worker) for worker in list(self._all)))

    async def _close(self, worker: Worker) -> None:
        await worker.aclose()
        self._all.discard(worker)

    # Methods that start a worker

    async def get(self) -> Worker:
        """Return the current worker; if there is none, start a worker and return it. Raises `ExtractionFailed` if no
        worker starts; unlike the error that `start` raises, this error does not show the client which setting is
        wrong. Raises `Draining` if the pool is closed."""
        try:
            return await self.start()
        except ConfigurationError as error:
            raise ExtractionFailed(SETTINGS_DO_NOT_WORK) from error

    async def start(self) -> Worker:
        """Return the current worker, or start a worker if there is none. Raises `ConfigurationError` if the worker
        rejects its settings, `ExtractionFailed` if the worker does not start, and `Draining` if the pool is closed."""
        if self._current is not None and not self._current.gone.is_set():
            return self._current
        if self._closed:
            raise Draining("This server is stopping. Try again later.")
        if self._refused is not None:
            raise ConfigurationError(self._refused)
        renewal = self._renewal
        if renewal is None:
            renewal = self._renewal = spawn(self._renew(), name="start worker")
            renewal.add_done_callback(self._renewed)
        await asyncio.wait([renewal])
        if renewal.cancelled():
            raise Draining("This server is stopping. Try again later.")
        return renewal.result()

    async def _renew(self) -> Worker:
        if self._current is not None:
            lost, self._current = self._current, None
            await self._bury(lost)
        await asyncio.sleep(self._not_before - time.monotonic())
        self._current = worker = await self._start_worker()
        self.ready = worker.ready
        self.note_need()
        self._keep(spawn(self._watch(worker), name=f"watch worker {worker.pid}"))
        return worker

    def _renewed(self, renewal: asyncio.Task[Worker]) -> None:
        self._renewal = None
        self.is_failing = not renewal.cancelled() and renewal.exception() is not None
        if not renewal.cancelled() and (error := renewal.exception()):
            log.error("The worker process, which runs yt-dlp, could not be started: %s", error)

    async def _bury(self, lost: Worker) -> None:
        log.error("The worker process %s (%s) has died", lost.pid, self._role)
        self._count_failure(lost)
        await self._close(lost)

    def _count_failure(self, worker: Worker) -> None:
        now = time.monotonic()
        self.restarts += 1
        self._failures = 1 if now - worker.started_at > self._limits.healthy else self._failures + 1
        pause = min(self._limits.first_pause * 2 ** (self._failures - 1), self._limits.longest_pause)
        self._not_before = now + (pause if self._failures > 1 else 0.0)

    async def _start_worker(self) -> Worker:
        worker = Worker(self._options, self._role)
        self._all.add(worker)
        try:
            await worker.start()
        except BaseException as error:
            if isinstance(error, ServerPYError | OSError):
                self._count_failure(worker)
            worker.kill()
            await self._close(worker)
            if isinstance(error, OSError):  # for example, no file descriptor or disk space is left
                raise shortage(error) or ExtractionFailed(
                    "The extraction process, which runs yt-dlp, cannot be started. Try again later."
                ) from error
            if isinstance(error, ConfigurationError) and self.ready is None:
                self._refused = error.detail
            raise
        return worker

    # Methods that decide whether the current worker is needed, dead or idle

    @contextmanager
    def need(self) -> Iterator[None]:
        """Keep the pool from closing the current worker as idle while the block runs."""
        self._needs += 1
        try:
            yield
        finally:
            self._needs -= 1
            self.note_need()

    def note_need(self) -> None:
        """Restart the idle timeout of the current worker."""
        self._last_need = time.monotonic()

    async def _watch(self, worker: Worker) -> None:
        while not worker.gone.is_set():
            left = self._idle_left(worker)
            if left is not None and left <= 0:
                await self._close_idle(worker)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await worker.gone.wait()
        if worker is self._current and not self._closed:
            if self._is_kept:
                with suppress(ServerPYError):
                    await self.get()
            else:
                self._current = None
                await self._bury(worker)

    def _idle_left(self, worker: Worker) -> float | None:
        """Return the number of seconds until the idle timeout of `worker` may expire. Returns None if the pool has no
        idle timeout, or if `worker` is not the current worker."""
        idle = self._limits.idle
        if idle is None or worker is not self._current:
            return None
        return idle if self._needs or worker.calls else self._last_need + idle - time.monotonic()

    async def _close_idle(self, worker: Worker) -> None:
        self._current = None  # while this worker ends, new requests are sent to another worker
        log.info("Worker process %s was idle and is stopped; the next request starts another", worker.pid)
        await self._close(worker)

    # Methods that stop a request, and the worker if the request does not stop

    def stop_soon(self, worker: Worker, call: Call) -> asyncio.Task[None]:
        """Cancel `call`, and retire `worker` if the call does not release its thread within `grace` seconds. The pool
        keeps the returned task running even if the caller stops waiting for it."""
        return self._keep(spawn(self._stop(worker, call), name=f"stop call {call.id}"))

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Keep a reference to `task` until it ends, so that `aclose` can cancel it. Returns `task`."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _stop(self, worker: Worker, call: Call) -> None:
        worker.cancel(call)
        await asyncio.wait([call.reply], timeout=self._limits.grace)
        if not call.reply.done():
            log.warning(
                "A cancelled request does not release its thread; the server replaces the worker process %s", worker.pid
            )
            self.retire(worker)
            # Kill the worker if every request is cancelled, so that nobody waits for it, or if it is frozen and will
            # never reply.
            if all(each.cancelled for each in worker.calls) or not await worker.answers(self._limits.answer):
                worker.kill()

    def replace(self, worker: Worker) -> None:
        """Kill `worker`, because it is frozen. Its requests then fail with `WorkerLost`. If the pool `is_kept`, start
        another worker immediately. Idempotent."""
        if worker is self._current and self._is_kept:
            self._keep(spawn(self._restart(), name=f"replace worker {worker.pid}"))
        self.retire(worker)
        worker.kill()

    async def _restart(self) -> None:
        with suppress(ServerPYError):
            await self.get()

    def retire(self, worker: Worker) -> None:
        """Stop sending requests to `worker`, and close `worker` when its present requests have ended. Idempotent."""
        if worker is self._current:
            self._current = None
        if worker in self._retired or self._closed:
            return
        while len(self._retired) >= self._limits.retired:
            oldest = next(iter(self._retired))
            self._retired.pop(oldest).cancel()
            oldest.kill()
        self._retired[worker] = spawn(self._finish(worker), name=f"retired worker {worker.pid}")

    async def _finish(self, worker: Worker) -> None:
        try:
            async with asyncio.timeout(self._limits.retirement):
                while running := [call.reply for call in worker.calls if not call.cancelled]:
                    await asyncio.wait(running)
        except TimeoutError:
            log.warning(
                "The replaced worker process %s still runs a request after %s s and is killed",
                worker.pid,
                self._limits.retirement,
            )
        finally:
            worker.kill()
            self._retired.pop(worker, None)
            await self._close(worker)
