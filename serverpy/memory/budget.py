"""The process's admission: so many streams, so many bytes, and a bounded line of requests that wait for both.

`delivery` reserves what a stream may hold before anything of it exists, and gives it back when all of it is gone.
Belongs to one event loop; nothing here is called from a thread.

Two lines. A *newcomer* waits for a place and its bytes, first come, first served. A *grower* is a stream that needs
more than it has reserved; growers go before newcomers, for only what runs can end and free bytes. Waiting is not free:
each newcomer in the line is charged `waiter_bytes`, so that the sum of all is never above `total_bytes`. Three rules
keep the lines moving, whatever the sizes:

- A newcomer may join the line only if every one in it would still fit beside the others' charges once nothing runs.
- A grower that would fit but for the charges of the line ends the wait of the newcomers at its tail.
- When every stream waits to grow and none can, nothing would ever be freed: the last grower is refused.

What outlives the stream that made it (a cached index), or belongs to several (a ring), is *kept*: it counts like a
stream's bytes until it is given back. While nobody uses it, it is *spare*: no longer counted as used, and asked for (by
`add_reclaimer`) before anyone waits.

What a part of a stream holds beyond `reserve` is a `Room` (`room.py`), to which `Reservation` and `Budget` both lend.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from serverpy.errors import Busy, Draining, ServerPYError, TooLarge

WAITER_BYTES = 24 * 1024
"""What a waiting FastAPI request holds, as measured."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """One place in a line. The future is done once, by a grant or a refusal, or cancelled with its task."""

    nbytes: int
    future: asyncio.Future[None]


class Reservation:
    """Bytes and a stream's place, held from admission until `release`. One owner, who releases it."""

    def __init__(self, budget: Budget, nbytes: int) -> None:
        self._budget = budget
        self._nbytes = nbytes
        self._released = False
        self._growing: _Waiter | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held now; 0 once released."""
        return 0 if self._released else self._nbytes

    async def grow(self, nbytes: int) -> None:
        """Hold `nbytes` more; waits for them before any newcomer does. Raises `Busy` after the budget's wait, or at
        once if every other stream waits to grow, and `TooLarge` if the sum can never fit; the bytes held so far
        stay. One call at a time."""
        if self._released or self._growing is not None:
            raise RuntimeError("a reservation grows once at a time, and not after its release")
        if nbytes:
            await self._budget._grow(self, nbytes)

    def try_grow(self, nbytes: int) -> bool:
        """Hold `nbytes` more if nobody waits and half of the budget stays free for streams to come; otherwise nothing
        happens."""
        return not self._released and self._budget._try_lend(self, nbytes)

    def shrink(self, nbytes: int) -> None:
        """Give `nbytes` back; does nothing once released. Raises ValueError if fewer are held."""
        if not 0 <= nbytes <= self._nbytes:
            raise ValueError("a reservation gives back what it holds, no more")
        if not self._released:
            self._nbytes -= nbytes
            self._budget._take_back(nbytes)

    def keep(self, nbytes: int) -> None:
        """Let `nbytes` outlive the stream: from now on they are the budget's, until `Budget.shrink`."""
        if self._released or nbytes > self._nbytes:
            raise ValueError("nobody keeps more than there is")
        self._nbytes -= nbytes
        self._budget._keep(nbytes)

    def release(self) -> None:
        """Give everything back. Idempotent."""
        if not self._released:
            self._released = True
            self._budget._release(self)

    def __repr__(self) -> str:
        return f"<Reservation {self._nbytes} bytes{', released' if self._released else ''}>"


