"""The parts of all scenarios: cells, each measured on its own with a freshly started target, and the tools that a cell
may use. A scenario yields its cells for a run, depending on the targets that are requested and installed. `run.py`
measures the cells one after the other. A cell that fails makes its scenario fail, but the other cells are still
measured.
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
    """The results of one cell. `problems` make the scenario fail, although its rows are kept."""

    rows: tuple[Row, ...] = ()
    series: tuple[Row, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement. `seconds` is an estimate, for the progress bar."""

    title: str
    seconds: float
    measure: Callable[[Bench], Findings]


@dataclass(frozen=True, slots=True)
class Plan:
    """The choices for this run. `targets` are requested and can run here; `streams` overrides the numbers of
    clients."""

    mode: Mode
    targets: Mapping[str, Target]
    streams: tuple[int, ...] | None = None

    def those(self, *names: str) -> list[Target]:
        """Return the targets that this run measures among `names`, in the order of `names`."""
        return [self.targets[name] for name in names if name in self.targets]

    def by_mode(self, quick: T, default: T, full: T) -> T:
        return {"quick": quick, "default": default, "full": full}[self.mode]


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    cells: Callable[[Plan], Iterable[Cell]]
    targets: tuple[str, ...]
    """The targets that the scenario can measure. If none of them is chosen and installed, the scenario is skipped."""
    only_named: bool = False
    """Whether the scenario takes too long for a run that names no scenarios."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one scenario. `reason` says why it failed, which targets were left out, or where it was
    interrupted."""

    name: str
    title: str
    status: Literal["done", "failed", "skipped", "incomplete"]
    reason: str | None
    seconds: float
    rows: tuple[Row, ...] = ()
    series: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Bench:
    """The objects that the cells of a run share. The creator of the bench owns the origin and the loop."""

    mode: Mode
    origin: Origin
    loop: asyncio.Runner

    def by_mode(self, quick: T, default: T, full: T) -> T:
        return {"quick": quick, "default": default, "full": full}[self.mode]

    def start(
        self, target: Target, settings: Mapping[str, object] | None = None
    ) -> contextlib.AbstractContextManager[Running]:
        """Run the target for the duration of a block, with settings that it knows (`settings_for`)."""
        return target.start(self.origin, settings={name: str(value) for name, value in (settings or {}).items()})

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end. If a group raises only one exception, raises that exception itself."""
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
    """Report errors of the loop except one: uvloop raises InvalidStateError if a `sock_recv` is cancelled in the
    turn in which bytes arrive. That happens when a crowd is interrupted."""
    if not isinstance(context.get("exception"), asyncio.InvalidStateError):
        loop.default_exception_handler(context)


def on(target: Target, settings: Mapping[str, object] | None, work: Work) -> Callable[[Bench], Findings]:
    """Return a cell's `measure` that starts `target` with these settings, runs `work` on it, and ends it."""

    def measure(bench: Bench) -> Findings:
        with bench.start(target, settings) as running:
            return bench.run(work(bench, running))

    return measure


def settings_for(target: Target, clients: int, **more: object) -> dict[str, object]:
    """Return settings that let the target serve that many clients, so that the bench does not measure a limit of the
    target."""
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
    """Raise BenchError with `problem` unless `condition` holds, because later figures would be meaningless."""
    if not condition:
        raise BenchError(problem)


def percentile(values: Collection[float], share: float) -> float | None:
    """Return the percentile by nearest rank. Returns None if there are no values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
