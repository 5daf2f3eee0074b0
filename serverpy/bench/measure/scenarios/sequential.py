"""The scenario `sequential`: the memory that consecutive requests leave behind: a hundred requests for a 5 MB clip, and
thousands of short requests. The short requests use only a few connections, because this scenario measures leaked
memory, not speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from serverpy.bench.measure.clients import many
from serverpy.bench.measure.reference import reference
from serverpy.bench.measure.scenarios.base import Bench, Cell, Findings, Plan, Row, Scenario, on, require, settings_for
from serverpy.bench.measure.scenarios.measuring import CLIP, SMALL, ask_for, base_of, check_whole, sampler_of
from serverpy.bench.measure.targets import Running, Target

CLIPS = ("relay", "embedded", "seed", "nginx", "mediaflow")
SHORT_CONNECTIONS = 4
WARM_REQUESTS = 3


def cells(plan: Plan) -> Iterator[Cell]:
    clips = plan.by_mode(15, 100, 100)
    for target in plan.those(*plan.by_mode(CLIPS[:2], CLIPS, CLIPS)):
        yield _cell(target, CLIP, clips, 1, plan.by_mode(2, 4, 4) + clips / 10)
    for target in plan.those("subprocess"):
        children = plan.by_mode(0, 20, 20)
        if children:
            yield _cell(target, CLIP, children, 1, 8 + 2 * children)
    short = {"relay": plan.by_mode(300, 5_000, 10_000), "embedded": plan.by_mode(0, 1_000, 10_000)}
    for target in plan.those(*(name for name, requests in short.items() if requests)):
        requests = short[target.name]
        yield _cell(
            target,
            SMALL,
            requests,
            SHORT_CONNECTIONS,
            plan.by_mode(3, 4, 4) + requests / (350 if target.name == "relay" else 60),
        )


def _cell(target: Target, media: str, requests: int, connections: int, seconds: float) -> Cell:
    work = on(target, settings_for(target, connections), partial(_measure, target, media, requests, connections))
    return Cell(f"{target.title}, {requests} × {media}", seconds, work)


async def _measure(
    target: Target, media: str, requests: int, connections: int, bench: Bench, running: Running
) -> Findings:
    ask = ask_for(running, media)
    for _ in range(1 if target.name == "subprocess" else WARM_REQUESTS):
        await check_whole(running, ask)
    before = await base_of(running)
    with sampler_of(running, hz=10.0) as sampler:
        tally = await many(lambda: ask, connections, count=requests)
        sampler.check()
        readings = sampler.readings
    after = await base_of(running, seconds=bench.by_mode(1.0, 2.0, 2.0))
    problem = f"{requests - tally.complete} of {requests} failed: {'; '.join(tally.reasons) or 'not sent any more'}"
    require(tally.complete == requests, problem)
    row: Row = {
        "target": target.name,
        "requests": requests,
        "media_bytes": reference(media).size,
        "connections": connections,
        "seconds": tally.seconds,
        **{
            f"{name}_{when}": value
            for name in ("rss", "pss")
            for when, value in (
                ("before", getattr(before, name)),
                ("peak", max(getattr(reading, name) for reading in readings)),
                ("after", getattr(after, name)),
            )
        },
        "growth": after.rss - before.rss,
        "growth_pss": after.pss - before.pss,
        "threads_before": before.threads,
        "threads_peak": max(reading.threads for reading in readings),
        "threads_after": after.threads,
        "processes_peak": max(reading.processes for reading in readings),
        "zombies": after.zombies,
        "fds_before": before.fds,
        "fds_after": after.fds,
        "children_before": before.processes - 1,
        "children_after": after.processes - 1,
        "cpu_per_request": (after.cpu - before.cpu) / requests,
    }
    return Findings((row,))


SEQUENTIAL = Scenario("sequential", "One request after the other", cells, (*CLIPS, "subprocess"))
