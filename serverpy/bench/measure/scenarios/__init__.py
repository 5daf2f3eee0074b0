"""The scenarios that the bench measures, in the order of a run. Each module measures one group of claims about the
server, for example about its speed."""

from __future__ import annotations

from serverpy.bench.measure.scenarios.base import Bench, Cell, Findings, Mode, Plan, Result, Scenario, new_bench
from serverpy.bench.measure.scenarios.callbacks import CALLBACKS
from serverpy.bench.measure.scenarios.chaos import CHAOS
from serverpy.bench.measure.scenarios.crowd import CROWD
from serverpy.bench.measure.scenarios.embedded import COLLECT, HAND_OVER, OVERLOAD, WORKERS
from serverpy.bench.measure.scenarios.extraction import EXTRACTION
from serverpy.bench.measure.scenarios.hls import HLS
from serverpy.bench.measure.scenarios.hostile import HOSTILE
from serverpy.bench.measure.scenarios.idle import IDLE
from serverpy.bench.measure.scenarios.mixed_load import MIXED, SOAK
from serverpy.bench.measure.scenarios.over_time import OVER_TIME
from serverpy.bench.measure.scenarios.profiles import PROFILES
from serverpy.bench.measure.scenarios.promise import PROMISE
from serverpy.bench.measure.scenarios.saturation import SATURATION
from serverpy.bench.measure.scenarios.sequential import SEQUENTIAL
from serverpy.bench.measure.scenarios.speed import LATENCY, RATE, THROUGHPUT
from serverpy.bench.measure.scenarios.steps import STEPS

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        *(STEPS, CROWD, OVER_TIME, SEQUENTIAL, HAND_OVER, WORKERS, COLLECT, OVERLOAD),
        *(LATENCY, RATE, THROUGHPUT, HLS, PROFILES, EXTRACTION),
        *(IDLE, SATURATION, MIXED, PROMISE, SOAK, CHAOS, HOSTILE, CALLBACKS),
    )
}
"""The scenarios by name, in the order of a run. A run for which the user names no scenarios leaves out the scenarios
whose `only_named` is true."""

__all__ = ["SCENARIOS", "Bench", "Cell", "Findings", "Mode", "Plan", "Result", "Scenario", "new_bench"]
