"""Progress of a bench run: a bar with the remaining time if stderr is a terminal, otherwise lines.

The remaining time is the sum of the estimates of the remaining measurements, multiplied by the ratio of elapsed to
estimated time of the past ones. Measurements take from 5 seconds to 5 minutes, so an estimate from their number alone
would jump.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from serverpy.bench.measure.run import Watcher
from serverpy.bench.measure.scenarios import Cell, Scenario

ENOUGH_SECONDS = 20.0


class Lines:
    """Watcher that prints a line for each measurement (cell)."""

    def plan(self, seconds: float) -> None:
        self.say(f"This takes about {clock(seconds)}.")

    def cell(self, scenario: Scenario, cell: Cell) -> None:
        self.say(f"{scenario.name}: {cell.title}")

    def cell_ended(self, cell: Cell) -> None:
        pass  # no line is needed, because the line of the next measurement shows the progress

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class Bar(Progress):
    """Watcher with one bar for the whole run, which also moves while a measurement runs. A context manager."""

    def __init__(self) -> None:
        self._task: TaskID | None = None
        self._total = self._behind = 0.0
        self._begun = self._cell_begun = time.monotonic()
        self._cell: Cell | None = None
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[remaining]} left", markup=False),
            console=Console(stderr=True, highlight=False),
            refresh_per_second=2,
            transient=True,
        )

    def plan(self, seconds: float) -> None:
        self._total, self._begun = seconds, time.monotonic()
        self._task = self.add_task("", total=seconds, remaining=clock(seconds))

    def cell(self, scenario: Scenario, cell: Cell) -> None:
        self._cell, self._cell_begun = cell, time.monotonic()
        if self._task is not None:
            self.update(self._task, description=f"{scenario.name}: {cell.title}")

    def cell_ended(self, cell: Cell) -> None:
        self._behind += cell.seconds
        self._cell = None

    def say(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Advance the bar to the current time. rich calls this method a few times a second."""
        if self._task is not None:
            done = self._behind
            if self._cell is not None:
                done += min(time.monotonic() - self._cell_begun, self._cell.seconds)
            self.update(self._task, completed=done, remaining=clock((self._total - done) * self._pace()))
        return super().get_renderables()

    def _pace(self) -> float:
        """Return the ratio of elapsed to estimated seconds of the past measurements. Returns 1 while their estimates
        sum to less than ENOUGH_SECONDS."""
        return (self._cell_begun - self._begun) / self._behind if self._behind >= ENOUGH_SECONDS else 1.0


@contextlib.contextmanager
def watching() -> Iterator[Watcher]:
    """Yield a watcher that suits stderr: a bar if stderr is a terminal, otherwise lines."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    with Bar() as bar:
        yield bar


def clock(seconds: float) -> str:
    """Format seconds as `1:05` (minutes and seconds), or as `1:02:03` from one hour."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
