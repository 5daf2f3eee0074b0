"""The scenarios for time and CPU: `latency` (time to the first byte), `rate` (requests per second), and `throughput`
(speed of one fast reader)."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count as numbers
from typing import Literal
from urllib.parse import urlsplit

from serverpy.bench.measure.clients import first_byte, many
from serverpy.bench.measure.errors import BenchError
from serverpy.bench.measure.exchange import Ask, Outcome
from serverpy.bench.measure.reference import reference
from serverpy.bench.measure.sampler import Reading
from serverpy.bench.measure.scenarios.base import (
    Bench,
    Cell,
    Findings,
    Plan,
    Row,
    Scenario,
    on,
    percentile,
    require,
    settings_for,
)
from serverpy.bench.measure.scenarios.measuring import LARGE, SHORT, SMALL, ask_for, check_whole, read_now, why
from serverpy.bench.measure.targets import Running, Scheme, Target

State = Literal["cold", "cached"]

ALL = ("relay", "embedded", "subprocess", "nginx", "nginx-buffered", "seed", "httpx-relay", "mediaflow")
KEEPS_EXTRACTIONS = ("relay", "embedded")
"""Servers under test that cache extractions. The other servers extract for each request, or never."""
IN_FLIGHT = 50
CONNECTIONS = 16


def states(target: Target) -> tuple[State, ...]:
    """Return the cache states in which requests to the server can be measured: only cold if it extracts for each
    request, never cold if it never extracts."""
    if target.name in KEEPS_EXTRACTIONS:
        return ("cold", "cached")
    return ("cold",) if target.reads_pages else ("cached",)


def asks(running: Running, target: Target, state: State, media: str = SMALL) -> Callable[[], Ask]:
    """Return a function that returns the next request. If `state` is cold, each request is for a page that the server
    has not seen yet."""
    fresh = numbers()
    if state == "cold" and target.reads_pages:
        return lambda: ask_for(running, media, fresh=f"{state}-{next(fresh)}")
    ask = ask_for(running, media)
    return lambda: ask


# --- latency -------------------------------------------------------------------------------------------------------


def latency_cells(plan: Plan) -> Iterator[Cell]:
    names = plan.by_mode(("relay",), ALL, ALL)
    for target in plan.those(*names):
        work = on(target, settings_for(target, IN_FLIGHT), partial(_latency, target))
        yield Cell(target.title, plan.by_mode(3, 12, 40), work)


async def _latency(target: Target, bench: Bench, running: Running) -> Findings:
    await check_whole(running, ask_for(running, SMALL))
    origin = [await first_byte(_at_origin(bench)) for _ in range(20)]
    rows = []
    for state in states(target):
        ask = asks(running, target, state)
        requests = bench.by_mode(10, 50, 200) if state == "cached" else bench.by_mode(5, 20, 50)
        if target.name == "subprocess":
            requests = 4
        rows.append(_latency_row(target, state, 1, [await first_byte(ask()) for _ in range(requests)], origin))
    if target.name != "subprocess":
        ask = asks(running, target, "cached")
        origin = await asyncio.gather(*(first_byte(_at_origin(bench)) for _ in range(IN_FLIGHT)))
        crowd = await asyncio.gather(*(first_byte(ask()) for _ in range(IN_FLIGHT)))
        rows.append(_latency_row(target, states(target)[-1], IN_FLIGHT, list(crowd), origin))
    return Findings(tuple(rows))


def _at_origin(bench: Bench) -> Ask:
    parts = urlsplit(bench.origin.url(SMALL))
    return Ask(parts.hostname or "", parts.port or 80, parts.path, reference(SMALL))


def _latency_row(target: Target, state: State, in_flight: int, outcomes: list[Outcome], origin: list[Outcome]) -> Row:
    times, theirs = _first_bytes(outcomes), _first_bytes(origin)
    return {
        "target": target.name,
        "state": state,
        "in_flight": in_flight,
        "requests": len(times),
        "first_byte_p50": percentile(times, 0.5),
        "first_byte_p99": percentile(times, 0.99),
        "origin_first_byte_p50": percentile(theirs, 0.5),
        "origin_first_byte_p99": percentile(theirs, 0.99),
    }


def _first_bytes(outcomes: list[Outcome]) -> list[float]:
    """Return the seconds from request to first byte. Raises BenchError if a request failed or got wrong bytes."""
    times = [each.first_byte for each in outcomes if each.first_byte is not None and each.end in ("complete", "left")]
    require(len(times) == len(outcomes), f"{len(outcomes) - len(times)} of {len(outcomes)} failed: {why(outcomes)}")
    return times


# --- rate ----------------------------------------------------------------------------------------------------------


def rate_cells(plan: Plan) -> Iterator[Cell]:
    names = plan.by_mode(("relay",), ALL, ALL)
    for target in plan.those(*names):
        seconds = len(states(target)) * plan.by_mode(1.5, 5.0, 15.0) + (8 if target.name == "subprocess" else 3)
        connections = 2 if target.name == "subprocess" else CONNECTIONS
        work = on(target, settings_for(target, connections), partial(_rate, target, connections))
        yield Cell(target.title, seconds, work)


async def _rate(target: Target, connections: int, bench: Bench, running: Running) -> Findings:
    await check_whole(running, ask_for(running, SHORT))
    rows = []
    for state in states(target):
        ask = asks(running, target, state, SHORT)
        await many(ask, connections, count=connections)  # the figures exclude the first request on each connection
        before = read_now(running)
        seconds = bench.by_mode(1.5, 5.0, 15.0)
        tally = await many(ask, connections, seconds=2 * seconds if target.name == "subprocess" else seconds)
        after = read_now(running)
        require(tally.complete == tally.total > 0, f"{tally.total - tally.complete} failed: {'; '.join(tally.reasons)}")
        row: Row = {
            "target": target.name,
            "state": state,
            "requests": tally.complete,
            "connections": connections,
            "requests_per_second": tally.complete / tally.seconds,
            "requests_per_cpu_second": _per_cpu(tally.complete, before, after),
        }
        rows.append(row)
    return Findings(tuple(rows))


def _per_cpu(requests: int, before: Reading, after: Reading) -> float | None:
    """Return the requests per CPU second. Returns None if the CPU time is too short to measure, because the kernel
    counts it in ticks of 10 ms."""
    cpu = after.cpu - before.cpu
    return requests / cpu if cpu >= 0.1 else None


# --- throughput ----------------------------------------------------------------------------------------------------

FAST = ("nginx", "nginx-buffered", "relay", "embedded", "seed", "httpx-relay", "mediaflow")
SECURE = ("nginx", "relay", "embedded", "mediaflow")


def throughput_cells(plan: Plan) -> Iterator[Cell]:
    """Yield one measurement (cell) of all servers for each URL scheme. The rounds of the servers alternate, so that
    other load on the machine affects all servers equally."""
    http = plan.those(*plan.by_mode(("nginx", "relay"), FAST, FAST))
    https = [target for target in plan.those(*plan.by_mode((), SECURE, SECURE)) if "https" in target.schemes]
    rounds = plan.by_mode(1, 5, 10)
    schemes: tuple[tuple[list[Target], Scheme], ...] = ((http, "http"), (https, "https"))
    for targets, scheme in schemes:
        if targets:
            seconds = len(targets) * (2 + 1.5 * (rounds + 1))
            yield Cell(f"{len(targets)} targets over {scheme}", seconds, partial(_throughput, targets, scheme, rounds))


def _throughput(targets: list[Target], scheme: Scheme, rounds: int, bench: Bench) -> Findings:
    problems: list[str] = []
    with ExitStack() as stack:
        there: dict[str, Running] = {}
        for target in targets:
            try:
                there[target.name] = stack.enter_context(bench.start(target))
            except BenchError as error:
                problems.append(str(error))
        return bench.run(_throughput_rows(there, scheme, rounds, problems))


async def _throughput_rows(there: dict[str, Running], scheme: Scheme, rounds: int, problems: list[str]) -> Findings:
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in there}
    for number in range(rounds + 1):  # the first round warms the servers up and is not counted
        for name in list(runs):
            try:
                run = await _fast(there[name], scheme)
            except BenchError as error:
                problems.append(f"{name}: {error}")
                del runs[name]
                continue
            if number:
                runs[name].append(run)
    best = statistics.fmean(cpu for cpu, _ in runs["nginx"]) if runs.get("nginx") else None
    rows = [_throughput_row(name, scheme, found, best) for name, found in runs.items()]
    return Findings(tuple(rows), problems=tuple(problems))


async def _fast(running: Running, scheme: Scheme) -> tuple[float, float]:
    """Read one large file. Returns the CPU seconds per GB that the server used, and its bytes per second."""
    before = read_now(running)
    outcome = await check_whole(running, ask_for(running, LARGE, scheme=scheme))
    cpu = read_now(running).cpu - before.cpu
    return cpu / outcome.received * 1e9, outcome.received / outcome.seconds


def _throughput_row(name: str, scheme: Scheme, runs: list[tuple[float, float]], best: float | None) -> Row:
    each = [cpu for cpu, _ in runs]
    # The rounding error of the CPU time (one tick, 10 ms) is no larger for the sum of all rounds than for one round.
    cpu = statistics.fmean(each)
    return {
        "target": name,
        "scheme": scheme,
        "rounds": len(runs),
        "cpu_per_gb": cpu,
        "cpu_per_gb_least": min(each),
        "cpu_per_gb_most": max(each),
        "bytes_per_second": statistics.median(speed for _, speed in runs),
        "ratio_to_nginx": cpu / best if best else None,
    }


LATENCY = Scenario("latency", "Time to the first byte", latency_cells, ALL)
RATE = Scenario("rate", "Requests per second, 64 KB each", rate_cells, ALL)
THROUGHPUT = Scenario("throughput", "CPU per GB, one fast reader", throughput_cells, FAST)
