"""`steps`: where the memory of a server goes. The figure of a step is the memory that the step adds."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import psutil

from serverpy.bench.measure.children import running as child_of
from serverpy.bench.measure.clients import Crowd, whole
from serverpy.bench.measure.exchange import GOOD
from serverpy.bench.measure.sampler import read
from serverpy.bench.measure.scenarios.base import Bench, Cell, Findings, Plan, Row, Scenario, on, require, settings_for
from serverpy.bench.measure.scenarios.measuring import (
    LARGE,
    RATE,
    SMALL,
    ask_for,
    base_of,
    count,
    plateau,
    sampler_of,
    why,
)
from serverpy.bench.measure.targets import TARGETS, Running

STOCK = "one process, stock"
WEB = "import fastapi, uvicorn, uvloop, httptools"
START_SECONDS = 60.0
IDLE_CONNECTIONS = 100
STREAMS = 20


def cells(plan: Plan) -> Iterator[Cell]:
    if plan.those("relay", "embedded"):
        yield Cell("interpreter and imports", 2, _imports)
    if plan.those("embedded"):
        target = TARGETS["embedded"]
        work = on(target, settings_for(target, STREAMS), _split)
        yield Cell("server and worker", plan.by_mode(9, 14, 16), work)
    if plan.those("seed") and plan.mode != "quick":
        target = TARGETS["seed"]
        yield Cell("everything in one process", 14, on(target, settings_for(target, STREAMS), _stock))


def _imports(bench: Bench) -> Findings:
    alone, web, library, both = (_loaded(code) for code in ("", WEB, "import yt_dlp", f"{WEB}, yt_dlp"))
    rows = [
        _step("server", "interpreter", alone),
        _step("server", "framework", web, alone),
        _step("worker", "interpreter", alone),
        _step("worker", "yt-dlp imported", library, alone),
        _step(STOCK, "interpreter", alone),
        _step(STOCK, "framework", web, alone),
        _step(STOCK, "yt-dlp imported", both, web),
    ]
    return Findings(tuple(rows))


def _loaded(code: str) -> int:
    """Return the PSS in bytes of an interpreter that has run `code`."""
    command = [sys.executable, "-c", f"{code}\nprint('loaded', flush=True)\nimport sys; sys.stdin.read()"]
    with child_of("An interpreter", command, hold_stdin=True) as child:
        child.said("loaded", START_SECONDS)
        return read(child.pid).pss


async def _split(bench: Bench, running: Running) -> Findings:
    """Measure ServerPY's serving process and its worker separately."""
    web, library = _loaded(WEB), _loaded("import yt_dlp")
    server = _alone(running.pid)
    # The worker is warm once `/health` shows its yt-dlp version.
    worker = _worker(running)
    warm = _alone(worker)
    rows = [_step("server", "server running", server, web), _step("worker", "warmed up", warm, library)]

    ask = ask_for(running, LARGE)
    outcome = await whole(ask_for(running, SMALL))
    require(outcome.end in GOOD, f"the first request failed: {outcome.reason}")
    await base_of(running)
    first = _alone(running.pid), _alone(worker)
    rows.append(_step("server", "first extraction", first[0], server))
    rows.append(_step("worker", "first extraction", first[1], warm))

    with ExitStack() as connections:
        for _ in range(IDLE_CONNECTIONS):
            connections.enter_context(_idle(running))
        await base_of(running)
        connection = (_alone(running.pid) - first[0]) / IDLE_CONNECTIONS

    before = _alone(running.pid), _alone(worker)
    async with Crowd(ask, RATE) as crowd:
        await crowd.join(STREAMS)
        with sampler_of(running) as sampler:
            await plateau(sampler, 1.0, longest=bench.by_mode(6.0, 30.0, 60.0))
        server_each = (_alone(running.pid) - before[0]) / STREAMS
        worker_each = (_alone(worker) - before[1]) / STREAMS
        crowd.leave()
        complete, _, _ = count(crowd.outcomes)
        require(complete == STREAMS, why(crowd.outcomes))
    rows.append(_each("worker", "a thread", worker_each))
    rows.append(_each("server", "a hand-over", max(0.0, server_each - connection)))
    rows.append(_each("server", "a client connection", connection))
    return Findings(tuple(rows))


async def _stock(bench: Bench, running: Running) -> Findings:
    """Measure the founding document's shape: everything in one process."""
    imported = _loaded(f"{WEB}, yt_dlp")
    started = _alone(running.pid)
    outcome = await whole(ask_for(running, SMALL))
    require(outcome.end in GOOD, f"the first request failed: {outcome.reason}")
    first = (await base_of(running)).pss
    async with Crowd(ask_for(running, LARGE), RATE) as crowd:
        await crowd.join(STREAMS)
        with sampler_of(running) as sampler:
            flat = await plateau(sampler, 1.0, longest=bench.by_mode(6.0, 30.0, 60.0))
        crowd.leave()
        complete, _, _ = count(crowd.outcomes)
        require(complete == STREAMS, why(crowd.outcomes))
    rows = (
        _step(STOCK, "server running", started, imported),
        _step(STOCK, "first extraction", first, started),
        _each(STOCK, "a thread", (flat.peak_pss - first) / STREAMS),
    )
    return Findings(rows)


def _worker(running: Running) -> int:
    """Wait until the worker, the process with yt-dlp, is warm, and return its pid."""

    def found() -> int | None:
        health = running.health()
        workers = [
            each.pid for each in psutil.Process(running.pid).children() if "serverpy.ytdlp.main" in each.cmdline()
        ]
        return workers[0] if workers and health is not None and health["yt_dlp"] else None

    return running.child.until(found, START_SECONDS)


def _idle(running: Running) -> socket.socket:
    """Return a connection that has sent one request and stays open."""
    connection = socket.create_connection((running.host, running.port), timeout=10)
    connection.sendall(f"GET /ready HTTP/1.1\r\nHost: {running.host}\r\n\r\n".encode())
    connection.recv(4096)
    return connection


def _alone(pid: int) -> int:
    """Return the PSS in bytes of one process without its descendants."""
    return read(pid, alone=True).pss


def _step(process: str, step: str, pss: int, before: int = 0) -> Row:
    return {"process": process, "step": step, "pss": pss, "added": pss - before}


def _each(process: str, step: str, added: float) -> Row:
    """Return a step that is measured per thread, stream or connection."""
    return {"process": process, "step": step, "pss": added, "added": added}


STEPS = Scenario("steps", "Where the memory goes", cells, ("relay", "embedded", "seed"))