class Budget:
    """At most `max_streams` reservations with at most `total_bytes` in sum, the line's charges included."""

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
        # Dictionaries as ordered sets: a waiter leaves from anywhere in one step.
        self._newcomers: dict[_Waiter, None] = {}
        self._growers: dict[_Waiter, Reservation] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._reclaimers: list[Callable[[int], int]] = []

    @property
    def total_bytes(self) -> int:
        return self._total_bytes

    @property
    def used_bytes(self) -> int:
        """Reserved by streams, kept beyond them, or charged for the line."""
        return self._reserved_bytes + self._kept_bytes + self._waiter_bytes * len(self._newcomers)

    @property
    def streams(self) -> int:
        return self._streams

    @property
    def admitted(self) -> int:
        """Streams that were let in since the start."""
        return self._admitted

    @property
    def waiting(self) -> int:
        """Requests in the line; streams that wait to grow are not among them."""
        return len(self._newcomers)

    def fits(self, nbytes: int) -> bool:
        """Whether one stream of `nbytes` could ever be admitted; asked at start of what each method holds."""
        return 0 <= nbytes <= self._total_bytes

    async def reserve(self, nbytes: int) -> Reservation:
        """A place and `nbytes`; the caller releases them. Waits in the line for as long as the budget says, then raises
        `Busy`; at once where the line is full. Raises `Draining` once stopped, and `TooLarge` if it can never fit.
        Cancelled at any moment it leaves nothing behind."""
        if self._stopped:
            raise _draining()
        self._check_size(nbytes)
        if not self._growers and not self._newcomers and self._can_admit(nbytes):
            return self._take(nbytes)
        if not self._may_line_up(nbytes):
            raise self._busy("The line of waiting requests is full.")
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
        """Keep `nbytes` that no stream has reserved, under the conditions of `Reservation.try_grow`."""
        if not self._can_spare(nbytes):
            return False
        self._kept_bytes += nbytes
        return True

    def shrink(self, nbytes: int) -> None:
        """Take back `nbytes` that were kept."""
        self._kept_bytes -= nbytes
        self._advance()

    def add_reclaimer(self, reclaim: Callable[[int], int]) -> None:
        """Have `reclaim` called with the number of bytes that are missing. It lets go of spare bytes of its own until
        that many are free, or it has no more, and returns how many it let go. Reclaimers are asked in the order in
        which they were added, each for the bytes that are still missing."""
        self._reclaimers.append(reclaim)

    def spare(self, nbytes: int) -> None:
        """Count `nbytes` that are kept as unused: the next who needs them gets them."""
        self._kept_bytes -= nbytes
        self._spare_bytes += nbytes
        self._advance()

    def use(self, nbytes: int) -> None:
        """Count `nbytes` that are spare as used again."""
        self._spare_bytes -= nbytes
        self._kept_bytes += nbytes

    def stop(self) -> None:
        """Admit nobody any more: newcomers, and those in the line, get `Draining`. Running streams may still grow."""
        self._stopped = True
        while self._newcomers:
            _refuse(self._newcomers.popitem()[0], _draining())
        self._advance()

    async def wait_idle(self) -> None:
        """Returns when no stream runs."""
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
        self._growers[waiter] = reservation
        self._advance()
        try:
            await self._wait(waiter)
        except asyncio.CancelledError:
            # A grant that came in the same turn is taken back, unless all was released meanwhile.
            if _granted(waiter) and reservation.nbytes:
                reservation._nbytes -= nbytes
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
            _refuse(reservation._growing, RuntimeError("the reservation was released while it grew"))
        self._give_back(reservation._nbytes, streams=1)
        self._advance()

    async def _wait(self, waiter: _Waiter) -> None:
        """Until granted or refused. The clock refuses by the same future, so that both cannot happen."""
        if not waiter.future.done() and self._wait_seconds <= 0:
            raise self._busy("No place is free.")
        clock = asyncio.get_running_loop().call_later(
            self._wait_seconds, _refuse, waiter, self._busy("No place became free in time.")
        )
        try:
            await waiter.future
        finally:
            clock.cancel()

    def _advance(self) -> None:
        """Grant what can be granted, in order."""
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
            reservation = self._growers.pop(waiter)
            if not waiter.future.done():
                self._add(waiter.nbytes)
                reservation._nbytes += waiter.nbytes
                waiter.future.set_result(None)
        stuck = [waiter for waiter in self._growers if not waiter.future.done()]
        if stuck and len(stuck) == self._streams:
            _refuse(stuck[-1], self._busy("All streams need more memory."))

    def _make_room(self, nbytes: int) -> bool:
        """Whether `nbytes` are free for a grower, if need be by sending newcomers away, the last to come first."""
        if self._has_room(nbytes):
            return True
        if self._reserved_bytes + self._kept_bytes + nbytes > self._total_bytes:
            return False
        while self.used_bytes + nbytes > self._total_bytes:
            _refuse(self._newcomers.popitem()[0], self._busy("The memory of the line is needed by a running stream."))
        return True

    def _can_admit(self, nbytes: int, charged: int = 0) -> bool:
        """`charged`: 1 for a newcomer whose own charge falls away with its admission."""
        freed = charged * self._waiter_bytes
        return self._streams < self._max_streams and self._has_room(nbytes - freed)

    def _has_room(self, nbytes: int) -> bool:
        """Whether `nbytes` are free, if need be by letting go of what is spare. At no time is the sum of what is used
        and spare above the total."""
        missing = self.used_bytes + self._spare_bytes + nbytes - self._total_bytes
        for reclaim in self._reclaimers:
            if missing <= 0 or not self._spare_bytes:
                break
            freed = reclaim(missing)
            self._spare_bytes -= freed
            missing -= freed
        return missing <= 0

    def _may_line_up(self, nbytes: int) -> bool:
        if self._wait_seconds <= 0 or len(self._newcomers) >= self._max_streams:
            return False
        largest = max(nbytes, *(waiter.nbytes for waiter in self._newcomers), 0)
        charges = self._waiter_bytes * len(self._newcomers)
        return largest + charges <= self._total_bytes and self._has_room(self._waiter_bytes)

    def _check_size(self, nbytes: int, held: int = 0) -> None:
        if nbytes < 0:
            raise ValueError("nobody reserves a negative number of bytes")
        if not self.fits(held + nbytes):
            raise TooLarge("This stream needs more memory than the server may use at all.")

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


def _granted(waiter: _Waiter) -> bool:
    """Whether a cancelled wait had been granted in the same turn. Asking also takes note of a refusal, which would
    otherwise be reported as an exception that nobody saw."""
    return waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None


def _refuse(waiter: _Waiter, error: ServerPYError | RuntimeError) -> None:
    if not waiter.future.done():
        waiter.future.set_exception(error)
