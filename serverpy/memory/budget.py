"""Admission control of the server process: a limit on the number of streams, a limit on the bytes that they hold in
memory, and a bounded queue of requests that wait for both.

`delivery` reserves the bytes that a stream may hold before any part of the stream exists, and releases them when every
part of the stream is closed. A budget belongs to one event loop; its functions may not be called from another thread.

The budget has two queues. A *newcomer* is a request that waits to be admitted as a stream, in the order of arrival. A
*grower* is a running stream that waits for more bytes than it has reserved. Growers are served before newcomers,
because only a running stream can end and free bytes. Waiting costs memory, so each queued newcomer is charged
`waiter_bytes`, and the sum of all reservations and charges never exceeds `total_bytes`. Three rules ensure that a
request or stream in a queue never waits for bytes that cannot become free:

- A newcomer may join the queue only if each queued newcomer would still fit beside the charges of the other newcomers
  when no stream runs.
- If a grower would fit without the charges of the queue, newcomers at the end of the queue are refused.
- If every stream waits to grow and none can, no bytes would ever be freed, so the last grower is refused.

Memory that outlives its stream (a cached index), or that several streams share (a ring buffer), is *kept*: it counts as
used until it is given back. Kept memory that is not in use is *spare*: it does not count as used, and it is reclaimed
(`add_reclaimer`) before any request or stream has to wait.

A `Room` (`room.py`) counts the bytes that a part of a stream holds beyond the reservation. A `Reservation` or the
`Budget` lends it these bytes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from serverpy.errors import Busy, Draining, ServerPYError, TooLarge

WAITER_BYTES = 24 * 1024
"""Memory, in bytes, that a waiting FastAPI request takes (measured)."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """A request or stream in a queue of the budget. `future` is resolved once, by a grant or a refusal, or is cancelled
    with the waiting task."""

    nbytes: int
    future: asyncio.Future[None]


class Reservation:
    """The share of the budget that one stream holds from admission until `release`: one of the `max_streams` places,
    and a number of bytes. The owner of the stream must release it."""

    def __init__(self, budget: Budget, nbytes: int) -> None:
        self._budget = budget
        self._nbytes = nbytes
        self._released = False
        self._growing: _Waiter | None = None

    @property
    def nbytes(self) -> int:
        """Number of bytes that the reservation holds now; 0 after `release`."""
        return 0 if self._released else self._nbytes

    async def grow(self, nbytes: int) -> None:
        """Reserve `nbytes` more bytes for the stream. If they are not free, the stream waits for them, and gets them
        before any request that waits for admission. Raises `Busy` if the bytes do not become free within the budget's
        time limit, or immediately if all other streams wait to grow, too. Raises `TooLarge` if the whole reservation
        would exceed the budget. After an error, the reservation keeps its earlier bytes. Only one call at a time is
        allowed."""
        if self._released or self._growing is not None:
            raise RuntimeError("a reservation cannot grow while another call grows it, or after its release")
        if nbytes:
            await self._budget._grow(self, nbytes)

    def try_grow(self, nbytes: int) -> bool:
        """Reserve `nbytes` more bytes if no request or stream waits and half of the budget stays free for new streams.
        Returns whether the bytes were reserved."""
        return not self._released and self._budget._try_lend(self, nbytes)

    def shrink(self, nbytes: int) -> None:
        """Give `nbytes` bytes back to the budget. Does nothing after `release`. Raises `ValueError` if the reservation
        holds fewer bytes."""
        if not 0 <= nbytes <= self._nbytes:
            raise ValueError("a reservation cannot give back more than it holds")
        if not self._released:
            self._nbytes -= nbytes
            self._budget._take_back(nbytes)

    def keep(self, nbytes: int) -> None:
        """Let `nbytes` bytes outlive the stream: the budget counts them as used until `Budget.shrink`. Raises
        `ValueError` if the reservation holds fewer bytes."""
        if self._released or nbytes > self._nbytes:
            raise ValueError("a reservation cannot keep more than it holds")
        self._nbytes -= nbytes
        self._budget._keep(nbytes)

    def release(self) -> None:
        """Give all bytes of the reservation back to the budget. Idempotent."""
        if not self._released:
            self._released = True
            self._budget._release(self)

    def __repr__(self) -> str:
        return f"<Reservation {self._nbytes} bytes{', released' if self._released else ''}>"


class Budget:
    """The budget of the server process: at most `max_streams` reservations, and at most `total_bytes` bytes for all
    reservations, kept memory and queued requests together."""

    def __init__(
        self, total_bytes: int, max_streams: int, wait_seconds: float, waiter_bytes: int = WAITER_BYTES
    ) -> None:
        self._total_bytes = total_bytes
        self._max_streams = max_streams
        self._wait_seconds = wait_seconds
        self._waiter_bytes = waiter_bytes
        self._reserved_bytes = 0
        self._kept_bytes = 0
        self._spare_bytes = 0
        self._streams = 0
        self._admitted = 0
        self._stopped = False
        # The dictionaries serve as ordered sets, so that a waiter can be removed from any position in constant time.
        self._newcomers: dict[_Waiter, None] = {}
        self._growers: dict[_Waiter, None] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._reclaimers: list[Callable[[int], int]] = []

    @property
    def total_bytes(self) -> int:
        return self._total_bytes

    @property
    def used_bytes(self) -> int:
        """Number of bytes that streams have reserved, that outlive their stream, or that are charged for queued
        requests."""
        return self._reserved_bytes + self._kept_bytes + self._waiter_bytes * len(self._newcomers)

    @property
    def streams(self) -> int:
        return self._streams

    @property
    def admitted(self) -> int:
        """Number of streams admitted since the budget was created."""
        return self._admitted

    @property
    def waiting(self) -> int:
        """Number of requests that wait for admission. Streams that wait to grow are not included."""
        return len(self._newcomers)

    def fits(self, nbytes: int) -> bool:
        """Return whether a stream of `nbytes` bytes fits into the whole budget. The engine checks this for each method
        when it starts."""
        return 0 <= nbytes <= self._total_bytes

    async def reserve(self, nbytes: int) -> Reservation:
        """Reserve one of the `max_streams` places, and `nbytes` bytes, for a stream. Waits in the queue if no place or
        too few bytes are free. The caller must release the reservation. Raises `Busy` if the wait exceeds the budget's
        time limit or the queue is full, `Draining` if `stop` was called, and `TooLarge` if `nbytes` exceeds the whole
        budget. If the call is cancelled, it reserves nothing."""
        if self._stopped:
            raise _draining()
        self._check_size(nbytes)
        if not self._growers and not self._newcomers and self._can_admit(nbytes):
            return self._take(nbytes)
        if not self._may_queue(nbytes):
            raise self._busy("The queue of waiting requests is full. Try again later.")
        waiter = _Waiter(nbytes, asyncio.get_running_loop().create_future())
        self._newcomers[waiter] = None
        try:
            await self._wait(waiter)
        except asyncio.CancelledError:
            if _granted(waiter):
                self._give_back(nbytes, streams=1)
            raise
        finally:
            self._newcomers.pop(waiter, None)
            self._advance()
        return Reservation(self, nbytes)

    def try_grow(self, nbytes: int) -> bool:
        """Count `nbytes` more bytes as used, outside any reservation, if no request or stream waits and half of the
        budget stays free for new streams. Returns whether the bytes were counted."""
        if not self._can_spare(nbytes):
            return False
        self._kept_bytes += nbytes
        return True

    def try_keep(self, nbytes: int) -> bool:
        """If `nbytes` bytes are free, count them as used, outside any reservation, even if requests wait. Returns
        whether the bytes were counted."""
        if not self._has_room(nbytes):
            return False
        self._kept_bytes += nbytes
        return True

    def shrink(self, nbytes: int) -> None:
        """Stop counting `nbytes` bytes of kept memory as used, because they were freed."""
        self._kept_bytes -= nbytes
        self._advance()

    def try_add_spare(self, nbytes: int) -> bool:
        """Count `nbytes` more bytes as spare, if they are free, or become free because other spare memory is reclaimed.
        Returns whether the bytes were counted."""
        if not self._has_room(nbytes):
            return False
        self._spare_bytes += nbytes
        return True

    def add_reclaimer(self, reclaim: Callable[[int], int]) -> None:
        """Register `reclaim`, which the budget calls with a number of bytes that it needs. `reclaim` must free at most
        that number of spare bytes, and return the number of freed bytes. The budget calls the registered functions in
        the order of registration, each with the number of bytes that are still missing."""
        self._reclaimers.append(reclaim)

    def spare(self, nbytes: int) -> None:
        """Mark `nbytes` bytes of kept memory as spare: the budget reclaims them when a stream needs them."""
        self._kept_bytes -= nbytes
        self._spare_bytes += nbytes
        self._advance()

    def use(self, nbytes: int) -> None:
        """Mark `nbytes` bytes of spare memory as kept and used again."""
        self._spare_bytes -= nbytes
        self._kept_bytes += nbytes

    def stop(self) -> None:
        """Stop admission: `reserve` raises `Draining` for queued and later requests. Running streams may still grow."""
        self._stopped = True
        while self._newcomers:
            _refuse(self._newcomers.popitem()[0], _draining())
        self._advance()

    async def wait_idle(self) -> None:
        """Wait until no stream runs."""
        await self._idle.wait()

    def __repr__(self) -> str:
        return (
            f"<Budget {self.used_bytes}/{self._total_bytes} bytes, {self._streams}/{self._max_streams} streams, "
            f"{len(self._newcomers)} waiting, {len(self._growers)} growing{', stopped' if self._stopped else ''}>"
        )

    async def _grow(self, reservation: Reservation, nbytes: int) -> None:
        self._check_size(nbytes, held=reservation.nbytes)
        waiter = _Waiter(nbytes, asyncio.get_running_loop().create_future())
        reservation._growing = waiter
        self._growers[waiter] = None
        self._advance()
        try:
            await self._wait(waiter)
            if reservation._released:
                raise _released()
            reservation._nbytes += nbytes
        except BaseException:
            # The budget may have granted the bytes in the iteration of the event loop in which this call was cancelled
            # or the reservation released. The reservation does not hold these bytes yet, so they must be given back
            # here.
            if _granted(waiter):
                self._give_back(nbytes)
            raise
        finally:
            reservation._growing = None
            self._growers.pop(waiter, None)
            self._advance()

    def _try_lend(self, reservation: Reservation, nbytes: int) -> bool:
        if not self._can_spare(nbytes):
            return False
        self._add(nbytes)
        reservation._nbytes += nbytes
        return True

    def _can_spare(self, nbytes: int) -> bool:
        return not (self._growers or self._newcomers) and self.used_bytes + nbytes <= self._total_bytes // 2

    def _take_back(self, nbytes: int) -> None:
        self._give_back(nbytes)
        self._advance()

    def _release(self, reservation: Reservation) -> None:
        if reservation._growing is not None:
            self._growers.pop(reservation._growing, None)
            _refuse(reservation._growing, _released())
        self._give_back(reservation._nbytes, streams=1)
        self._advance()

    async def _wait(self, waiter: _Waiter) -> None:
        """Wait until the waiter's future is resolved by a grant or a refusal. A timeout resolves the same future with a
        refusal, so that a grant and a timeout cannot both happen."""
        if not waiter.future.done() and self._wait_seconds <= 0:
            raise self._busy("The maximum number of streams or the memory budget is used up. Try again later.")
        timer = asyncio.get_running_loop().call_later(
            self._wait_seconds,
            _refuse,
            waiter,
            self._busy("The maximum number of streams or the memory budget was used up for too long. Try again later."),
        )
        try:
            await waiter.future
        finally:
            timer.cancel()

    def _advance(self) -> None:
        """Grant bytes to the waiting streams and then to the waiting requests, in order, as far as the bytes
        suffice."""
        self._advance_growers()
        while self._newcomers and not self._growers:
            waiter = next(iter(self._newcomers))
            if not waiter.future.done() and not self._can_admit(waiter.nbytes, charged=1):
                break
            del self._newcomers[waiter]
            if not waiter.future.done():
                self._add(waiter.nbytes, streams=1)
                waiter.future.set_result(None)

    def _advance_growers(self) -> None:
        while self._growers:
            waiter = next(iter(self._growers))
            if not waiter.future.done() and not self._make_room(waiter.nbytes):
                break
            del self._growers[waiter]
            if not waiter.future.done():
                self._add(waiter.nbytes)
                waiter.future.set_result(None)
        stuck = [waiter for waiter in self._growers if not waiter.future.done()]
        if stuck and len(stuck) == self._streams:
            _refuse(stuck[-1], self._busy("All streams wait for more memory than is free. Try again later."))

    def _make_room(self, nbytes: int) -> bool:
        """Return whether `nbytes` bytes are free for a stream that waits to grow. If queued requests hold the missing
        bytes, refuses requests, from the end of the queue."""
        if self._has_room(nbytes):
            return True
        if self._reserved_bytes + self._kept_bytes + nbytes > self._total_bytes:
            return False
        while self.used_bytes + nbytes > self._total_bytes:
            _refuse(self._newcomers.popitem()[0], self._busy("A running stream needs the memory of the queue."))
        return True

    def _can_admit(self, nbytes: int, charged: int = 0) -> bool:
        """Return whether a stream of `nbytes` bytes can be admitted. `charged` is 1 if its request is queued, because
        admission ends the charge for the queued request, otherwise 0."""
        freed = charged * self._waiter_bytes
        return self._streams < self._max_streams and self._has_room(nbytes - freed)

    def _has_room(self, nbytes: int) -> bool:
        """Return whether `nbytes` bytes are free. Reclaims spare memory if necessary, because used and spare memory
        together must not exceed `total_bytes`."""
        missing = self.used_bytes + self._spare_bytes + nbytes - self._total_bytes
        for reclaim in self._reclaimers:
            if missing <= 0 or not self._spare_bytes:
                break
            freed = reclaim(missing)
            self._spare_bytes -= freed
            missing -= freed
        return missing <= 0

    def _may_queue(self, nbytes: int) -> bool:
        if self._wait_seconds <= 0 or len(self._newcomers) >= self._max_streams:
            return False
        largest = max(nbytes, *(waiter.nbytes for waiter in self._newcomers), 0)
        charges = self._waiter_bytes * len(self._newcomers)
        return largest + charges <= self._total_bytes and self._has_room(self._waiter_bytes)

    def _check_size(self, nbytes: int, held: int = 0) -> None:
        if nbytes < 0:
            raise ValueError("cannot reserve a negative number of bytes")
        if not self.fits(held + nbytes):
            raise TooLarge("This stream needs more memory than the server's whole budget (MEMORY_BUDGET).")

    def _take(self, nbytes: int) -> Reservation:
        self._add(nbytes, streams=1)
        return Reservation(self, nbytes)

    def _add(self, nbytes: int, streams: int = 0) -> None:
        self._reserved_bytes += nbytes
        self._streams += streams
        self._admitted += streams
        if self._streams:
            self._idle.clear()

    def _keep(self, nbytes: int) -> None:
        self._reserved_bytes -= nbytes
        self._kept_bytes += nbytes

    def _give_back(self, nbytes: int, streams: int = 0) -> None:
        self._reserved_bytes -= nbytes
        self._streams -= streams
        if not self._streams:
            self._idle.set()

    def _busy(self, message: str) -> Busy:
        return Busy(f"The server is busy. {message}", retry_after=max(1, math.ceil(self._wait_seconds)))


def _draining() -> Draining:
    return Draining("The server is about to stop.")


def _released() -> RuntimeError:
    return RuntimeError("the reservation was released while it waited to grow")


def _granted(waiter: _Waiter) -> bool:
    """Return whether the bytes of a waiter were granted in the same iteration of the event loop in which its task was
    cancelled. If the waiter was refused, this call also retrieves the exception, which asyncio would otherwise report
    as never retrieved."""
    return waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None


def _refuse(waiter: _Waiter, error: ServerPYError | RuntimeError) -> None:
    if not waiter.future.done():
        waiter.future.set_exception(error)
