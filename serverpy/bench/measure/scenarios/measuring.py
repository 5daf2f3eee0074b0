"""The reproducible memory measurements of the scenarios: warm the server up, take a base reading, then watch a plateau.

A plateau is not a single moment. It begins once the server's memory has stopped rising and its CPU is no longer
saturated; at first the server fills its own and the kernel's buffers. The scenario then watches the plateau for some
seconds and uses the peak.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serverpy.bench.measure.clients import Crowd, leaving, whole
from serverpy.bench.measure.errors import BenchError
from serverpy.bench.measure.exchange import GOOD, Ask, Outcome
from serverpy.bench.measure.pipes import held_in_pipes
from serverpy.bench.measure.reference import reference
from serverpy.bench.measure.sampler import Field, Reading, Sampler, read
from serverpy.bench.measure.scenarios.base import Bench, require
from serverpy.bench.measure.targets import Running, Scheme

LARGE = "large-180.mp4"
CLIP = "prog.mp4"
"""A video file of 5 MB."""
SMALL = "photo-1.jpg"
"""An image file of 100 KB."""
SHORT = "clip.mp4"
"""A video file of 64 KB."""

RATE = 64 * 1024
"""Bytes per second that a slow client reads."""
CHILD_SECONDS = 4.0
"""CPU seconds that a yt-dlp process of the subprocess method takes to start, on a slow core."""
SAMPLES_A_SECOND = 5.0
WARM_BYTES = 4 << 20
STEADY_SHARE = 0.01
STEADY_BYTES = 400_000
WATCHED_SECONDS = 2.0
BASE_READINGS = 5


def ask_for(running: Running, media: str, *, scheme: Scheme = "http", fresh: str = "", patience: float = 60.0) -> Ask:
    return Ask(
        running.host,
        running.port,
        running.path(media, scheme=scheme, fresh=fresh),
        reference(media),
        patience,
    )


async def warm_up(running: Running, ask: Ask) -> None:
    """Send two requests and disconnect early from each, so that the server under test loads everything that it loads
    only on first use. Raises BenchError if a request fails."""
    for number in range(2):
        outcome = await leaving(ask, WARM_BYTES)
        running.check()
        require(outcome.end in GOOD, f"{running.child.title}: request {number + 1} failed: {outcome.reason}")


async def check_whole(running: Running, ask: Ask) -> Outcome:
    """Read one whole body. Raises BenchError unless it is complete and every byte is right."""
    outcome = await whole(ask)
    running.check()
    require(outcome.end == "complete", f"{running.child.title}: {outcome.end}: {outcome.reason}")
    return outcome


def read_now(running: Running) -> Reading:
    """Take a reading of the server under test. Raises TargetDied if it has ended."""
    return read(running.pid)


def sampler_of(running: Running, hz: float = SAMPLES_A_SECOND) -> Sampler:
    return Sampler(running.pid, hz)


async def base_of(running: Running, seconds: float = 1.0) -> Reading:
    """Take readings over `seconds`, during which processes that are shutting down can end. Returns the reading with the
    median PSS."""
    readings = []
    for _ in range(BASE_READINGS):
        await asyncio.sleep(seconds / BASE_READINGS)
        readings.append(read_now(running))
    return sorted(readings, key=lambda reading: reading.pss)[BASE_READINGS // 2]


@dataclass(frozen=True, slots=True)
class Plateau:
    """The readings after the server's memory has become stable, which took `settling` seconds. `settled` is False if it
    did not become stable in time."""

    readings: tuple[Reading, ...]
    settled: bool
    settling: float

    def peak(self, field: Field) -> int:
        return max(int(getattr(reading, field)) for reading in self.readings)

    @property
    def peak_pss(self) -> int:
        return self.peak("pss")

    @property
    def seconds(self) -> float:
        return self.readings[-1].t - self.readings[0].t

    @property
    def cpu(self) -> float:
        """CPU seconds per second of elapsed time."""
        return (self.readings[-1].cpu - self.readings[0].cpu) / max(self.seconds, 1e-9)


async def plateau(sampler: Sampler, seconds: float, *, longest: float, least: float = WATCHED_SECONDS) -> Plateau:
    """Wait at least `least` and at most `longest` seconds for a plateau of the memory, then watch the plateau for
    `seconds`. Raises TargetDied if the server under test ends."""
    begun = time.monotonic()
    settled = False
    while not settled and time.monotonic() - begun < longest:
        await watched(sampler, 1 / SAMPLES_A_SECOND)
        settled = time.monotonic() - begun >= least and is_steady(sampler.readings)
    settling = time.monotonic() - begun
    first = len(sampler.readings)
    await watched(sampler, seconds)
    return Plateau(tuple(sampler.readings[first:]), settled, settling)


async def watched(sampler: Sampler, seconds: float) -> None:
    """Wait for `seconds`. Raises TargetDied as soon as the sampler notices that the server under test has ended."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        await asyncio.sleep(min(left, 1 / SAMPLES_A_SECOND))
        sampler.check()


