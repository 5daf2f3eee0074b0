"""The scenario `crowd`: the cost of each of 10, 50, 200 and 1,000 clients that read a long file slowly."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from serverpy.bench.measure.scenarios.base import (
    OURS,
    Bench,
    Cell,
    Findings,
    Mode,
    Plan,
    Row,
    Scenario,
    on,
    percentile,
    settings_for,
)
from serverpy.bench.measure.scenarios.measuring import CHILD_SECONDS, LARGE, ask_for, count, hold, lost, warm_up
from serverpy.bench.measure.targets import Running, Scheme, Target

RELAYS = ("relay", "embedded", "nginx", "nginx-buffered", "seed", "httpx-relay", "mediaflow")
QUICK = ("relay", "embedded", "nginx")
SECURE = ("relay", "embedded", "nginx", "seed", "mediaflow")
MANY = ("relay", "nginx", "httpx-relay", "mediaflow")


def cells(plan: Plan) -> Iterator[Cell]:
    for clients in plan.streams or plan.by_mode((50,), (10, 50, 200), (10, 50, 200)):
        for target in plan.those(*plan.by_mode(QUICK, RELAYS, RELAYS)):
            yield cell(target, clients, "http", plan.mode)
    for clients in plan.streams or plan.by_mode((), (10, 50), (10, 50, 200)):
        for target in plan.those("subprocess"):
            yield cell(target, clients, "http", plan.mode)
    if plan.mode == "quick" or plan.streams:
        return
    for target in plan.those(*SECURE):
        yield cell(target, 200, "https", plan.mode)
    for scheme in ("http", "https"):
        for target in plan.those(*plan.by_mode((), MANY[:2], MANY)):
            if scheme in target.schemes:
                yield cell(target, 1000, scheme, plan.mode)


def cell(target: Target, clients: int, scheme: Scheme, mode: Mode) -> Cell:
    children = clients * CHILD_SECONDS / 2 if target.name == "subprocess" else 0
    seconds = (5 if mode == "quick" else 11) + clients / 25 + children
    work = on(target, settings_for(target, clients), partial(_measure, target, clients, scheme))
    return Cell(f"{target.title}, {clients} clients, {scheme}", seconds, work)


async def _measure(target: Target, clients: int, scheme: Scheme, bench: Bench, running: Running) -> Findings:
    ask = ask_for(running, LARGE, scheme=scheme, patience=60 + CHILD_SECONDS * clients)
    await warm_up(running, ask)
    held = await hold(bench, running, ask, clients)
    complete, failed, refused = count(held.outcomes)
    first_bytes = [outcome.first_byte for outcome in held.outcomes if outcome.first_byte is not None]
    row: Row = {
        "target": target.name,
        "clients": clients,
        "scheme": scheme,
        "base_pss": held.base.pss,
        "peak_pss": held.flat.peak_pss,
        "after_pss": held.after.pss,
        "highest_pss": held.highest_pss,
        "each_pss": held.each_pss,
        "each_uss": held.each_uss,
        "pipe_bytes": held.pipe_bytes / clients,
        "rss_peak": held.flat.peak("rss"),
        "processes": held.flat.peak("processes"),
        "threads": held.flat.peak("threads"),
        "cpu": held.flat.cpu,
        "complete": complete,
        "failed": failed,
        "refused": refused,
        "first_byte_p50": percentile(first_bytes, 0.5),
        "first_byte_p99": percentile(first_bytes, 0.99),
        "lag_p99": held.lag_p99,
        "longest_stall": max((o.stall for o in held.outcomes if o.stall is not None), default=None),
        "settled": held.flat.settled,
        "settling": held.flat.settling,
    }
    # Some streams of a competitor may fail: the row says how many. No stream of ServerPY may fail, and not all streams
    # of any server.
    return Findings((row,), problems=lost(held) if target.name in OURS or not complete else ())


CROWD = Scenario("crowd", "Clients that read slowly", cells, (*RELAYS, "subprocess"))
