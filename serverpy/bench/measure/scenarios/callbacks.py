"""The scenario `callbacks`: how long the callbacks of the server's event loop take, for each of the largest inputs that
the bounds of the server allow. No callback may take more than 20 ms of CPU time, because all streams wait meanwhile.

The server runs on asyncio's event loop, whose callbacks are measured (`measure/callbacks.py`). The scenario starts the
server several times, and sends each input once per start. For each kind of callback, the longest callback of each start
is found, and the shortest of these counts: a cost of the input appears in every start, but a delay of the machine does
not. The cost of the first use of a part of the server, with its imports, counts for the input that uses the part first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from serverpy.bench.measure.callbacks import Callback, read_callbacks
from serverpy.bench.measure.large_site import large_site
from serverpy.bench.measure.origin import Origin
from serverpy.bench.measure.scenarios.base import Bench, Cell, Findings, Plan, Row, Scenario
from serverpy.bench.measure.scenarios.large_inputs import INPUTS, KEYS_FILE, Input, Load, keys_file
from serverpy.bench.measure.targets import Running
from serverpy.bench.measure.targets.base import Launch
from serverpy.bench.measure.targets.tube import WithTube

ALLOWED_SECONDS = 0.020
"""Maximum CPU time, in seconds, of a callback."""
SECONDS_OF_INPUT = 4.0
"""Estimated duration, in seconds, of one input."""
RECORDS = "callbacks.jsonl"
QUICK_SCALE = 0.1
"""The `scale` of a `Load` in a quick run."""
SETTINGS = {
    "MEMORY_BUDGET": 1 << 30,
    "MAX_STREAMS": 400,
    "CLIENT_STREAMS": 400,
    "ALLOW_NETWORKS": "127.0.0.0/8",
    "EXTRACT_TIMEOUT": 120,
    "API_KEYS_FILE": KEYS_FILE,
}
SETTLE_SECONDS = 0.5
"""Seconds after an input during which its last callbacks may run."""


@dataclass(frozen=True, repr=False)
class Measured(WithTube):
    """ServerPY on asyncio's event loop. It appends a record of each long callback to the file RECORDS."""

    def launch(self, origin: Origin, settings: Mapping[str, str]) -> Launch:
        launch = super().launch(origin, settings)
        module = launch.command.index("serverpy")
        measured = ("serverpy.bench.measure.callbacks", f"{{directory}}/{RECORDS}")
        command = [*launch.command[:module], *measured, *launch.command[module + 1 :]]
        return replace(launch, command=command, files={**launch.files, KEYS_FILE: keys_file()})


def cells(plan: Plan) -> Iterator[Cell]:
    starts = plan.by_mode(1, 3, 5)
    if plan.those("relay"):
        seconds = starts * len(INPUTS) * SECONDS_OF_INPUT
        yield Cell("each of the largest inputs", seconds, partial(measure, INPUTS, starts))


def measure(inputs: Sequence[Input], starts: int, bench: Bench) -> Findings:
    target = Measured("callbacks", "ServerPY on asyncio's event loop")
    found: dict[str, list[list[Callback]]] = {each.name: [] for each in inputs}
    for _ in range(starts):
        with bench.start(target, SETTINGS) as running:
            for name, callbacks in bench.run(_measured(inputs, bench, running)):
                found[name].append(callbacks)
    rows = tuple(_row(each, found[each.name]) for each in inputs)
    return Findings(rows, problems=tuple(problems(rows)))


async def _measured(inputs: Sequence[Input], bench: Bench, running: Running) -> list[tuple[str, list[Callback]]]:
    """Send all inputs to the running server. Returns the name of each input, with the callbacks recorded for it."""
    records, found = running.child.directory / RECORDS, []
    scale = bench.by_mode(QUICK_SCALE, 1.0, 1.0)
    async with large_site() as site:
        before = len(read_callbacks(records))
        for each in inputs:
            await each.send(Load(running, bench.origin, site, scale))
            running.check()
            await asyncio.sleep(SETTLE_SECONDS)
            callbacks = read_callbacks(records)
            found.append((each.name, callbacks[before:]))
            before = len(callbacks)
    return found


def longest(repeated: Iterable[Sequence[Callback]]) -> Callback | None:
    """Return the longest callback of an input. `repeated` contains the recorded callbacks of each start. Callbacks with
    the same name are of one kind, and for each kind only the shortest of the longest callbacks of each start counts.
    Returns None if no kind occurs in every start."""
    kinds: list[dict[str, Callback]] = []
    for callbacks in repeated:
        ascending = sorted(callbacks, key=lambda callback: callback.seconds)
        kinds.append({callback.name: callback for callback in ascending})
    shared = set.intersection(*(set(each) for each in kinds)) if kinds else set()
    least = [min((each[name] for each in kinds), key=lambda callback: callback.seconds) for name in shared]
    return max(least, key=lambda callback: callback.seconds, default=None)


def _row(each: Input, repeated: Sequence[Sequence[Callback]]) -> Row:
    found = longest(repeated)
    return {
        "input": each.name,
        "is": each.title,
        "times": len(repeated),
        "longest_callback": found.seconds if found else 0.0,
        "callback": found.name if found else None,
        "waits_at": found.at if found else None,
        "held": found is None or found.seconds <= ALLOWED_SECONDS,
    }


def problems(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a description of the longest callback of each input that exceeds ALLOWED_SECONDS."""
    for row in rows:
        if not row["held"]:
            at = f", which waits at {row['waits_at']}" if row["waits_at"] else ""
            yield f"{row['input']}: {1000 * row['longest_callback']:.0f} ms in {row['callback']}{at}"


CALLBACKS = Scenario("callbacks", "The longest callbacks of the event loop", cells, ("relay",), only_named=True)
