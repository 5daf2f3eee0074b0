"""The scenario `hostile`: how streams of honest users run while other clients attack the server, and how much memory
the server uses during the attack.

The memory of the server and its workers must stay below 1.1 times its base plus MEMORY_BUDGET. Honest users must get
all bytes, and their first byte at most one second later than before the attack, both from pages whose extraction is in
the cache and from new pages. Attackers have another IP address than honest users, and request pages of another host.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count as numbers
from urllib.parse import quote, urlencode

from serverpy.bench.measure.clients import whole
from serverpy.bench.measure.exchange import Ask, Outcome
from serverpy.bench.measure.reference import reference
from serverpy.bench.measure.scenarios import attacks
from serverpy.bench.measure.scenarios.base import Bench, Cell, Findings, Plan, Row, Scenario, percentile
from serverpy.bench.measure.scenarios.measuring import CLIP, base_of, sampler_of, watched
from serverpy.bench.measure.targets import Running
from serverpy.bench.measure.targets.tube import WithoutNames, WithTube, may_unshare, silent_resolver
from serverpy.tasks import cancel, spawn

BUDGET = 64 << 20
ALLOWED_SHARE = 1.1
"""Multiple of its base memory that the server may use, in addition to MEMORY_BUDGET."""
LATER_SECONDS = 1.0
SETTINGS = {
    "MEMORY_BUDGET": BUDGET,
    "MAX_STREAMS": 400,
    "CLIENT_STREAMS": 400,
    "MAX_WORKERS": 60,
    "WAIT_SECONDS": 60,
    "ALLOW_NETWORKS": "127.0.0.0/8",  # the whole network, because some attackers run media servers of their own
}
PAUSE_SECONDS = 0.2
PATIENCE_SECONDS = 120.0
"""Seconds since the last received byte after which an honest user gives up. This time is longer than the timeouts of
the server."""
HZ = 5.0


@dataclass(frozen=True)
class Crowd:
    """One attack, and the honest users that stream at the same time: their number, their method, and the fault that
    limits the speed of their media server. If `new_pages` is false, they request only pages whose extraction is in the
    cache. `nameless` states whether the name lookups of the server get no answer."""

    name: str
    title: str
    attack: attacks.Attack
    users: int = 20
    method: str = "relay"
    pace: str = "throttle=2000000"
    new_pages: bool = True
    nameless: bool = False


CROWDS = (
    Crowd("fields", "40 connections × 8,000 fields × 15 requests", attacks.many_fields),
    Crowd("fat heads", "200 media servers with fat heads", attacks.fat_heads),
    Crowd("dripping clients", "200 clients that drip", attacks.dripping_clients),
    Crowd("dripping pages", "two pages that drip", attacks.dripping_pages),
    Crowd(
        *("backtracking page", "a page that holds the interpreter lock", attacks.backtracking_page),
        users=30,
        method="embedded",
        pace="throttle=400000",
        new_pages=False,  # a new page would wait until the server replaces the process of the hostile page
    ),
    Crowd("dead names", "12 streams with dead names", attacks.dead_names, nameless=True),
)


@dataclass
class Seen:
    """The results of the honest users: the time to each first byte in seconds, by kind of page (`cached`, `new`), and
    how their streams ended."""

    first_bytes: dict[str, list[float]] = field(default_factory=lambda: {"cached": [], "new": []})
    ends: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)

    def add(self, kind: str, outcome: Outcome) -> None:
        self.ends[outcome.end] += 1
        if outcome.first_byte is not None:
            self.first_bytes[kind].append(outcome.first_byte)
        if outcome.end != "complete":
            self.reasons.append(f"{kind}: {outcome.end} {outcome.status} {outcome.reason[:150]}")


def cells(plan: Plan) -> Iterator[Cell]:
    seconds = plan.by_mode(5.0, 30.0, 60.0)
    nameless = may_unshare()
    for crowd in CROWDS if plan.those("relay") else ():
        if nameless or not crowd.nameless:
            yield Cell(crowd.title, 2 * seconds + 25, partial(measure, crowd, seconds))


def measure(crowd: Crowd, seconds: float, bench: Bench) -> Findings:
    target = (WithoutNames if crowd.nameless else WithTube)("hostile", "ServerPY")
    resolver = silent_resolver() if crowd.nameless else contextlib.nullcontext()
    with resolver, bench.start(target, SETTINGS) as running:
        return bench.run(_measured(crowd, seconds, bench, running))


async def _measured(crowd: Crowd, seconds: float, bench: Bench, running: Running) -> Findings:
    fresh = numbers()
    await _users(crowd, seconds / 4, bench, running, fresh)  # the warm-up fills the cache, and starts all processes
    base = await base_of(running)
    before = await _users(crowd, seconds, bench, running, fresh)
    with sampler_of(running, HZ) as sampler:
        attack = spawn(_endless(crowd, bench, running), name="attack")
        users = spawn(_users(crowd, seconds, bench, running, fresh), name="honest users")
        try:
            while not users.done():
                await watched(sampler, 1.0)
                if attack.done():
                    attack.result()
            during = await users
        finally:
            await cancel(users)
            await cancel(attack)
        highest = int(sampler.peak("pss"))
    allowed = ALLOWED_SHARE * base.pss + BUDGET
    row: Row = {
        "attack": crowd.name,
        "users": crowd.users,
        "method": crowd.method,
        "seconds": seconds,
        "budget": BUDGET,
        "base_pss": base.pss,
        "highest_pss": highest,
        "allowed_pss": allowed,
        "held": highest <= allowed,
        "streams": during.ends.total(),
        **{end: during.ends[end] for end in ("complete", "cut", "refused", "wrong", "failed")},
        **_times(before, during),
    }
    kinds = ("cached", "new") if crowd.new_pages else ("cached",)
    return Findings((row,), problems=tuple(problems(row, during.reasons, kinds)))


def _times(before: Seen, during: Seen) -> Mapping[str, float | None]:
    """Return the 95th percentile of the times to the first byte before and during the attack, by kind of page."""
    return {
        f"{kind}_first_byte_{when}": percentile(seen.first_bytes[kind], 0.95)
        for kind in ("cached", "new")
        for when, seen in (("before", before), ("during", during))
    }


def problems(row: Row, reasons: Sequence[str], kinds: Sequence[str] = ("cached", "new")) -> Iterator[str]:
    if not row["held"]:
        yield f"memory above the limit: {row['highest_pss']} bytes, but only {row['allowed_pss']:.0f} are allowed"
    if reasons or not row["complete"]:
        yield f"{len(reasons)} streams of honest users failed, {row['complete']} did not: {'; '.join(reasons[:2])}"
    for kind in kinds:
        earlier, later = row[f"{kind}_first_byte_before"], row[f"{kind}_first_byte_during"]
        if earlier is None or later is None:
            yield f"no honest user got a first byte from a {kind} page"
        elif later - earlier > LATER_SECONDS:
            yield f"the first byte of {kind} pages came {later - earlier:.1f} s later than before the attack"


async def _endless(crowd: Crowd, bench: Bench, running: Running) -> None:
    await crowd.attack(bench, running)


async def _users(crowd: Crowd, seconds: float, bench: Bench, running: Running, fresh: Iterator[int]) -> Seen:
    """Let the honest users read one stream after the other for `seconds`. Each user finishes its last stream."""
    seen, end = Seen(), time.monotonic() + seconds

    async def user(number: int) -> None:
        turn = number
        while time.monotonic() < end:
            is_new = crowd.new_pages and turn % 2 == 0
            kind, page = ("new", f"new-{next(fresh)}") if is_new else ("cached", f"user-{number}")
            seen.add(kind, await whole(_ask(crowd, bench, running, page)))
            turn += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async with asyncio.TaskGroup() as group:
        for number in range(crowd.users):
            group.create_task(user(number), name=f"user-{number}")
    return seen


def _ask(crowd: Crowd, bench: Bench, running: Running, page: str) -> Ask:
    url = f"{bench.origin.http}/tube/watch/fault/{crowd.pace},id={page}/headers"
    path = f"/stream?{urlencode({'url': url, 'method': crowd.method}, quote_via=quote)}"
    return Ask(running.host, running.port, path, reference(CLIP), PATIENCE_SECONDS)


HOSTILE = Scenario("hostile", "Honest users beside attackers", cells, ("relay",), only_named=True)
