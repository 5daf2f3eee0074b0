"""The parts that all scenarios use. A scenario consists of measurements (cells), each with a freshly started server;
this module also has the tools that a measurement may use.

A scenario yields its measurements for a run, depending on the servers that the user has chosen and that are installed.
`run.py` makes them one after the other. A measurement that fails makes its scenario fail, but the scenario's other
measurements are still made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import uvloop

from serverpy.bench.measure.errors import BenchError
from serverpy.bench.measure.targets import Origin, Running, Target

T = TypeVar("T")
Mode = Literal["quick", "default", "full"]
Row: TypeAlias = dict[str, Any]

OURS = ("relay", "embedded", "subprocess")


@dataclass(frozen=True, slots=True)
class Findings:
    """The results of one measurement (cell). If there are `problems`, the scenario fails, but its rows are kept."""

    rows: tuple[Row, ...] = ()
    series: tuple[Row, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement. `seconds` is its estimated duration, which the progress bar uses."""

    title: str
    seconds: float
    measure: Callable[[Bench], Findings]


@dataclass(frozen=True, slots=True)
class Plan:
    """The choices for this run. `targets` are the servers that the user has chosen and that can run here; `streams`
    overrides the mode's numbers of clients, and `minutes` its duration of `soak` and `chaos`. `seed` determines the
    random choices of `chaos`."""

    mode: Mode
    targets: Mapping[str, Target]
    streams: tuple[int, ...] | None = None
    minutes: float | None = None
    seed: int | None = None

    def those(self, *names: str) -> list[Target]:
        """Return the servers that this run measures among `names`, in the order of `names`."""
        return [self.targets[name] for name in names if name in self.targets]

    def by_mode(self, quick: T, default: T, full: T) -> T:
        return {"quick": quick, "default": default, "full": full}[self.mode]


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    cells: Callable[[Plan], Iterable[Cell]]
    targets: tuple[str, ...]
    """The names of the servers that the scenario can measure. If none of them is chosen and installed, the run skips
    the scenario."""
    only_named: bool = False
    """Whether the run leaves out the scenario, because it takes very long, unless the user names it."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one scenario. `reason` says why it failed, which servers were left out, or where the user
    interrupted it."""

    name: str
    title: str
    status: Literal["done", "failed", "skipped", "incomplete"]
    reason: str | None
    seconds: float
    rows: tuple[Row, ...] = ()
    series: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Bench:
    """The objects that all measurements of a run share. The caller that creates the bench closes its origin and its
    event loop."""

    mode: Mode
    origin: Origin
    loop: asyncio.Runner

    def by_mode(self, quick: T, default: T, full: T) -> T:
        return {"quick": quick, "default": default, "full": full}[self.mode]

    def start(
        self, target: Target, settings: Mapping[str, object] | None = None
    ) -> contextlib.AbstractContextManager[Running]:
        """Run the server `target` for the duration of a block. `settings` must be settings that the server accepts
        (`settings_for`)."""
        return target.start(self.origin, settings={name: str(value) for name, value in (settings or {}).items()})

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine `work` to its end. If `work` raises an exception group with only one exception, raises that
        exception itself."""
        try:
            return self.loop.run(work)
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from group
            raise


Work: TypeAlias = Callable[[Bench, Running], Coroutine[Any, Any, Findings]]


@contextlib.contextmanager
def new_bench(mode: Mode, origin: Origin) -> Iterator[Bench]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.get_loop().set_exception_handler(_report)
        yield Bench(mode, origin, loop)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report errors of the event loop except one: uvloop raises InvalidStateError if a `sock_recv` is cancelled in the
    loop iteration in which bytes arrive. That happens when a measurement with slow clients is interrupted."""
    if not isinstance(context.get("exception"), asyncio.InvalidStateError):
        loop.default_exception_handler(context)


def on(target: Target, settings: Mapping[str, object] | None, work: Work) -> Callable[[Bench], Findings]:
    """Return a function for `Cell.measure` that starts the server `target` with `settings`, runs `work` on it, and
    stops the server."""

    def measure(bench: Bench) -> Findings:
        with bench.start(target, settings) as running:
            return bench.run(work(bench, running))

    return measure


def settings_for(target: Target, clients: int, **more: object) -> dict[str, object]:
    """Return settings that let the server `target` serve `clients` clients, so that the bench does not measure a
    configured limit."""
    if target.name == "seed":
        return {"MAX_WORKERS": clients + 2, **more}
    if target.name not in OURS:
        return {}
    room = {
        "MAX_STREAMS": 2 * clients + 10,
        "MAX_WORKERS": clients + 2,
        "MAX_CHILDREN": clients + 2,
        "MEMORY_BUDGET": "8GiB",
        "WAIT_SECONDS": 300,
        "EXTRACT_TIMEOUT": 300,
    }
    return {**room, **more}


def require(condition: bool, problem: str) -> None:
    """Raise BenchError with `problem` unless `condition` is true, because later figures would be meaningless."""
    if not condition:
        raise BenchError(problem)


def percentile(values: Collection[float], share: float) -> float | None:
    """Return the value below which the fraction `share` (0 to 1) of the values lies. Returns None if there are no
    values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
