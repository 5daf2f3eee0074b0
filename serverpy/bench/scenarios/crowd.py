"""`crowd`: 10, 50, 200 and 1,000 clients that read a long file slowly. What each of them costs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from serverpy.bench.clients import Crowd, Outcome
from serverpy.bench.sampler import Reading
from serverpy.bench.scenarios.base import OURS, Bench, Cell, Findings, Plan, Row, Scenario, percentile, settings_for
from serverpy.bench.scenarios.measuring import (
    LARGE,
    Plateau,
    ask_for,
    base_of,
    count,
    plateau,
    sampler_of,
    warm_up,
    why,
)
from serverpy.bench.targets import Running, Scheme, Target

RATE = 64 * 1024
"""Bytes a second that each client reads."""
RELAYS = ("relay", "embedded", "nginx", "nginx-buffered", "seed", "httpx-relay", "mediaflow")
MANY = ("relay", "nginx", "httpx-relay", "mediaflow")
CHILD_SECONDS = 4.0
"""CPU that one child takes to start, on a slow core."""


def cells(plan: Plan) -> Iterator[Cell]:
    for clients in plan.streams or plan.by_mode((10, 50), (10, 50, 200), (10, 50, 200)):
        for target in plan.those(*plan.by_mode(("relay", "embedded", "nginx"), RELAYS, RELAYS)):
            yield cell(target, clients, "http")
    for target in plan.those("subprocess"):
        for clients in plan.streams or plan.by_mode((), (10, 50), (10, 50, 200)):
            yield cell(target, clients, "http")
    if plan.mode == "quick" or plan.streams:
        return
    for target in plan.those("relay", "embedded", "nginx", "seed", "mediaflow"):
        if "https" in target.schemes:
            yield cell(target, 200, "https")
    for target in plan.those(*MANY):
        yield cell(target, 1000, "http")


def cell(target: Target, clients: int, scheme: Scheme) -> Cell:
    seconds = 12 + clients / 20 + (clients * CHILD_SECONDS / 2 if target.name == "subprocess" else 0)
    return Cell(f"{target.title}, {clients} clients, {scheme}", seconds, partial(measure, target, clients, scheme))


def measure(target: Target, clients: int, scheme: Scheme, bench: Bench) -> Findings:
    with bench.start(target, settings_for(target, clients)) as running:
        return bench.run(_measure(target, clients, scheme, bench, running))


async def _measure(target: Target, clients: int, scheme: Scheme, bench: Bench, running: Running) -> Findings:
    ask = ask_for(running, LARGE, scheme=scheme, patience=60 + CHILD_SECONDS * clients)
    await warm_up(running, ask)
    base = await base_of(running)
    with sampler_of(running) as sampler:
        async with Crowd(ask, RATE) as crowd:
            await crowd.join(clients)
            flat = await plateau(sampler, bench.by_mode(2.0, 6.0, 15.0), longest=bench.by_mode(10.0, 60.0, 120.0))
            health = running.health()
            crowd.leave()
            outcomes = crowd.outcomes
        highest = sampler.peak("pss")
    after = await base_of(running, seconds=2.0)
    row = _row(target, clients, scheme, base, flat, after, outcomes)
    row["highest_pss"] = highest
    row["lag_p99"] = None if health is None else health["loop_lag"]["p99"] / 1000
    return Findings(rows=(row,), problems=_problems(target, row, outcomes))


def _row(
    target: Target,
    clients: int,
    scheme: Scheme,
    base: Reading,
    flat: Plateau,
    after: Reading,
    outcomes: list[Outcome],
) -> Row:
    complete, failed, refused = count(outcomes)
    first_bytes = [outcome.first_byte for outcome in outcomes if outcome.first_byte is not None]
    stalls = [outcome.stall for outcome in outcomes if outcome.stall is not None]
    return {
        "target": target.name,
        "clients": clients,
        "scheme": scheme,
        "base_pss": base.pss,
        "peak_pss": flat.peak_pss,
        "after_pss": after.pss,
        "each_pss": (flat.peak_pss - base.pss) / clients if complete == clients else None,
        "rss_peak": flat.peak_rss,
        "processes": max(reading.processes for reading in flat.readings),
        "threads": max(reading.threads for reading in flat.readings),
        "cpu": flat.cpu,
        "complete": complete,
        "failed": failed,
        "refused": refused,
        "first_byte_p50": percentile(first_bytes, 0.5),
        "first_byte_p99": percentile(first_bytes, 0.99),
        "longest_stall": max(stalls, default=None),
        "settled": flat.settled,
        "settling": flat.settling,
    }


def _problems(target: Target, row: Row, outcomes: list[Outcome]) -> tuple[str, ...]:
    """A rival may lose some of its clients, and the row says how many; we may not. Nobody may lose all."""
    lost = row["failed"] + row["refused"]
    if not lost or (target.name not in OURS and row["complete"]):
        return ()
    return (f"{lost} of {row['clients']} clients had no stream: {why(outcomes)}",)


CROWD = Scenario("crowd", "Clients that read slowly", cells, (*OURS, *RELAYS))
