"""The scenario `saturation`: whether streams stall while extractions use as much CPU as they can get.

The scenario observes slow readers and streams from a slow media server, first without extractions, then while the
server under test extracts as many heavy pages at the same time as it allows. For a slow reader, the kernel buffers some
seconds of the stream, which hides delays of the server under test. If the media server sends 64 KB per second, and the
client reads each byte immediately, no bytes are buffered: a delay of the server under test delays each chunk by the
same time. The scenario reports the longest time without bytes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import count as numbers
from urllib.parse import quote, urlencode

from serverpy.bench.measure.clients import Crowd, Visitor
from serverpy.bench.measure.exchange import GOOD, Ask, Outcome
from serverpy.bench.measure.scenarios.base import (
    OURS,
    Bench,
    Cell,
    Findings,
    Plan,
    Row,
    Scenario,
    percentile,
    require,
    settings_for,
)
from serverpy.bench.measure.scenarios.measuring import LARGE, RATE, ask_for, count, read_now, warm_up, why
from serverpy.bench.measure.targets import Running, Target
from serverpy.settings import Settings

TARGETS = ("relay", "seed")
STREAMS = 50
LIVE = 5
LIVE_RATE = 16 * RATE
"""Bytes per second that a client of a slow media server may read: more than the media server sends."""
PROBES_A_SECOND = 20.0
METER_SECONDS = 60.0
"""The period in seconds over which ServerPY's own loop-lag meter reports: the last minute."""


def cells(plan: Plan) -> Iterator[Cell]:
    before, during = plan.by_mode((0.0, 3.0), (10.0, METER_SECONDS + 2), (METER_SECONDS + 2, METER_SECONDS + 2))
    for target in plan.those(*plan.by_mode(TARGETS[:1], TARGETS, TARGETS)):
        # Only ServerPY reports its loop lag, of the last minute, so only ServerPY must be measured for a full minute.
        seconds = during if target.name in OURS else min(during, 20.0)
        work = partial(measure, target, before, seconds)
        yield Cell(f"{target.title}, {STREAMS} streams", before + seconds + plan.by_mode(4, 8, 8), work)


def measure(target: Target, before: float, during: float, bench: Bench) -> Findings:
    with bench.start(target, settings_for(target, STREAMS + LIVE)) as running:
        return bench.run(_rows(target, before, during, bench, running))


async def _rows(target: Target, before: float, during: float, bench: Bench, running: Running) -> Findings:
    await warm_up(running, ask_for(running, LARGE))
    rows, problems = [], []
    for seconds, extracting in ((before, False), (during, True)):
        if seconds:
            row, outcomes = await _row(target, seconds, extracting, bench, running)
            rows.append(row)
            complete, _, _ = count(outcomes)
            if complete < len(outcomes):
                problems.append(f"{len(outcomes) - complete} of {len(outcomes)} streams failed: {why(outcomes)}")
    return Findings(tuple(rows), problems=tuple(problems))


async def _row(
    target: Target, seconds: float, extracting: bool, bench: Bench, running: Running
) -> tuple[Row, list[Outcome]]:
    slow = ask_for(running, LARGE)
    live = replace(slow, path=_path(target, bench.origin.page(LARGE, faults=f"throttle={RATE}")))
    async with Crowd(slow, RATE) as crowd, Crowd(live, LIVE_RATE, slots=1) as lives:
        await crowd.join(STREAMS)
        await lives.join(LIVE)
        before, end = read_now(running), time.monotonic() + seconds
        asks = _heavy(target, bench, running)
        async with asyncio.TaskGroup() as group:
            extractors = [
                group.create_task(_extract(target, asks, end), name=f"extractor-{number}")
                for number in range(Settings().extract_workers if extracting else 0)
            ]
            probe = group.create_task(_probe(running, end), name="probe")
        after, health = read_now(running), running.health()
        for each in (crowd, lives):
            each.leave()
    answers = probe.result()
    extractions = sum(task.result() for task in extractors)
    row: Row = {
        "target": target.name,
        "extracting": extracting,
        "streams": STREAMS + LIVE,
        "seconds": seconds,
        "extractions": extractions,
        "extractions_per_second": extractions / (after.t - before.t),
        "cpu": (after.cpu - before.cpu) / (after.t - before.t),
        "lag_p50": None if health is None else float(health["loop_lag"]["p50"]) / 1000,
        "lag_p99": None if health is None else float(health["loop_lag"]["p99"]) / 1000,
        "lag_seconds": None if health is None else min(METER_SECONDS, float(health["uptime"])),
        "answer_p50": percentile(answers, 0.5),
        "answer_p99": percentile(answers, 0.99),
        "answer_longest": max(answers),
        "longest_stall": _longest(crowd.outcomes),
        "longest_silence": _longest(lives.outcomes),
    }
    return row, [*crowd.outcomes, *lives.outcomes]


def _longest(outcomes: list[Outcome]) -> float:
    return max((outcome.stall for outcome in outcomes if outcome.stall is not None), default=0.0)


def _heavy(target: Target, bench: Bench, running: Running) -> Callable[[], Ask]:
    """Return a function that returns a new request at each call, for a page of 400 KB that the server under test has
    not seen yet."""
    fresh = numbers()

    def ask() -> Ask:
        page = f"{bench.origin.http}/page/heavy?fresh={os.getpid()}-{next(fresh)}-{time.monotonic_ns()}"
        return Ask(running.host, running.port, _path(target, page, info=True), None)

    return ask


def _path(target: Target, page: str, *, info: bool = False) -> str:
    """Return the request path that makes the server extract `page`. ServerPY can extract without streaming (`/info`);
    other servers extract only for a stream."""
    ours = target.name in OURS
    query = {"url": page, **({"method": target.name} if ours and not info else {})}
    return f"/{'info' if ours and info else 'stream'}?{urlencode(query, quote_via=quote)}"


async def _extract(target: Target, asks: Callable[[], Ask], end: float) -> int:
    """Request one extraction after the other until the time `end`. Returns the number of extractions. Raises BenchError
    if an extraction fails."""
    done = 0
    with closing(Visitor()) as visitor:
        while time.monotonic() < end:
            outcome = await visitor.ask(asks(), None if target.name in OURS else 1)
            require(outcome.end in GOOD, f"an extraction failed: {outcome.end}: {outcome.reason}")
            done += 1
    return done


async def _probe(running: Running, end: float) -> list[float]:
    """Measure repeatedly how long the server takes to respond to `/ready`: the lag of its event loop, seen from
    outside, plus the cost of a request."""
    times = []
    ask = Ask(running.host, running.port, "/ready", None)
    with closing(Visitor()) as visitor:
        while (begun := time.monotonic()) < end:
            outcome = await visitor.ask(ask)
            require(outcome.status is not None, f"no answer: {outcome.reason}")
            times.append(outcome.seconds)
            await asyncio.sleep(max(0.0, begun + 1 / PROBES_A_SECOND - time.monotonic()))
    return times


SATURATION = Scenario("saturation", "Streams while extractions saturate", cells, TARGETS)
