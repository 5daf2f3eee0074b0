"""What the bench measures, in the order of the run: one readable module for each group of claims."""

from __future__ import annotations

from serverpy.bench.scenarios.base import Bench, Cell, Findings, Mode, Plan, Result, Scenario, new_bench
from serverpy.bench.scenarios.crowd import CROWD

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in (CROWD,)}

__all__ = ["SCENARIOS", "Bench", "Cell", "Findings", "Mode", "Plan", "Result", "Scenario", "new_bench"]
