"""The scenarios `mixed` and `soak`. `mixed` sends 10,000 requests of all kinds, some of which the client leaves early
or the server must refuse. No request should leave threads, descriptors, processes or memory behind. `soak` sends the
same mixture for half an hour while slow readers connect and disconnect, and watches the memory of the server.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from serverpy.bench.measure.clients import Crowd, whole
from serverpy.bench.measure.exchange import Ask
from serverpy.bench.measure.sampler import Reading
from serverpy.bench.measure.scenarios.base import Bench, Cell, Findings, Plan, Row, Scenario, require, settings_for
from serverpy.bench.measure.scenarios.measuring import (
    LARGE,
    RATE,
    ask_for,
    base_of,
    count,
    read_now,
    sampler_of,
    warm_up,
    watched,
    why,
)
from serverpy.bench.measure.scenarios.request_kinds import Kind, Mixed, ask_all, closed_port, kinds
from serverpy.bench.measure.targets import TARGETS, Running, Target
from serverpy.bench.measure.targets.base import LOOPBACK
from serverpy.tasks import cancel, spawn

CONNECTIONS = 8
WARM_SHARE = 20
"""The warm-up sends one request for every WARM_SHARE requests of the measurement, with the same share of each kind."""
KEPT_SECONDS = 12.0
"""Seconds to wait after the warm-up. ServerPY keeps an idle connection to a media server for 10 s; an idle connection
during the first reading would hide a leaked connection."""
POOLED = 64
"""Number of concurrent requests that fill the thread pool of the server under test. It is larger than the pool."""
REST_SECONDS = 15.0
SLOW = 20
SOAK_HZ = 1.0


# --- mixed ---------------------------------------------------------------------------------------------------------


def mixed_cells(plan: Plan) -> Iterator[Cell]:
    requests = {"relay": plan.by_mode(500, 10_000, 10_000), "embedded": plan.by_mode(0, 0, 5_000)}
    for target in plan.those(*(name for name, number in requests.items() if number)):
        number = requests[target.name]
        yield Cell(
            f"{target.title}, {number} requests",
            plan.by_mode(6, 22, 22) + number / 200,
            partial(measure_mixed, target, number),
        )


def measure_mixed(target: Target, requests: int, bench: Bench) -> Findings:
    with closed_port() as port, bench.start(target, _settings(target, bench, port)) as running:
        mixture = kinds(target.name, bench, running, port)
        return bench.run(_mixed_row(target, mixture, requests, bench, running))


def _settings(target: Target, bench: Bench, port: int) -> dict[str, object]:
    origins = [urlsplit(base).netloc for base in (bench.origin.http, bench.origin.https)]
    allowed = ",".join([*origins, f"{LOOPBACK}:{port}"])
    return settings_for(target, CONNECTIONS + SLOW, ALLOW_NETWORKS=allowed)


async def _mixed_row(
    target: Target, mixture: tuple[Kind, ...], requests: int, bench: Bench, running: Running
) -> Findings:
    await warm_up(running, ask_for(running, LARGE))
    await ask_all(mixture, CONNECTIONS, count=requests // WARM_SHARE)
    await fill_pool(running)
    before = await at_rest(running, seconds=bench.by_mode(0.0, KEPT_SECONDS, KEPT_SECONDS))
    begun = time.monotonic()
    mixed = await ask_all(mixture, CONNECTIONS, count=requests)
    seconds = time.monotonic() - begun
    done = read_now(running)
    after = await at_rest(running, goal=before, seconds=REST_SECONDS)
    row: Row = {
        "target": target.name,
        "requests": requests,
        "connections": CONNECTIONS,
        "seconds": seconds,
        "unexpected": mixed.unexpected,
        **growth(before, after),
        "cpu_per_request": (done.cpu - before.cpu) / requests,
        **{f"asked {name}": number for name, number in sorted(mixed.kinds.items())},
    }
    return Findings((row,), problems=tuple(problems(mixed, before, after, running.health())))


async def fill_pool(running: Running) -> None:
    """Make the server start all threads of its thread pool. The pool starts threads on demand and keeps them, so a
    later start would look like a leak. The bench requests `/health`, because it needs a thread of the pool to read the
    server's memory use."""
    if running.health_path is not None:
        ask = Ask(running.host, running.port, running.health_path, None)
        await asyncio.gather(*(whole(ask) for _ in range(POOLED)))


async def at_rest(running: Running, *, seconds: float, goal: Reading | None = None) -> Reading:
    """Wait for `seconds` and return a reading. With a `goal`, return as soon as the server has cleaned up after every
    request: it has no more threads, descriptors or processes than in `goal`, and reports no held bytes."""
    end = time.monotonic() + seconds
    reading = await base_of(running)
    while time.monotonic() < end and (goal is None or grown(goal, reading) or busy(running.health() or {})):
        reading = await base_of(running)
    return reading


def grown(before: Reading, after: Reading) -> dict[str, int]:
    """Return by how much the numbers of threads, descriptors, processes and zombies grew. Numbers that did not grow are
    left out."""
    names = ("threads", "fds", "processes", "zombies")
    more = {name: getattr(after, name) - getattr(before, name) for name in names}
    return {name: number for name, number in more.items() if number > 0}


