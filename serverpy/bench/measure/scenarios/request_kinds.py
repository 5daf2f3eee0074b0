"""The requests of the scenarios `mixed` and `soak`: nine in ten are normal; in one in twenty the client disconnects in
the middle of a larger file; one in twenty must fail. Each kind of request has an expected end; a different end is a
problem of the scenario."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count as numbers
from urllib.parse import quote, urlencode

from serverpy.bench.measure.clients import Visitor
from serverpy.bench.measure.exchange import Ask, End, Outcome
from serverpy.bench.measure.reference import Reference, reference
from serverpy.bench.measure.scenarios.base import Bench
from serverpy.bench.measure.scenarios.measuring import CLIP, SMALL
from serverpy.bench.measure.targets import Running
from serverpy.bench.measure.targets.base import LOOPBACK

LEAVE_AFTER = 500_000
REASONS = 5


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request, which occurs `times` times in each round of 200 requests. The request must end as `ends`
    says and, unless `status` is None, with that status. If `leaves_after` is not None, the client disconnects after
    that number of bytes of the body."""

    name: str
    times: int
    ask: Callable[[], Ask]
    ends: End = "complete"
    status: int | None = None
    leaves_after: int | None = None

    def fits(self, outcome: Outcome) -> bool:
        return outcome.end == self.ends and (self.status is None or outcome.status == self.status)


@dataclass(slots=True)
class Mixed:
    """The number of requests of each kind, and the number of requests that did not end as expected."""

    kinds: Counter[str] = field(default_factory=Counter)
    unexpected: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, kind: Kind, outcome: Outcome) -> None:
        self.kinds[kind.name] += 1
        if not kind.fits(outcome):
            self.unexpected += 1
            if len(self.reasons) < REASONS:
                self.reasons.append(f"{kind.name}: {outcome.end} {outcome.reason}".strip())


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Reserve a loopback port that refuses connections, and yield it. The port is free again after the block."""
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        port: int = held.getsockname()[1]
        yield port


def kinds(method: str, bench: Bench, running: Running, refusing_port: int) -> tuple[Kind, ...]:
    """Return the kinds of requests, for a server that is allowed to connect to `refusing_port` on loopback. Only the
    kind that must cause an extraction uses a new URL for each request."""
    origin, fresh = bench.origin, numbers()

    def ask(url: str, expected: Reference | None, route: str = "stream", **more: object) -> Ask:
        query = {"url": url, **({"method": method} if route == "stream" else {})}
        path = f"/{route}?{urlencode(query, quote_via=quote)}"
        return Ask(running.host, running.port, path, expected, **more)  # type: ignore[arg-type]  # all calls of `ask` pass only valid types

    small, clip = reference(SMALL), reference(CLIP)
    page, film = origin.page(SMALL), origin.page(CLIP)
    cut = origin.page(SMALL, faults="cut=60000,norange")
    spans = ((0, 1000), (10_000, 40_000), (small.size - 500, small.size))
    return (
        Kind("whole", 80, lambda: ask(page, small)),
        Kind("range", 40, lambda: ask(page, small, span=spans[next(fresh) % len(spans)])),
        Kind("info", 36, lambda: ask(film, None, "info")),
        Kind("new page", 4, lambda: ask(origin.page(CLIP, fresh=f"mixed-{time.monotonic_ns()}"), None, "info")),
        Kind("head", 20, lambda: ask(page, small, verb="HEAD")),
        Kind("left", 10, lambda: ask(film, clip), "left", 200, LEAVE_AFTER),
        Kind("no page", 2, lambda: ask(f"{origin.http}/page/missing", None), "refused", 404),
        Kind("forbidden", 2, lambda: ask("http://192.168.0.1/film.mp4", None), "refused", 403),
        Kind("dead host", 2, lambda: ask(f"http://{LOOPBACK}:{refusing_port}/film.mp4", None), "refused", 502),
        Kind("bad range", 1, lambda: ask(page, small, span=(10 * small.size, 20 * small.size)), "refused", 416),
        Kind("cut", 1, lambda: ask(cut, small), "cut", 200),
        Kind("no address", 2, lambda: ask("file:///etc/hostname", None), "refused", 400),
    )


async def ask_all(
    mixture: tuple[Kind, ...], connections: int, *, count: int | None = None, seconds: float | None = None
) -> Mixed:
    """Send `count` requests in all, or requests for `seconds`, over `connections` connections. The kinds of requests
    have the same order in every run."""
    mixed, begun = Mixed(), time.monotonic()
    left = iter(range(count)) if count is not None else None
    order = _order(mixture)

    def more() -> bool:
        if left is not None and next(left, None) is None:
            return False
        return seconds is None or time.monotonic() - begun < seconds

    async def visit() -> None:
        with closing(Visitor()) as visitor:
            while more():
                kind = next(order)
                mixed.add(kind, await visitor.ask(kind.ask(), kind.leaves_after))

    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(visit(), name=f"visitor-{number}")
    return mixed


def _order(mixture: tuple[Kind, ...]) -> Iterator[Kind]:
    """Yield kinds of requests forever, in shuffled rounds."""
    chance = random.Random(0)
    kinds = [kind for kind in mixture for _ in range(kind.times)]
    while True:
        chance.shuffle(kinds)
        yield from kinds
