"""The effects of the embedded method's settings: `hand-over` (queue × chunk), `workers`, `collect` (garbage collection)
and `overload` (with and without a limit on streams)."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from functools import partial

from serverpy.bench.measure.clients import Crowd, first_byte, for_a_while, many
from serverpy.bench.measure.pipes import held_in_pipes
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
from serverpy.bench.measure.scenarios.measuring import (
    LARGE,
    RATE,
    SMALL,
    ask_for,
    base_of,
    count,
    hold,
    lost,
    plateau,
    read_now,
    sampler_of,
    warm_up,
    why,
)
from serverpy.bench.measure.targets import Running

NAME = "embedded"
QUEUES = (5, 10, 20, 50)
CHUNKS = (8 * 1024, 64 * 1024, 1024 * 1024)
QUICK_CELLS = ((20, 64 * 1024),)
HAND_OVERS = 10
FIRST_BYTES = 5
POOLS = (5, 10, 20, 50)
LIMIT, ASKED = 20, 100


# --- hand-over -----------------------------------------------------------------------------------------------------


def hand_over_cells(plan: Plan) -> Iterator[Cell]:
    every = tuple((queue, chunk) for queue in QUEUES for chunk in CHUNKS)
    clients = plan.by_mode(4, HAND_OVERS, HAND_OVERS)
    for target in plan.those(NAME):
        for queue, chunk in plan.by_mode(QUICK_CELLS, every, every):
            settings = settings_for(target, clients, QUEUE_CHUNKS=queue, CHUNK_BYTES=chunk)
            title = f"queue of {queue}, chunks of {chunk // 1024} KiB"
            work = on(target, settings, partial(_hand_over, queue, chunk, clients))
            yield Cell(title, plan.by_mode(6, 11, 30), work)


async def _hand_over(queue: int, chunk: int, clients: int, bench: Bench, running: Running) -> Findings:
    ask = ask_for(running, LARGE)
    await warm_up(running, ask)
    fast = await for_a_while(ask, bench.by_mode(1.0, 3.0, 10.0))
    firsts = [await first_byte(ask) for _ in range(FIRST_BYTES)]
    count([fast, *firsts])  # `count` raises if bytes are wrong
    times = [outcome.first_byte for outcome in firsts if outcome.first_byte is not None]
    require(len(times) == FIRST_BYTES, f"no first byte: {why(firsts)}")
    base = await base_of(running)
    with sampler_of(running) as sampler:
        async with Crowd(ask, RATE) as crowd:
            await crowd.join(clients)
            flat = await plateau(sampler, bench.by_mode(1.0, 3.0, 10.0), longest=bench.by_mode(5.0, 20.0, 60.0))
            pipes = held_in_pipes(running.pid)
            crowd.leave()
            complete, failed, refused = count(crowd.outcomes)
    require(complete == clients, f"{failed + refused} of {clients} clients had no stream: {why(crowd.outcomes)}")
    row: Row = {
        "queue_chunks": queue,
        "chunk_bytes": chunk,
        "clients": clients,
        "base_pss": base.pss,
        "peak_pss": flat.peak_pss,
        "each_pss": (flat.peak_pss - base.pss) / clients,
        "pipe_bytes": pipes / clients,
        "throughput": fast.received / fast.seconds,
        "first_byte": statistics.median(times),
        "settled": flat.settled,
    }
    return Findings((row,))


# --- workers -------------------------------------------------------------------------------------------------------


def workers_cells(plan: Plan) -> Iterator[Cell]:
    for target in plan.those(NAME):
        for pool in plan.by_mode((), POOLS, POOLS):
            work = on(target, settings_for(target, pool, MAX_WORKERS=pool), partial(_workers, pool))
            yield Cell(f"{pool} workers", plan.by_mode(10, 18, 40), work)


async def _workers(pool: int, bench: Bench, running: Running) -> Findings:
    ask = ask_for(running, LARGE)
    await warm_up(running, ask)
    held = await hold(bench, running, ask, pool)
    seconds = bench.by_mode(1.5, 4.0, 10.0)
    fast = await asyncio.gather(*(for_a_while(ask, seconds) for _ in range(pool)))
    complete, _, _ = count(fast)
    require(complete == pool, why(fast))
    row: Row = {
        "max_workers": pool,
        "base_pss": held.base.pss,
        "peak_pss": held.flat.peak_pss,
        "each_pss": held.each_pss,
        "throughput": sum(outcome.received for outcome in fast) / seconds,
    }
    return Findings((row,), problems=lost(held))


# --- collect -------------------------------------------------------------------------------------------------------


def collect_cells(plan: Plan) -> Iterator[Cell]:
    for target in plan.those(NAME) if plan.mode != "quick" else ():
        for collecting in (False, True):
            setting = f"GC_AFTER_STREAM={str(collecting).lower()}"
            settings = settings_for(target, 8, GC_AFTER_STREAM=str(collecting).lower())
            yield Cell(setting, plan.by_mode(6, 15, 60), on(target, settings, partial(_collect, collecting)))


async def _collect(collecting: bool, bench: Bench, running: Running) -> Findings:
    ask = ask_for(running, SMALL)
    await warm_up(running, ask)
    before = await base_of(running)
    requests = bench.by_mode(100, 500, 2000)
    tally = await many(lambda: ask, 4, count=requests)
    require(tally.complete == requests, f"{requests - tally.complete} requests failed: {'; '.join(tally.reasons)}")
    done = read_now(running)
    after = await base_of(running, seconds=2.0)
    row: Row = {
        "gc_after_stream": collecting,
        "requests": requests,
        "base_pss": before.pss,
        "after_pss": after.pss,
        "cpu_per_request": (done.cpu - before.cpu) / requests,
    }
    return Findings((row,))


# --- overload ------------------------------------------------------------------------------------------------------


def overload_cells(plan: Plan) -> Iterator[Cell]:
    for target in plan.those(NAME) if plan.mode != "quick" else ():
        for limited in (False, True):
            settings = settings_for(target, ASKED, **({"MAX_STREAMS": LIMIT, "WAIT_SECONDS": 1} if limited else {}))
            title = f"{ASKED} clients, {f'limit of {LIMIT} streams' if limited else 'no limit'}"
            yield Cell(title, plan.by_mode(6, 18, 35), on(target, settings, partial(_overload, limited)))


async def _overload(limited: bool, bench: Bench, running: Running) -> Findings:
    ask = ask_for(running, LARGE)
    await warm_up(running, ask)
    held = await hold(bench, running, ask, ASKED)
    served, failed, refused = count(held.outcomes)
    firsts = [outcome.first_byte for outcome in held.outcomes if outcome.first_byte is not None]
    row: Row = {
        "limited": limited,
        "limit": LIMIT if limited else None,
        "asked": ASKED,
        "served": served,
        "refused": refused,
        "failed": failed,
        "base_pss": held.base.pss,
        "peak_pss": held.flat.peak_pss,
        "first_byte_p99": percentile(firsts, 0.99),
    }
    expected = LIMIT if limited else ASKED
    right = served == expected and not failed
    problem = f"{served} of {ASKED} clients were served, expected {expected}: {why(held.outcomes)}"
    return Findings((row,), problems=() if right else (problem,))


HAND_OVER = Scenario("hand-over", "Queue × chunk of the embedded method", hand_over_cells, (NAME,))
WORKERS = Scenario("workers", "Workers of the embedded method", workers_cells, (NAME,))
COLLECT = Scenario("collect", "Collecting garbage after each stream", collect_cells, (NAME,))
OVERLOAD = Scenario("overload", "More clients than streams, with a limit and without", overload_cells, (NAME,))
