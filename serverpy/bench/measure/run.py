"""A run of the bench: it measures the chosen scenarios one after the other and writes the results to `results.json`.

The run rewrites this file after each scenario, so that no result is lost. It records a failed scenario with the reason
and still measures the other scenarios; it marks an interrupted scenario as incomplete. When `run` returns or raises,
every process that it started has ended.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import psutil

from serverpy.bench.measure import machine
from serverpy.bench.measure.children import terminated_like_interrupted
from serverpy.bench.measure.scenarios import Bench, Cell, Findings, Mode, Plan, Result, Scenario, new_bench
from serverpy.bench.measure.targets import TARGETS, Target, sample_origin
from serverpy.errors import ServerPYError

RESULTS = "results.json"
DONE, FAILED, INTERRUPTED = 0, 1, 130


class Watcher(Protocol):
    """Interface through which a run reports its progress."""

    def plan(self, seconds: float) -> None:
        """Show that the run will take about `seconds`. The run calls this method once, before all others."""

    def cell(self, scenario: Scenario, cell: Cell) -> None:
        """Show that the measurement `cell` begins."""

    def cell_ended(self, cell: Cell) -> None: ...

    def say(self, line: str) -> None:
        """Show one line to the user."""


@dataclass(frozen=True, slots=True)
class Order:
    """The choices of the user for a run. If `methods` is None, the run measures every server that is installed; if
    `streams` or `minutes` is None, the mode determines the numbers of clients and the duration of `soak` and `chaos`.
    If `seed` is None, `chaos` takes a new one."""

    scenarios: Sequence[Scenario]
    mode: Mode
    out: Path
    methods: tuple[str, ...] | None = None
    streams: tuple[int, ...] | None = None
    command: str = "serverpy bench"
    minutes: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scenario with its measurements (cells) for this run. `missing` says why the run leaves out some servers."""

    scenario: Scenario
    cells: tuple[Cell, ...]
    missing: str

    @property
    def seconds(self) -> float:
        return sum(cell.seconds for cell in self.cells)


def run(order: Order, watcher: Watcher) -> int:
    """Measure the scenarios that `order` chooses, and return the exit status: 0 if no scenario failed, 1 if one failed,
    130 if the user interrupted the run. Raises TargetFailed if the sample site does not start, OSError if the results
    cannot be written. Call this function from the main thread."""
    missing = {name: reason for name in order.methods or TARGETS if (reason := TARGETS[name].missing())}
    for reason in missing.values():
        watcher.say(f"left out: {reason}")
    prepared = prepare(order, missing)
    watcher.plan(sum(each.seconds for each in prepared))
    record = Record(order, missing)
    record.write()
    try:
        with terminated_like_interrupted(), sample_origin() as origin, new_bench(order.mode, origin) as bench:
            for each in prepared:
                result = _measure(each, bench, watcher)
                record.add(result)
                _announce(result, watcher)
                if result.status == "incomplete":
                    return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED  # the user has interrupted the run between two scenarios
    record.finish()
    return DONE if all(result.status in ("done", "skipped") for result in record.results) else FAILED


def prepare(order: Order, missing: dict[str, str]) -> list[Prepared]:
    """Return each scenario with its measurements (cells). No measurement uses a server in `missing`, which maps the
    names of servers that cannot run to the reasons."""
    chosen: dict[str, Target] = {name: TARGETS[name] for name in order.methods or TARGETS if name not in missing}
    plan = Plan(order.mode, chosen, order.streams, order.minutes, order.seed)
    return [
        Prepared(
            scenario,
            tuple(scenario.cells(plan)),
            "; ".join(reason for name, reason in missing.items() if name in scenario.targets),
        )
        for scenario in order.scenarios
    ]


def _measure(prepared: Prepared, bench: Bench, watcher: Watcher) -> Result:
    """Make all measurements of a scenario, including those after a measurement that failed."""
    scenario, begun = prepared.scenario, time.monotonic()
    found: list[Findings] = []
    problems: list[str] = []
    status: Literal["done", "failed", "skipped", "incomplete"] = "done"
    for cell in prepared.cells:
        watcher.cell(scenario, cell)
        try:
            findings = cell.measure(bench)
            found.append(findings)
            problems += [f"{cell.title}: {problem}" for problem in findings.problems]
        except (ServerPYError, OSError, psutil.Error) as error:
            problems.append(f"{cell.title}: {str(error) or type(error).__name__}")
        except KeyboardInterrupt:
            problems.append(f"interrupted at {cell.title}")
            status = "incomplete"
            break
        watcher.cell_ended(cell)
    if status == "done":
        status = "failed" if problems else "done" if prepared.cells else "skipped"
    reasons = [*problems, *([prepared.missing] if prepared.missing else [])]
    if status == "skipped" and not reasons:
        reasons = [f"the scenario has no measurement for the chosen servers in mode {bench.mode}"]
    return Result(
        scenario.name,
        scenario.title,
        status,
        "; ".join(reasons) or None,
        round(time.monotonic() - begun, 3),
        tuple(row for findings in found for row in findings.rows),
        tuple(series for findings in found for series in findings.series),
    )


def _announce(result: Result, watcher: Watcher) -> None:
    if result.status == "done":
        watcher.say(f"{result.name}: done in {result.seconds:.0f} s")
    else:
        watcher.say(f"{result.name}: {result.status}: {result.reason}")


class Record:
    """The results of the run so far, and the path of the file that stores them."""

    def __init__(self, order: Order, missing: dict[str, str]) -> None:
        self._path = order.out / RESULTS
        self._begun = time.monotonic()
        self.results: list[Result] = []
        self._meta: dict[str, Any] = {
            "mode": order.mode,
            "command": order.command,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": 0.0,
            "complete": False,
            "versions": machine.versions(),
            "machine": machine.machine(),
            "missing": missing,
        }

    def add(self, result: Result) -> None:
        self.results.append(result)
        self.write()

    def finish(self) -> None:
        """Record in the results that the run has measured every scenario."""
        self._meta["complete"] = True
        self.write()

    def write(self) -> None:
        """Replace the results file atomically, so that a reader never sees a partial file."""
        self._meta["seconds"] = round(time.monotonic() - self._begun, 3)
        content = {"meta": self._meta, "scenarios": [asdict(result) for result in self.results]}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".part")
        draft.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(draft, self._path)