def busy(health: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts of the health report that are not zero although a server at rest should report zero."""
    if not health:
        return {}
    found = {name: int(health[name]) for name in ("streams", "waiting", "upstreams", "buffered_bytes")}
    found["budget"] = int(health["budget"]["used"])
    return {name: number for name, number in found.items() if number}


def growth(before: Reading, after: Reading) -> Row:
    memory = {f"growth_{name}": getattr(after, name) - getattr(before, name) for name in ("pss", "uss", "rss")}
    counts: Row = {}
    for name in ("threads", "fds", "processes"):
        counts |= {f"{name}_before": getattr(before, name), f"{name}_after": getattr(after, name)}
    sizes = {"pss_before": before.pss, "pss_after": after.pss, "rss_before": before.rss, "rss_after": after.rss}
    return {**sizes, **memory, **counts, "zombies": after.zombies}


def problems(mixed: Mixed, before: Reading, after: Reading, health: Mapping[str, Any] | None) -> Iterator[str]:
    if mixed.unexpected:
        yield f"{mixed.unexpected} requests did not end as expected: {'; '.join(mixed.reasons)}"
    if left := grown(before, after):
        yield f"not released after the run: {_listed(left)}"
    if left := busy(health or {}):
        yield f"still in use after the run: {_listed(left)}"


def _listed(left: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in left.items())


# --- soak ----------------------------------------------------------------------------------------------------------


def soak_cells(plan: Plan) -> Iterator[Cell]:
    minutes = plan.minutes or plan.by_mode(1, 30, 60)
    for target in plan.those("relay"):
        yield Cell(f"{target.title}, {minutes:g} minutes", 60 * minutes + 40, partial(soak, 60.0 * minutes))


def soak(seconds: float, bench: Bench) -> Findings:
    target = TARGETS["relay"]
    with closed_port() as port, bench.start(target, _settings(target, bench, port)) as running:
        mixture = kinds(target.name, bench, running, port)
        return bench.run(_soaked(target, mixture, seconds, bench, running))


async def _soaked(
    target: Target, mixture: tuple[Kind, ...], seconds: float, bench: Bench, running: Running
) -> Findings:
    slow = ask_for(running, LARGE)
    await warm_up(running, slow)
    await ask_all(mixture, CONNECTIONS, seconds=min(20.0, seconds / 10))
    await fill_pool(running)
    before = await at_rest(running, seconds=bench.by_mode(0.0, KEPT_SECONDS, KEPT_SECONDS))
    begun = time.monotonic()
    with sampler_of(running, SOAK_HZ) as sampler:
        async with Crowd(slow, RATE) as crowd:
            await crowd.join(SLOW)
            churn = spawn(_come_and_go(crowd), name="come and go")
            asking = spawn(ask_all(mixture, CONNECTIONS, seconds=seconds), name="mixture")
            try:
                await watched(sampler, seconds)
                mixed = await asking
            finally:
                for task in (churn, asking):
                    await cancel(task)
            crowd.leave()
            readings = sampler.readings
    after = await at_rest(running, goal=before, seconds=REST_SECONDS)
    complete, _, _ = count(crowd.outcomes)  # `count` raises BenchError if a client got wrong bytes
    lost = len(crowd.outcomes) - complete
    row: Row = {
        "target": target.name,
        "seconds": seconds,
        "requests": mixed.kinds.total(),
        "slow_clients": len(crowd.outcomes),
        "unexpected": mixed.unexpected,
        **growth(before, after),
        **trend([reading.t for reading in readings], [reading.pss for reading in readings]),
    }
    found = [*problems(mixed, before, after, running.health())]
    if lost:
        found.append(f"{lost} slow clients lost their stream: {why(crowd.outcomes)}")
    series: Row = {
        "target": target.name,
        "t": [round(reading.t - begun, 1) for reading in readings],
        "pss": [reading.pss for reading in readings],
        "uss": [reading.uss for reading in readings],
    }
    return Findings((row,), (series,), tuple(found))


async def _come_and_go(crowd: Crowd) -> None:
    """Replace one client of the crowd per second, forever."""
    while True:
        await asyncio.sleep(1.0)
        crowd.leave(1)
        await crowd.join(1)


def trend(times: Sequence[float], pss: Sequence[int]) -> Row:
    """Return the median PSS of the first and of the last quarter of the readings, and the slope of their least-squares
    line in bytes per hour. Raises BenchError if there are fewer than four readings."""
    require(len(pss) >= 4, "too few readings")
    quarter = len(pss) // 4
    slope = statistics.linear_regression(times, pss).slope
    return {
        "pss_first_quarter": statistics.median(pss[:quarter]),
        "pss_last_quarter": statistics.median(pss[-quarter:]),
        "pss_slope_per_hour": slope * 3600,
    }


MIXED = Scenario("mixed", "Requests of all kinds, and what they leave behind", mixed_cells, ("relay", "embedded"))
SOAK = Scenario("soak", "Half an hour of mixed load", soak_cells, ("relay",), only_named=True)
