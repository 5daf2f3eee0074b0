"""Classes that call a function once for all callers that ask for the same key at the same time. Such a call is a run.

    run(key, make) ─▶ is a run of that key in progress? wait for it
                   └▶ otherwise start one with `make`

The callers of a key share its run: each gets its result, or raises its error. Cancelling one caller does not affect the
others. The result is not kept after the run. The two classes differ in the task that executes the run:

- `SharedFlights`: a task of its own. The run continues while any caller waits, and is cancelled when the last one
  leaves.
- `LedFlights`: the task of the first caller, whose resources pay for the run. If that caller is cancelled, the run
  ends, and the next caller starts a new run with its own `make`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from serverpy.errors import Draining
from serverpy.tasks import spawn

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class _Flight(Generic[T]):
    """A run (a call of the shared function) in progress, and the number of callers that wait for its result."""

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.callers = 0


class SharedFlights(Generic[K, T]):
    """A class that executes each run (call of a shared function) in a task of its own, whose name is `name`. The owner
    must call `aclose`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._flights: dict[K, _Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    async def run(self, key: K, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the run (shared call) of `key`. Joins a run in progress, or starts one with `make`.
        Raises the run's error if the run failed, and `Draining` if `aclose` cancelled the run."""
        flight = self._flights.get(key) or self._begin(key, make)
        flight.callers += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if flight.task.cancelled() and caller is not None and not caller.cancelling():
                raise Draining("This server is stopping. Try again later.") from None
            raise
        finally:
            flight.callers -= 1
            if not flight.callers and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()

    async def aclose(self) -> None:
        """Cancel every run, and wait until all runs have ended. Idempotent."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self, key: K, make: Callable[[], Coroutine[Any, Any, T]]) -> _Flight[T]:
        flight = self._flights[key] = _Flight(spawn(make(), name=self._name))
        flight.task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    def _land(self, key: K, flight: _Flight[T]) -> None:
        self._forget(key, flight)
        if not flight.task.cancelled():
            # mark the exception as retrieved, because the last caller may have left just before
            flight.task.exception()

    def _forget(self, key: K, flight: _Flight[T]) -> None:
        """Remove the run `flight` of `key`, unless a later run has replaced it. That happens if the last caller left
        before the task of `flight` ended."""
        if self._flights.get(key) is flight:
            del self._flights[key]


class LedFlights(Generic[K, T]):
    """A class that executes each run (call of a shared function) in the task of the first caller. `make` must not call
    `run` with the key of its own run."""

    def __init__(self) -> None:
        self._flights: dict[K, asyncio.Future[T]] = {}

    async def run(self, key: K, make: Callable[[], Awaitable[T]]) -> T:
        """Return the result of the run (shared call) of `key`. Joins a run in progress, or executes one with `make`.
        Raises the run's error if the run failed. The caller that executes the run returns in the same iteration of the
        event loop in which `make` returns, and the other callers return later."""
        while (led := self._flights.get(key)) is not None:
            with suppress(_LeaderLeft):
                return await asyncio.shield(led)
        return await self._lead(key, make)

    async def _lead(self, key: K, make: Callable[[], Awaitable[T]]) -> T:
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            result = await make()
            flight.set_result(result)
            return result
        except BaseException as error:
            flight.set_exception(error if isinstance(error, Exception) else _LeaderLeft())
            flight.exception()  # mark the exception as retrieved, because perhaps no other caller waits for it
            raise
        finally:
            del self._flights[key]


class _LeaderLeft(Exception):
    """Error: the caller whose task executed the shared function was cancelled. It tells the waiting callers to start a
    new run."""
