"""`idle`: the memory of the process tree after the start and the first extraction, and after an idle time in which the
worker has ended; then the latency of the next request."""

from __future__ import annotations

import time
from collections.abc import Iterator

from serverpy.bench.measure.clients import leaving
from serverpy.bench.measure.exchange import GOOD, Ask, Outcome
from serverpy.bench.measure.sampler import Reading
from serverpy.bench.measure.scenarios.base import Bench, Cell, Findings, Plan, Row, Scenario, require
from serverpy.bench.measure.scenarios.measuring import SMALL, ask_for, base_of, check_whole
from serverpy.bench.measure.targets import TARGETS, Running

NAME = "relay"
WORKER_IDLE = 2
"""The setting WORKER_IDLE, in seconds: short, but longer than the pause between two requests of this scenario."""
LONGEST_SECONDS = 30.0


def cells(plan: Plan) -> Iterator[Cell]:
    if plan.those(NAME):
        yield Cell("with and without the worker", plan.by_mode(8, 10, 10), measure)


def measure(bench: Bench) -> Findings:
    with bench.start(TARGETS[NAME], {"WORKER_IDLE": WORKER_IDLE}) as running:
        return bench.run(_rows(running))


async def _rows(running: Running) -> Findings:
    known = ask_for(running, SMALL, fresh=f"idle-{time.monotonic_ns()}")
    first = await check_whole(running, known)
    rows = [_row("first extraction", await base_of(running), first)]
    idle = await _let_go(running)
    rows.append(_row("worker let go", idle))
    again = await _asked(known)
    rows.append(_row("a known page", await base_of(running), again))
    new = await _asked(ask_for(running, SMALL, fresh=f"idle-{time.monotonic_ns()}"))
    rows.append(_row("a new page", await base_of(running), new))
    return Findings(tuple(rows))


async def _let_go(running: Running) -> Reading:
    """Wait until only the serving process is left, and return a reading. Raises BenchError if the worker does not
    end."""
    end = time.monotonic() + LONGEST_SECONDS
    while (reading := await base_of(running)).processes > 1:
        require(time.monotonic() < end, f"the idle worker did not end within {LONGEST_SECONDS:.0f} s")
    return reading


async def _asked(ask: Ask) -> Outcome:
    outcome = await leaving(ask, 1)
    require(outcome.end in GOOD, f"the request after the idle time failed: {outcome.end}: {outcome.reason}")
    return outcome


def _row(state: str, reading: Reading, outcome: Outcome | None = None) -> Row:
    return {
        "state": state,
        "pss": reading.pss,
        "uss": reading.uss,
        "rss": reading.rss,
        "processes": reading.processes,
        "threads": reading.threads,
        "first_byte": None if outcome is None else outcome.first_byte,
    }


IDLE = Scenario("idle", "The whole server, after its start and idle", cells, (NAME,))
