"""The random actions of the scenario `chaos`: the requests of its clients, and the signals to worker and child
processes of the server. With the same seed, each client makes the same choices in the same order."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlencode

import psutil

from serverpy import errors
from serverpy.bench.measure.clients import for_a_while, leaving, pausing, whole
from serverpy.bench.measure.exchange import Ask, Outcome
from serverpy.bench.measure.reference import Reference
from serverpy.sample.failures import IN_THE_BODY, INSTEAD_OF_A_RESPONSE, PLACES

METHODS = {"relay": 10, "weave": 5, "embedded": 5, "subprocess": 1}
"""The relative frequency with which clients choose each method."""
UNHARMED = ("relay", "weave")
"""The methods whose streams from faultless media servers must not be cut by a signal to a worker or child process."""
STATUSES = ("403", "404", "410", "416", "429", "500", "503")
PACES = ("throttle=150000", "throttle=400000", "throttle=1000000", "times=0")
FAULTS = ("malformed", "cut=300000", "rst=900000", "cut=700000,norange,nolength", "stall=1000000", "surplus=3000")
CHANGES = ("fails=short@middle,changes=told", "fails=short@middle,changes=silent")
"""Faults of a file that changes after its first response. Each request with such a fault is for a page of its own,
because a second client of the same page would correctly get the changed file from its first byte on. Clients that seek
get no such fault, because all of their range may come from the changed file. The method weave gets no silent change,
which it cannot notice: the media server sends other bytes with the same validators, and ServerPY requests no byte
twice."""
PAGES = 40
"""Number of different pages for each fault. It is small, so that some requests find the extraction of their page in the
cache."""
PATIENCE_SECONDS = 150.0
STALLED_SECONDS = 8.0
"""Maximum number of seconds for which a client stops reading. It exceeds the STALL_TIMEOUT of the server."""
BACK_OFF_SECONDS = 2.0
"""Seconds for which a client waits after a refusal."""
LEFT = "silent until the client disconnected"

_CODE = re.compile(r'"code": ?"(\w+)"')


def documented_codes() -> frozenset[str]:
    """Return the codes of all errors that the server may send: those of the classes in `errors.py`."""

    def below(kind: type[errors.ServerPYError]) -> Iterator[type[errors.ServerPYError]]:
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    kinds = [each for each in below(errors.ServerPYError) if each.__module__ == errors.__name__]
    return frozenset(each.code for each in kinds if hasattr(each, "code"))  # abstract classes have no code


@dataclass(frozen=True)
class World:
    """The addresses and expected bytes of a run: `host` and `port` of the server, the base URLs of the sample site over
    HTTP (`site`) and HTTPS (`secure_site`), and the bytes that the server must return for a merged MP4 (`woven`) and
    for the sample file (`film`)."""

    host: str
    port: int
    site: str
    secure_site: str
    film: Reference
    woven: Reference

    def ask(self, method: str, fault: str, number: int, span: tuple[int, int] | None = None) -> Ask:
        base = self.secure_site if "tls" in fault else self.site
        page = f"{base}/tube/watch/fault/{fault},id={number}/{'pair' if method == 'weave' else 'headers'}"
        query = {"url": page} | ({} if method == "weave" else {"method": method})
        path = f"/stream?{urlencode(query, quote_via=quote)}"
        expected = self.woven if method == "weave" else self.film
        return Ask(self.host, self.port, path, expected, PATIENCE_SECONDS, span=span)


@dataclass
class Ledger:
    """The results of the requests of some clients. `codes` counts refusals by error code, and `bad` counts results that
    no client may get, by kind."""

    ends: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    first_bytes: list[float] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    """The first example of each kind in `bad`."""
    known: frozenset[str] = field(default_factory=documented_codes)

    def add(self, what: str, method: str, outcome: Outcome) -> None:
        if outcome.end == "failed" and outcome.reason == LEFT:
            outcome = replace(outcome, end="left", reason="")  # the client disconnected before the server could answer
        self.ends[outcome.end] += 1
        self.methods[method] += 1
        if outcome.first_byte is not None:
            self.first_bytes.append(outcome.first_byte)
        if outcome.end == "refused":
            code = code_of(outcome)
            self.codes[code] += 1
            if code not in self.known:
                self._blame("undocumented", what, outcome)
        elif outcome.end == "wrong":
            self._blame("short_but_complete" if "looked complete" in outcome.reason else "wrong_bytes", what, outcome)
        elif outcome.reason.startswith(("silent", "no byte")):
            self._blame("silent", what, outcome)
        elif outcome.end == "failed":
            self._blame("unanswered", what, outcome)

    def blame(self, kind: str, what: str) -> None:
        self.bad[kind] += 1
        self.reasons.setdefault(kind, what)

    def _blame(self, kind: str, what: str, outcome: Outcome) -> None:
        self.blame(kind, f"{what}: {outcome.end} {outcome.status} {outcome.reason[:200]}")


def code_of(outcome: Outcome) -> str:
    """Return the error code in the problem document that a refused request got. Returns "none" if there is no code."""
    found = _CODE.search(outcome.reason)
    return found[1] if found else "none"


def some_fault(chance: random.Random, method: str) -> str:
    """Return a fault specification for the sample site. In half of the cases, it only limits the speed of the media
    server."""
    if chance.random() < 0.5:
        return chance.choice(PACES)
    if chance.random() < 0.8:
        how = chance.choice((*IN_THE_BODY, *INSTEAD_OF_A_RESPONSE, *STATUSES))
        return f"fails={how}@{chance.choice(PLACES)}"
    changes = CHANGES[:1] if method == "weave" else CHANGES
    return chance.choice(FAULTS + changes)


async def client(world: World, ledger: Ledger, chance: random.Random, more: Callable[[], bool]) -> None:
    """Send one request after the other while `more` returns true, with random faults of the media server and random
    behaviour of the client."""
    while more():
        (method,) = chance.choices(list(METHODS), list(METHODS.values()))
        fault = some_fault(chance, method)
        number = chance.randrange(1 << 32 if fault in CHANGES else PAGES)
        behaviour = chance.choices(list(BEHAVIOURS), [weight for weight, _ in BEHAVIOURS.values()])[0]
        size = (world.woven if method == "weave" else world.film).size
        span = None
        if behaviour == "seeks":
            first = chance.randrange(size)
            span = (first, min(size, first + chance.choice((1, 1000, 500_000, size))))
            fault = PACES[-1] if fault in CHANGES else fault
        asked = world.ask(method, fault, number, span)
        outcome = await BEHAVIOURS[behaviour][1](asked, chance)
        ledger.add(f"{method}, {fault}, {behaviour} {span or ''}", method, outcome)
        if outcome.end == "refused":
            await asyncio.sleep(BACK_OFF_SECONDS)


async def _reads(asked: Ask, chance: random.Random) -> Outcome:
    return await whole(asked)


async def _leaves(asked: Ask, chance: random.Random) -> Outcome:
    return await leaving(asked, int(10 ** chance.uniform(0, 6.7)))


async def _leaves_soon(asked: Ask, chance: random.Random) -> Outcome:
    return await for_a_while(asked, chance.uniform(0.0, 2.0))


async def _stops(asked: Ask, chance: random.Random) -> Outcome:
    return await pausing(asked, int(10 ** chance.uniform(0, 6)), chance.uniform(0.5, STALLED_SECONDS))


BEHAVIOURS: dict[str, tuple[int, Callable[[Ask, random.Random], Awaitable[Outcome]]]] = {
    "reads": (8, _reads),
    "seeks": (4, _reads),
    "leaves": (4, _leaves),
    "leaves soon": (1, _leaves_soon),
    "stops": (2, _stops),
}
"""The behaviours of clients, by name. Each has a relative frequency, and a function that sends one request and behaves
in this way."""


async def honest(world: World, ledger: Ledger, method: str, chance: random.Random, more: Callable[[], bool]) -> None:
    """Read one whole stream after the other from media servers without faults, while `more` returns true."""
    while more():
        outcome = await whole(world.ask(method, chance.choice(PACES), chance.randrange(PAGES)))
        ledger.add(f"honest {method}", method, outcome)
        if outcome.end == "cut" and method in UNHARMED:
            ledger.blame("honest_cut", f"{method}: {outcome.reason}")
        if outcome.end == "refused":
            await asyncio.sleep(BACK_OFF_SECONDS)


async def vandal(pid: int, chance: random.Random, done: Counter[str], more: Callable[[], bool]) -> None:
    """Every few seconds, kill or stop a worker process or child process of the server. A stopped process gets SIGCONT
    some seconds later, unless the server has already ended it. `done` counts the signals by name."""
    stopped: list[psutil.Process] = []
    try:
        while more():
            await asyncio.sleep(chance.uniform(2.0, 8.0))
            victims = psutil.Process(pid).children(recursive=True)
            if not victims:
                continue
            victim = chance.choice(victims)
            number = chance.choice((signal.SIGKILL, signal.SIGSTOP))
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(number)
                done[number.name] += 1
                if number == signal.SIGSTOP:
                    stopped.append(victim)
            if stopped and chance.random() < 0.5:
                _go_on(stopped.pop(0))
    finally:
        for each in stopped:
            _go_on(each)


def _go_on(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGCONT)
