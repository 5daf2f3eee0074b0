"""The scenario `hls`: a playlist as one stream, for one slow and for one fast reader, compared with streamlink, which
serves only one client at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from serverpy.bench.measure.reference import reference
from serverpy.bench.measure.scenarios.base import Bench, Cell, Findings, Plan, Row, Scenario, on
from serverpy.bench.measure.scenarios.measuring import ask_for, check_whole, hold, lost, read_now
from serverpy.bench.measure.targets import Running, Target

MEDIA = "hls/ts"
TARGETS = ("relay", "embedded", "streamlink")
ROUNDS = 3


def cells(plan: Plan) -> Iterator[Cell]:
    for target in plan.those(*plan.by_mode((), TARGETS, TARGETS)):
        yield Cell(target.title, 18, on(target, None, partial(_measure, target)))


async def _measure(target: Target, bench: Bench, running: Running) -> Findings:
    ask = ask_for(running, MEDIA)
    first = await check_whole(running, ask)
    before = read_now(running)
    seconds = 0.0
    for _ in range(ROUNDS):
        seconds += (await check_whole(running, ask)).seconds
    after = read_now(running)
    held = await hold(bench, running, ask, 1)
    size = reference(MEDIA).size
    row: Row = {
        "target": target.name,
        "media": MEDIA,
        "media_bytes": size,
        "base_pss": held.base.pss,
        "peak_pss": held.flat.peak_pss,
        "each_pss": held.each_pss,
        "cpu_per_gb": (after.cpu - before.cpu) / (ROUNDS * size) * 1e9,
        "bytes_per_second": ROUNDS * size / seconds,
        "first_byte": first.first_byte,
    }
    return Findings((row,), problems=lost(held))


HLS = Scenario("hls", "HLS as one stream", cells, TARGETS)
