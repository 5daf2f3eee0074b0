"""The scenario `profiles`: the memory that ServerPY's profiles small, medium and large use, and the number of clients
that they serve. More slow clients connect than the profile admits; the server must refuse the excess and serve the
others."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import psutil

from serverpy.bench.measure.scenarios.base import Bench, Cell, Findings, Plan, Row, Scenario
from serverpy.bench.measure.scenarios.measuring import LARGE, Held, ask_for, count, hold, warm_up, why
from serverpy.bench.measure.targets import TARGETS, Running
from serverpy.settings import Settings, load_settings

NAMES = ("small", "medium", "large")
MORE = 5
RATE = 16 * 1024
"""Bytes per second that a slow client reads. Thousands of clients at 64 KB per second would saturate the machine's two
cores, and the scenario would not measure the memory of a stream."""
KERNEL_BYTES = 5_000_000
"""Maximum number of bytes that the kernel buffers for a stream's connections to the client and to the media server, on
loopback. This number limits how many clients the scenario connects, because too many would use up the machine's
memory."""


def cells(plan: Plan) -> Iterator[Cell]:
    if not plan.those("relay"):
        return
    for name in plan.by_mode(NAMES[:1], NAMES, NAMES):
        room = int(psutil.virtual_memory().available / KERNEL_BYTES)
        asked = min(_settings(name).max_streams, plan.by_mode(50, 2000, 4000), room)
        yield Cell(f"{name}, {asked} clients", plan.by_mode(7, 25, 50) + asked / 25, partial(_measure, name, asked))


def _settings(name: str) -> Settings:
    return load_settings(profile=name)


def _measure(name: str, asked: int, bench: Bench) -> Findings:
    limits = _settings(name)
    chosen = {"PROFILE": name, "WAIT_SECONDS": 1}
    with bench.start(TARGETS["relay"], chosen) as running:
        relayed = bench.run(_held(bench, running, asked + (MORE if asked == limits.max_streams else 0)))
    carried, failed, _ = count(relayed.outcomes)
    row: Row = {
        "profile": name,
        "streams": limits.max_streams,
        "asked": relayed.clients,
        "budget": limits.memory_budget,
        "max_workers": limits.max_workers,
        "base_pss": relayed.base.pss,
        "carried": carried,
        "peak_pss": relayed.flat.peak_pss,
    }
    problems = []
    if failed:
        problems.append(f"{failed} of {relayed.clients} relayed streams failed: {why(relayed.outcomes)}")
    if bench.mode != "quick":
        with bench.start(TARGETS["embedded"], chosen) as running:
            embedded = bench.run(_held(bench, running, limits.max_workers + MORE))
        served, failed, _ = count(embedded.outcomes)
        row |= {
            "embedded_asked": embedded.clients,
            "embedded_carried": served,
            "embedded_peak_pss": embedded.flat.peak_pss,
        }
        if failed:
            problems.append(f"{failed} of {embedded.clients} embedded streams failed: {why(embedded.outcomes)}")
    return Findings((row,), problems=tuple(problems))


async def _held(bench: Bench, running: Running, clients: int) -> Held:
    ask = ask_for(running, LARGE)
    await warm_up(running, ask)
    return await hold(bench, running, ask, clients, rate=RATE)


PROFILES = Scenario("profiles", "What a profile uses and serves", cells, ("relay", "embedded"))
