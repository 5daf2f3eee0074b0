"""`over-time`: memory while clients come, stay and go: one series for each target, over the same time."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect
from collections.abc import Iterator
from functools import partial

from serverpy.bench.measure.clients import Crowd
from serverpy.bench.measure.exchange import GOOD
from serverpy.bench.measure.sampler import Reading
from serverpy.bench.measure.scenarios.base import Bench, Cell, Findings, Plan, Row, Scenario, on, settings_for
from serverpy.bench.measure.scenarios.measuring import (
    CHILD_SECONDS,
    LARGE,
    RATE,
    ask_for,
    count,
    sampler_of,
    warm_up,
    watched,
    why,
)
from serverpy.bench.measure.targets import Running, Target
from serverpy.tasks import cancel, spawn

CLIENTS = 50
CHILDREN = 10
TARGETS = ("relay", "embedded", "subprocess", "seed")


def cells(plan: Plan) -> Iterator[Cell]:
    seconds = plan.by_mode(5.0, 90.0, 120.0)
    names = plan.by_mode(("relay", "embedded"), TARGETS[:3], TARGETS)
    for target in plan.those(*names):
        clients = CHILDREN if target.name == "subprocess" else (plan.streams or (CLIENTS,))[0]
        work = on(target, settings_for(target, clients), partial(_measure, target, clients, seconds))
        yield Cell(f"{target.title}, {clients} clients", seconds + 2, work)


async def _measure(target: Target, clients: int, seconds: float, _bench: Bench, running: Running) -> Findings:
    """Measure one target: clients arrive during the first quarter of the time, all stay for three eighths, they leave
    during an eighth, and then no client is connected."""
    ask = ask_for(running, LARGE, patience=60 + CHILD_SECONDS * clients)
    await warm_up(running, ask)
    counts: list[tuple[float, int]] = []
    with sampler_of(running) as sampler:
        begun = time.monotonic()
        async with Crowd(ask, RATE) as crowd:
            helpers = (
                spawn(_count(crowd, counts), name="count"),
                spawn(_come(crowd, clients, seconds / 4), name="come"),
            )
            try:
                await watched(sampler, seconds * 5 / 8)
                for _ in range(clients):
                    crowd.leave(1)
                    await watched(sampler, seconds / 8 / clients)
                await watched(sampler, begun + seconds - time.monotonic())
            finally:
                for helper in helpers:
                    await cancel(helper)
    count(crowd.outcomes)  # `count` raises if bytes are wrong
    there = sum(outcome.end in GOOD for outcome in crowd.outcomes)
    problems = (
        () if there == clients else (f"{clients - there} of {clients} clients had no stream: {why(crowd.outcomes)}",)
    )
    return Findings(series=(_series(target, begun, counts, sampler.readings),), problems=problems)


async def _come(crowd: Crowd, clients: int, seconds: float) -> None:
    """Let one client after the other join, whether or not the earlier ones have their first byte."""

    async def come(after: float) -> None:
        await asyncio.sleep(after)
        await crowd.join(1)

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(come(seconds * number / clients), name=f"come-{number}")


async def _count(crowd: Crowd, counts: list[tuple[float, int]]) -> None:
    while True:
        counts.append((time.monotonic(), crowd.reading))
        await asyncio.sleep(0.1)


def _series(target: Target, begun: float, counts: list[tuple[float, int]], readings: list[Reading]) -> Row:
    times = [at for at, _ in counts]
    present = [counts[max(0, bisect(times, reading.t) - 1)][1] for reading in readings]
    return {
        "target": target.name,
        "t": [round(reading.t - begun, 3) for reading in readings],
        "pss": [reading.pss for reading in readings],
        "clients": present,
    }


OVER_TIME = Scenario("over-time", "Memory while clients come, stay and go", cells, TARGETS)