def is_steady(readings: Sequence[Reading]) -> bool:
    """Return whether memory is stable over the last WATCHED_SECONDS and the second half of this time does not use less
    CPU than the first half."""
    if not readings:
        return False
    watched = [reading for reading in readings if reading.t >= readings[-1].t - WATCHED_SECONDS]
    if len(watched) < 5:
        return False
    half = len(watched) // 2
    before = statistics.median(reading.pss for reading in watched[:half])
    after = statistics.median(reading.pss for reading in watched[half:])
    still = abs(after - before) <= max(STEADY_BYTES, STEADY_SHARE * before)
    return still and _work(watched[half:]) >= 0.6 * _work(watched[: half + 1]) - 0.03


def _work(readings: Sequence[Reading]) -> float:
    return (readings[-1].cpu - readings[0].cpu) / max(readings[-1].t - readings[0].t, 1e-9)


def count(outcomes: Iterable[Outcome]) -> tuple[int, int, int]:
    """Return how many requests ended well, failed, and were refused. Raises BenchError if a request got wrong bytes."""
    complete = failed = refused = 0
    for outcome in outcomes:
        if outcome.end == "wrong":
            raise BenchError(f"a response had wrong bytes: {outcome.reason}")
        complete += outcome.end in GOOD
        refused += outcome.end == "refused"
        failed += outcome.end not in GOOD and outcome.end != "refused"
    return complete, failed, refused


def why(outcomes: Iterable[Outcome]) -> str:
    """Return the reason of the first outcome that states a reason."""
    return next((outcome.reason for outcome in outcomes if outcome.reason), "no reason given")


@dataclass(frozen=True, slots=True)
class Held:
    """Measurements of a server before, during and after it serves a crowd of slow clients."""

    clients: int
    base: Reading
    flat: Plateau
    after: Reading
    highest_pss: int
    outcomes: tuple[Outcome, ...]
    lag_p99: float | None
    """The 99th percentile of the lag of the server's event loop, in seconds. None if the server does not report its
    lag."""
    pipe_bytes: int
    """Bytes in the server's pipes just before the clients disconnect. The PSS of a process does not include them."""

    @property
    def each_pss(self) -> float | None:
        """Bytes of PSS that each client added. None unless all clients had a stream, because the figure is for a crowd
        of exactly that size."""
        complete, _, _ = count(self.outcomes)
        return (self.flat.peak_pss - self.base.pss) / self.clients if complete == self.clients else None

    @property
    def each_uss(self) -> float | None:
        """Bytes of USS that each client added. USS is memory that a process shares with no other, so processes outside
        of the server that start or end change only the server's PSS. USS also excludes memory that the server's own
        processes share."""
        if self.each_pss is None:
            return None
        return (self.flat.peak("uss") - self.base.uss) / self.clients


async def hold(bench: Bench, running: Running, ask: Ask, clients: int, *, rate: int = RATE) -> Held:
    """Connect `clients` slow clients to a warm server, and let them read until the server's memory has been stable for
    some seconds."""
    base = await base_of(running, seconds=bench.by_mode(0.5, 1.0, 1.0))
    with sampler_of(running) as sampler:
        async with Crowd(ask, rate) as crowd:
            await crowd.join(clients)
            flat = await plateau(
                sampler,
                bench.by_mode(1.0, 5.0, 15.0),
                longest=bench.by_mode(5.0, 45.0, 120.0),
                least=bench.by_mode(2.0, 5.0, 8.0),  # within 5 s, the memory grows by its last few per cent
            )
            health = running.health()
            pipes = held_in_pipes(running.pid)
            crowd.leave()
            outcomes = tuple(crowd.outcomes)
        highest = int(sampler.peak("pss"))
    after = await base_of(running, seconds=bench.by_mode(1.0, 2.0, 2.0))
    lag = None if health is None else float(health["loop_lag"]["p99"]) / 1000
    return Held(clients, base, flat, after, highest, outcomes, lag, pipes)


def lost(held: Held) -> tuple[str, ...]:
    """Return a problem that tells how many clients had no stream. Returns no problem if every client had a stream."""
    _, failed, refused = count(held.outcomes)
    if not failed + refused:
        return ()
    return (f"{failed + refused} of {held.clients} clients had no stream: {why(held.outcomes)}",)
