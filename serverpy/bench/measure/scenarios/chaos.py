"""The scenario `chaos`: minutes of random faults with 200 clients. Media servers fail; clients leave, stop reading and
seek; the scenario kills and stops worker processes and child processes of ServerPY.

No client may get wrong bytes, a short body that looks complete, no response, or an undocumented error. At the same
time, honest clients read streams from media servers without faults. ServerPY must not cut the streams that these
clients read by relay or weave. After the run, ServerPY must hold no more resources than before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import psutil

from serverpy.bench.measure.reference import Reference, reference
from serverpy.bench.measure.sampler import Reading, read
from serverpy.bench.measure.scenarios.base import Bench, Cell, Findings, Plan, Row, Scenario, percentile, require
from serverpy.bench.measure.scenarios.measuring import CLIP, base_of, sampler_of, watched
from serverpy.bench.measure.scenarios.mixed_load import at_rest, busy, fill_pool, grown, growth
from serverpy.bench.measure.scenarios.trouble import (
    METHODS,
    PATIENCE_SECONDS,
    Ledger,
    World,
    client,
    honest,
    vandal,
)
from serverpy.bench.measure.targets import TARGETS, Running
from serverpy.bench.measure.targets.base import ask
from serverpy.bench.measure.targets.tube import WithTube
from serverpy.sample.content import HeldContent
from serverpy.tasks import cancel, spawn

HONEST = {"relay": 6, "weave": 4, "embedded": 2}
"""Number of honest clients, which read streams from media servers without faults, by method."""
SETTINGS = {
    "STALL_TIMEOUT": 5,
    "CONNECT_TIMEOUT": 5,
    "EXTRACT_TIMEOUT": 30,
    "WAIT_SECONDS": 60,
    "MAX_STREAMS": 400,
    "CLIENT_STREAMS": 400,
    "MAX_WORKERS": 100,
    "MAX_CHILDREN": 4,
    "MEMORY_BUDGET": "256MiB",
}
WARM_SHARE = 0.15
WARM_SECONDS = 60.0
START_SECONDS = 10.0
"""Estimate of the seconds that the start and the end of the server take."""
KEPT_SECONDS = 15.0
"""Seconds after the last request within which ServerPY closes its idle connections to media servers."""
FINISH_SECONDS = PATIENCE_SECONDS + 10.0
"""Maximum number of seconds after the run in which clients may finish their last request. A client that gets no byte
gives up before that."""
REST_SECONDS = 90.0
"""Maximum number of seconds after the last request in which ServerPY may release its resources."""
GROWTH_SHARE, GROWTH_BYTES = 0.15, 16 << 20
"""Maximum increase of the PSS during the run: this share of the PSS before the run, or this number of bytes, whichever
is larger."""
POOL_THREADS = 4
"""Number of threads that the serving process may gain during the run: its bounded thread pool starts each thread when
the thread is first needed."""
HZ = 1.0


@dataclass(frozen=True, slots=True)
class Chaos:
    """The duration, the random seed and the number of clients of a run. `clients` includes the honest clients."""

    seconds: float
    seed: int
    clients: int = 200


TARGET = WithTube("chaos", "ServerPY")


def cells(plan: Plan) -> Iterator[Cell]:
    minutes = plan.minutes or plan.by_mode(1.0, 10.0, 30.0)
    seed = plan.seed if plan.seed is not None else random.SystemRandom().randrange(1 << 32)
    (clients,) = plan.streams[:1] if plan.streams else (200,)
    if plan.those("relay"):
        chaos = Chaos(60 * minutes, seed, clients)
        title = f"{minutes:g} minutes, {clients} clients, seed {seed}"
        yield Cell(title, longest_seconds(chaos), partial(measure, chaos))


def longest_seconds(chaos: Chaos) -> float:
    """Return the maximum duration of a run in seconds, from the start of the server to its end."""
    return START_SECONDS + _warm_seconds(chaos) + KEPT_SECONDS + chaos.seconds + FINISH_SECONDS + REST_SECONDS


def _warm_seconds(chaos: Chaos) -> float:
    return min(chaos.seconds * WARM_SHARE, WARM_SECONDS)


def measure(chaos: Chaos, bench: Bench) -> Findings:
    with bench.start(TARGET, SETTINGS) as running:
        return bench.run(_measured(chaos, bench, running))


async def _measured(chaos: Chaos, bench: Bench, running: Running) -> Findings:
    world = await _world(bench, running)
    warm = replace(chaos, seconds=_warm_seconds(chaos), seed=chaos.seed + 1)
    # the signals of this warm-up make the server log lines, and so start its log thread
    await run_clients(warm, world, Counter(), running, finish_seconds=0.0)
    await fill_pool(running)
    before = await at_rest(running, seconds=KEPT_SECONDS), read(running.pid, alone=True)
    signals: Counter[str] = Counter()
    begun = time.monotonic()
    with sampler_of(running, HZ) as sampler:
        crowd = spawn(run_clients(chaos, world, signals, running, finish_seconds=FINISH_SECONDS), name="chaos")
        try:
            while not crowd.done():
                await watched(sampler, 1.0)
            ledger, honest_ledger = await crowd
        finally:
            await cancel(crowd)
        readings = sampler.readings
    seconds = time.monotonic() - begun
    after = await _rest(running, before)
    row: Row = {
        "seed": chaos.seed,
        "clients": chaos.clients,
        "seconds": seconds,
        "requests": ledger.ends.total() + honest_ledger.ends.total(),
        **{end: ledger.ends[end] for end in ("complete", "left", "cut", "refused")},
        "wrong": _bad(ledger, honest_ledger, "wrong_bytes"),
        "silent_truncations": _bad(ledger, honest_ledger, "short_but_complete"),
        "silent": _bad(ledger, honest_ledger, "silent"),
        "unanswered": _bad(ledger, honest_ledger, "unanswered"),
        "undocumented": _bad(ledger, honest_ledger, "undocumented"),
        "unfinished": _bad(ledger, honest_ledger, "unfinished"),
        "honest_cut": _bad(ledger, honest_ledger, "honest_cut"),
        "killed": signals["SIGKILL"],
        "stopped": signals["SIGSTOP"],
        **{f"by {method}": ledger.methods[method] for method in METHODS},
        **{f"code {code}": number for code, number in sorted((ledger.codes + honest_ledger.codes).items())},
        **{f"honest {end}": number for end, number in sorted(honest_ledger.ends.items())},
        "honest_first_byte_p50": percentile(honest_ledger.first_bytes, 0.5),
        "honest_first_byte_p99": percentile(honest_ledger.first_bytes, 0.99),
        **growth(before[0], after[0]),
        "highest_pss": max(reading.pss for reading in readings),
        "orphans": len(orphans(running.pid)),
    }
    series: Row = {
        "target": TARGETS["relay"].name,
        "t": [round(reading.t - begun, 1) for reading in readings],
        "pss": [reading.pss for reading in readings],
    }
    found = problems(row, (ledger, honest_ledger), left_behind(before, after), busy(running.health() or {}))
    return Findings((row,), (series,), tuple(found))


def _bad(ledger: Ledger, honest_ledger: Ledger, kind: str) -> int:
    return ledger.bad[kind] + honest_ledger.bad[kind]


async def _world(bench: Bench, running: Running) -> World:
    """Return the addresses and the expected bytes of the run. The expected bytes of the merged MP4 are those that the
    server returns for a page without faults. Raises BenchError if the server does not merge the tracks of that page."""
    origin = bench.origin
    film = reference(CLIP)
    blank = World(running.host, running.port, origin.http, origin.https, film, film)
    path = blank.ask("weave", "times=0", 0).path
    status, woven = await asyncio.to_thread(ask, running.port, path, WARM_SECONDS)
    require(status == 200, f"the server does not weave the film without faults (status {status})")
    return replace(blank, woven=Reference((HeldContent(woven, "video/mp4", 0.0),)))


async def run_clients(
    chaos: Chaos, world: World, signals: Counter[str], running: Running, *, finish_seconds: float
) -> tuple[Ledger, Ledger]:
    """Run all clients, and send signals to processes of the server, for `chaos.seconds`. Then let the clients finish
    their last request, for at most `finish_seconds`, and disconnect the others. Returns the results of the clients with
    faults, and those of the honest clients."""
    end = time.monotonic() + chaos.seconds
    chance = random.Random(chaos.seed)
    ledger, honest_ledger = Ledger(), Ledger()
    tasks: list[asyncio.Task[None]] = []

    def more() -> bool:
        running.check()
        return time.monotonic() < end

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(chaos.seconds + finish_seconds), asyncio.TaskGroup() as group:
            for method, number in HONEST.items():
                for _ in range(number):
                    own = random.Random(chance.random())
                    work = honest(world, honest_ledger, method, own, more)
                    tasks.append(group.create_task(work, name=f"honest {method}"))
            for number in range(max(0, chaos.clients - sum(HONEST.values()))):
                own = random.Random(chance.random())
                tasks.append(group.create_task(client(world, ledger, own, more), name=f"client {number}"))
            group.create_task(vandal(running.pid, chance, signals, more), name="vandal")
    for task in tasks:
        if task.cancelled():
            ledger.blame("unfinished", f"{task.get_name()} was not done {finish_seconds:g} s after the run")
    return ledger, honest_ledger


async def _rest(running: Running, before: tuple[Reading, Reading]) -> tuple[Reading, Reading]:
    """Wait until ServerPY holds no more resources than in the readings `before`, at most REST_SECONDS. Returns readings
    of the same kinds."""
    end = time.monotonic() + REST_SECONDS
    while True:
        after = await base_of(running), read(running.pid, alone=True)
        is_at_rest = not (left_behind(before, after) or busy(running.health() or {}))
        if (is_at_rest and after[0].pss <= most_pss(before[0].pss)) or time.monotonic() > end:
            return after


def most_pss(before: int) -> float:
    """Return the maximum PSS after a run, in bytes. `before` is the PSS before the run."""
    return before + max(GROWTH_BYTES, GROWTH_SHARE * before)


def left_behind(before: tuple[Reading, Reading], after: tuple[Reading, Reading]) -> dict[str, int]:
    """Return by how much the numbers of resources grew during the run. The first reading of each pair is of the whole
    process tree, of which the function compares processes and zombies. The second reading is of the serving process
    alone, of which it compares descriptors and threads; those of workers cannot be compared, because the server has
    replaced its workers during the run."""
    tree = {name: more for name, more in grown(before[0], after[0]).items() if name in ("processes", "zombies")}
    own = {name: more for name, more in grown(before[1], after[1]).items() if name in ("fds", "threads")}
    if own.get("threads", 0) <= POOL_THREADS:
        own.pop("threads", None)
    return tree | own


def orphans(pid: int) -> list[psutil.Process]:
    """Return the processes of the server's session that are no longer its descendants."""
    family = {pid, *(each.pid for each in psutil.Process(pid).children(recursive=True))}
    found = []
    for each in psutil.process_iter():
        try:
            if each.pid not in family and os.getsid(each.pid) == pid and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def problems(
    row: Row, ledgers: tuple[Ledger, Ledger], left: Mapping[str, int], held: Mapping[str, int]
) -> Iterator[str]:
    """Yield one sentence for each problem of a run. `left` is the result of `left_behind`. `held` counts the resources
    that the server still reports as in use (`/health`) after the run."""
    bad = ledgers[0].bad + ledgers[1].bad
    if bad:
        counts = ", ".join(f"{number} {kind}" for kind, number in sorted(bad.items()))
        examples = ledgers[0].reasons | ledgers[1].reasons
        yield f"{counts}; for example {'; '.join(f'{kind}: {what}' for kind, what in sorted(examples.items()))}"
    if left:
        yield f"not released after the run: {', '.join(f'{number} {name}' for name, number in left.items())}"
    if held:
        yield f"still in use after the run: {', '.join(f'{number} {name}' for name, number in held.items())}"
    if row["orphans"]:
        yield f"{row['orphans']} processes of the server's session are no longer descendants of the server"
    if row["growth_pss"] > most_pss(row["pss_before"]) - row["pss_before"]:
        yield f"memory grew from {row['pss_before']} to {row['pss_after']} bytes"


CHAOS = Scenario("chaos", "Minutes of random faults", cells, ("relay",), only_named=True)
