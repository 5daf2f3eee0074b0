"""The scenario `extraction`: the cost of finding the media behind a page with yt-dlp's generic extractor.

It compares three ways. `slim` is ServerPY's worker, called through `/info`. `stock` is a new `yt_dlp.YoutubeDL` for
each page, in a process that has already imported yt-dlp, as yt-dlp's documentation shows. `child` is the yt-dlp
command, a new process for each page.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from urllib.parse import quote

from serverpy.bench.measure.children import clean_environment
from serverpy.bench.measure.errors import BenchError
from serverpy.bench.measure.scenarios.base import Bench, Cell, Findings, Plan, Row, Scenario, require
from serverpy.bench.measure.scenarios.measuring import CLIP, read_now
from serverpy.bench.measure.targets import TARGETS, Running
from serverpy.bench.measure.targets.base import ask

STOCK = """
import json, sys, time
import yt_dlp

def extract(url):
    with yt_dlp.YoutubeDL({"quiet": True, "no_warnings": True}) as ydl:
        assert ydl.extract_info(url, download=False)["url"]

first, *urls = json.loads(sys.argv[1])
extract(first)
cpu, wall = time.process_time(), time.perf_counter()
for url in urls:
    extract(url)
print(json.dumps({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}))
"""
LONGEST_SECONDS = 120.0


def cells(plan: Plan) -> Iterator[Cell]:
    if plan.those("relay"):
        yield Cell("ServerPY's worker", plan.by_mode(3, 6, 15), partial(_slim, plan.by_mode(20, 100, 300)))
    if plan.those("relay", "subprocess"):
        yield Cell("stock yt-dlp", plan.by_mode(3, 6, 15), partial(_stock, plan.by_mode(8, 40, 100)))
    if plan.those("subprocess"):
        children = plan.by_mode(1, 3, 5)
        yield Cell("the yt-dlp command", 3 * children, partial(_child, children))


def _slim(number: int, bench: Bench) -> Findings:
    with bench.start(TARGETS["relay"]) as running:
        first, *paths = [f"/info?url={quote(url, safe='')}" for url in _pages(bench, "slim", number + 1)]
        _asked(running, first)
        before = read_now(running)
        for path in paths:
            _asked(running, path)
        after = read_now(running)
    return _findings("slim", number, after.cpu - before.cpu, after.t - before.t)


def _asked(running: Running, path: str) -> None:
    status, body = ask(running.port, path)
    require(status == 200, f"/info answered {status}: {body[:200].decode(errors='replace')}")


def _stock(number: int, bench: Bench) -> Findings:
    said = _ran([sys.executable, "-c", STOCK, json.dumps(_pages(bench, "stock", number + 1))])
    found = json.loads(said.splitlines()[-1])
    return _findings("stock", number, found["cpu"], found["wall"])


def _child(number: int, bench: Bench) -> Findings:
    begun, before = time.monotonic(), _children_cpu()
    for url in _pages(bench, "child", number):
        _ran([sys.executable, "-m", "yt_dlp", "--ignore-config", "--no-update", "--no-warnings", "--get-url", url])
    return _findings("child", number, _children_cpu() - before, time.monotonic() - begun)


def _ran(command: list[str]) -> str:
    """Run `command` and return its output. Raises BenchError if the command fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=clean_environment(), timeout=LONGEST_SECONDS, check=True
        )
    except subprocess.CalledProcessError as error:
        raise BenchError(f"yt-dlp could not extract the test pages: {(error.stderr or '').strip()[-300:]}") from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"yt-dlp took more than {LONGEST_SECONDS:.0f} s to extract the test pages") from error
    return done.stdout


def _children_cpu() -> float:
    """Return the CPU seconds of all ended child processes of the bench. The bench starts no other child during this
    measurement."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _pages(bench: Bench, kind: str, number: int) -> list[str]:
    """Return `number` URLs of sample pages that no measured server has seen yet."""
    return [bench.origin.page(CLIP, fresh=f"{kind}-{os.getpid()}-{each}") for each in range(number)]


def _findings(kind: str, number: int, cpu: float, wall: float) -> Findings:
    row: Row = {"kind": kind, "extractions": number, "cpu": cpu / number, "wall": wall / number}
    return Findings((row,))


EXTRACTION = Scenario("extraction", "Cost of an extraction", cells, ("relay", "subprocess"))
