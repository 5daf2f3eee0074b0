"""Helpers for asyncio tasks (to start, cancel, limit and interrupt them) and for threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from serverpy.errors import ServerPYError, UpstreamFailed

T = TypeVar("T")

LOOKS = 4
"""Number of times that a `Stall` with `progress` checks the progress of a step within its time limit."""

START_SECONDS = 5.0
"""Maximum number of seconds that a thread may take to start."""


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait until it has ended. Does not raise the exception of the task."""
    task.cancel()
    await asyncio.wait([task])


class Stall:
    """A context manager that limits the duration of each step in its block. A step lasts from `begin` to `end`. If a
    step takes longer than `seconds`, the block is cancelled, and the context manager raises `TimeoutError`.

    With `progress`, a step may last any time if the number that `progress` returns keeps changing: the block is
    cancelled if the number stays the same for `seconds`, with a delay of at most a quarter of `seconds`. All steps
    share one timer; `asyncio.timeout` would need one for each step."""

    def __init__(self, seconds: float, progress: Callable[[], int] | None = None) -> None:
        self._seconds = seconds
        self._progress = progress
        self._look_seconds = seconds if progress is None else seconds / LOOKS
        self._seen: int | None = None
        self._moved = 0.0
        self._begun: float | None = None
        self._expired = False
        self._over = False

    def begin(self) -> None:
        self._begun = self._loop.time()

    def end(self) -> None:
        self._begun = None

    def expire(self) -> None:
        """End the block as if a step had taken too long. Does nothing after the end of the block."""
        if not (self._expired or self._over):
            self._expired = True
            self._task.cancel()

    def __enter__(self) -> Stall:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._look_seconds, self._look)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _where: object) -> None:
        self._timer.cancel()
        self._over = True
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError("a step of this block took too long") from error

    def _look(self) -> None:
        """End the block if the current step has taken too long. Otherwise schedule the next check: for the time at
        which the step would have taken too long or, with `progress`, after at most a quarter of the time limit."""
        now, waited = self._loop.time(), 0.0
        if self._begun is not None:
            waited = now - max(self._begun, self._last_move(now))
        if waited >= self._seconds:
            self.expire()
        else:
            self._timer = self._loop.call_later(min(self._seconds - waited, self._look_seconds), self._look)

    def _last_move(self, now: float) -> float:
        """Call `progress`, and return the time of the last call that returned a new number. Returns 0 without
        `progress`."""
        seen = None if self._progress is None else self._progress()
        if seen != self._seen:
            self._seen, self._moved = seen, now
        return self._moved


def spawn(coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Start `coroutine` as a task named `name`. The caller must keep a reference to the task, and await or cancel
    it."""
    return asyncio.get_running_loop().create_task(coroutine, name=name)


class Closing:
    """An asynchronous function that closes a resource. Idempotent: the first call runs `close` in a task of its own,
    and every call waits for that task. If a caller is cancelled, it stops waiting, but the task continues, so `close`
    must limit its own time."""

    def __init__(self, close: Callable[[], Coroutine[None, None, None]], name: str) -> None:
        self._close = close
        self._name = name
        self._task: asyncio.Task[None] | None = None

    @property
    def is_begun(self) -> bool:
        return self._task is not None

    async def __call__(self) -> None:
        if self._task is None:
            self._task = spawn(self._close(), name=self._name)
        await asyncio.shield(self._task)


class Unlosable:
    """A mixin for bodies that cannot be lost between two reads (`body.py::Body.loss`)."""

    loss: ServerPYError | None = None

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Do nothing: the body cannot be lost between two reads, so `tell` is never called."""


class Interruptible:
    """A wrapper for the reads of a stream, one at a time, which lets the closing of the stream interrupt a read. For
    the stream, an interrupted read is the same as a cancelled read."""

    def __init__(self) -> None:
        self._reader: asyncio.Task[Any] | None = None
        self._interrupted = False
        self._over = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, read: Coroutine[Any, Any, T]) -> T:
        """Await `read`, and return its result. Raises `UpstreamFailed` if `interrupt` is called before the read
        ends."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(self._loop)  # without its argument, `current_task` would search for the loop
        assert task is not None
        cancelling, self._reader = task.cancelling(), task
        try:
            return await read
        except asyncio.CancelledError:
            if self._interrupted and task.cancelling() == cancelling + 1:
                raise UpstreamFailed("The stream was closed while it was being read.") from None
            raise
        finally:
            self._reader = None
            if self._interrupted:
                task.uncancel()
                self._over.set()

    async def interrupt(self) -> None:
        """Interrupt the read in progress, if there is one, and wait until it has ended. The caller must start no read
        afterwards. Idempotent."""
        if self._reader is None:
            return
        if not self._interrupted:
            self._interrupted = True
            self._reader.cancel()
        await self._over.wait()


async def in_thread(work: Callable[[], T], *, name: str) -> T:
    """Run `work` in a thread, and return its result. Raises the error of `work` if `work` fails. If the caller is
    cancelled, this call still waits until `work` has ended: a thread cannot be cancelled, and after the call the caller
    may close resources that `work` uses. If `work` fails in that case, its error is the cause of the
    `CancelledError`."""
    task = spawn(asyncio.to_thread(work), name=name)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as cancelled:
        await asyncio.wait([task])
        raise cancelled from (None if task.cancelled() else task.exception())


def limit_thread_starts() -> None:
    """Make `threading.Thread.start` raise RuntimeError, as if the system had refused the thread, if the new thread does
    not begin within START_SECONDS. Python itself waits without a time limit, and a thread that lacks the memory to
    begin ends without setting the event for which Python waits. The event loop, which starts the threads of
    `asyncio.to_thread`, would then be blocked for ever. Idempotent."""
    if getattr(threading.Thread.start, "is_limited", False):
        return
    start = threading.Thread.start

    def limited(self: threading.Thread) -> None:
        self._started.__class__ = _Started  # type: ignore[attr-defined]  # an attribute of all supported versions
        try:
            start(self)
        except RuntimeError:
            threading._limbo.pop(self, None)  # type: ignore[attr-defined]  # so that it no longer counts as a thread
            raise

    limited.is_limited = True  # type: ignore[attr-defined]
    threading.Thread.start = limited  # type: ignore[method-assign]


class _Started(threading.Event):
    """The event that a new thread sets when it begins."""

    def wait(self, timeout: float | None = None) -> bool:
        if not super().wait(START_SECONDS if timeout is None else timeout):
            raise RuntimeError("can't start new thread")
        return True
