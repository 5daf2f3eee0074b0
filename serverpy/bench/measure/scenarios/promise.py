"""The scenario `promise`: whether the server keeps to MEMORY_BUDGET. Many more clients connect at the same time than
the budget has room for, and half of them are slow. The memory of the serving process must stay below its base plus 110
% of the budget, and no client may get wrong or missing bytes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Literal

from serverpy.bench.measure.clients import Crowd, for_a_while
from serverpy.bench.measure.confine import How, confined
from serverpy.bench.measure.exchange import Ask, Outcome
from serverpy.bench.measure.sampler import Reading, Sampler, read
from serverpy.bench.measure.scenarios.base import Bench, Cell, Findings, Plan, Row, Scenario
from serverpy.bench.measure.scenarios.measuring import (
    CLIP,
    LARGE,
    ask_for,
    base_of,
    check_whole,
    sampler_of,
    warm_up,
    watched,
    why,
)
from serverpy.bench.measure.targets import Running, Target
from serverpy.tasks import cancel, spawn

NAMES = ("relay", "embedded")
MIB = 1 << 20
BUDGET = 64 * MIB
BEYOND = 0.10
"""Memory that the serving process may use beyond its base plus its budget, as a share of the budget."""
MARGIN = 64 * MIB
"""Bytes for the stacks of threads that a process may still start after its memory is limited. A stack is address space,
of which a thread uses hardly any.
"""
SLOW_RATE = 16 * 1024
READ_BYTES = 32 * 1024
"""Bytes per read of a fast client. They are few, because the bench has a thousand fast clients."""
MAX_WORKERS = 100
HZ = 20.0

Kind = Literal["served", "refused", "timed_out", "failed", "wrong"]


@dataclass(frozen=True, slots=True)
class Load:
    """The number of clients that connect at the same time, and the number of seconds for which the scenario watches the
    server."""

    clients: int
    seconds: float
    budget: int = BUDGET

    @property
    def allowed(self) -> float:
        """The number of bytes that the serving process may use beyond its base."""
        return self.budget * (1 + BEYOND)


def cells(plan: Plan) -> Iterator[Cell]:
    clients, seconds = plan.by_mode(200, 2000, 2000), plan.by_mode(5.0, 20.0, 40.0)
    load = Load(clients, seconds)
    for target in plan.those(*plan.by_mode(NAMES[:1], NAMES, NAMES)):
        for limited in plan.by_mode((False,), (False, True), (False, True)):
            title = f"{target.title}, {clients} clients{', its memory limited' if limited else ''}"
            yield Cell(title, seconds + plan.by_mode(3, 8, 8), partial(measure, target, load, limited))


def measure(target: Target, load: Load, limited: bool, bench: Bench) -> Findings:
    settings = {
        "MEMORY_BUDGET": load.budget,
        "MAX_STREAMS": 2 * load.clients,
        "MAX_WORKERS": MAX_WORKERS,
        "WAIT_SECONDS": max(1, int(load.seconds / 2)),
        "EXTRACT_TIMEOUT": 300,
    }
    with bench.start(target, settings) as running:
        return bench.run(_measure(target, load, limited, running))


async def _measure(target: Target, load: Load, limited: bool, running: Running) -> Findings:
    slow, fast = ask_for(running, LARGE), ask_for(running, CLIP)
    for ask in (slow, fast):
        await warm_up(running, ask)
    tree = await base_of(running)
    base = read(running.pid, alone=True)
    begun = time.monotonic()
    with _limit(running, load, limited, base) as how, Sampler(running.pid, HZ, alone=True) as alone:
        with sampler_of(running) as whole:
            outcomes = await arrive(slow, fast, load, alone)
        await check_whole(running, fast)
        readings = alone.readings
    found = count(outcomes)
    allowed = base.pss + load.allowed
    row: Row = {
        "target": target.name,
        "limit": how,
        "clients": load.clients,
        "seconds": load.seconds,
        "budget": load.budget,
        "base_pss": base.pss,
        "highest_pss": max(reading.pss for reading in readings),
        "highest_uss": max(reading.uss for reading in readings),
        "allowed_pss": allowed,
        "held": max(reading.pss for reading in readings) <= allowed,
        "readings": len(readings),
        "tree_base_pss": tree.pss,
        "tree_highest_pss": int(whole.peak("pss")),
        "tree_held": whole.peak("pss") <= tree.pss + load.allowed,
        **{kind: found[kind] for kind in ("served", "refused", "timed_out", "failed", "wrong")},
    }
    series: Row = {
        "target": target.name,
        "limit": how,
        "allowed": allowed,
        "t": [round(reading.t - begun, 3) for reading in readings],
        "pss": [reading.pss for reading in readings],
    }
    return Findings((row,), (series,), tuple(problems(row, outcomes)))


def _limit(running: Running, load: Load, limited: bool, base: Reading) -> AbstractContextManager[How | None]:
    if not limited:
        return contextlib.nullcontext()
    return confined(running.pid, int(load.allowed) + MARGIN, base.rss)


async def arrive(slow: Ask, fast: Ask, load: Load, sampler: Sampler) -> list[Outcome]:
    """Let all clients connect at the same time. The slow clients stay; the fast ones disconnect when they have the
    whole body or the time is over. Raises TargetDied if the server ends."""
    half = load.clients // 2
    async with Crowd(slow, SLOW_RATE, at_once=half) as crowd, asyncio.TaskGroup() as group:
        joining = spawn(crowd.join(half), name="join")
        tasks = [
            group.create_task(for_a_while(fast, load.seconds, at_most=READ_BYTES), name=f"fast-{number}")
            for number in range(load.clients - half)
        ]
        try:
            await watched(sampler, load.seconds)
        finally:
            crowd.leave()
            await cancel(joining)
    return [*crowd.outcomes, *(task.result() for task in tasks)]


def count(outcomes: Sequence[Outcome]) -> Counter[Kind]:
    return Counter(kind_of(outcome) for outcome in outcomes)


def kind_of(outcome: Outcome) -> Kind:
    """Return how the request ended for the client. A refusal counts as failed unless it is a 503 with Retry-After."""
    if outcome.end == "wrong":
        return "wrong"
    if outcome.end in ("complete", "left"):
        return "served" if outcome.received else "timed_out"
    if outcome.end == "refused":
        return "refused" if outcome.status == 503 and outcome.retry_after else "failed"
    return "timed_out" if outcome.reason.startswith(("no byte", "silent")) else "failed"


def problems(row: Row, outcomes: Sequence[Outcome]) -> Iterator[str]:
    if not row["held"]:
        yield f"memory above the limit: {row['highest_pss']} bytes, but only {row['allowed_pss']:.0f} are allowed"
    if row["wrong"] or row["failed"] or not row["served"]:
        bad = [outcome for outcome in outcomes if kind_of(outcome) in ("wrong", "failed")]
        yield f"{row['wrong']} clients got wrong bytes, {row['failed']} failed, {row['served']} were served: {why(bad)}"


PROMISE = Scenario("promise", "The memory budget as a promise", cells, NAMES)
