"""Tests of `serverpy bench` as a user starts it: its results if the run succeeds, if a server dies, and after
Ctrl+C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from serverpy.bench.measure.errors import BenchError
from serverpy.bench.measure.run import DONE, FAILED, RESULTS, Order, prepare, run
from serverpy.bench.measure.sampler import Reading
from serverpy.bench.measure.scenarios import SCENARIOS, Bench, Cell, Findings, Plan, Scenario
from serverpy.bench.measure.scenarios.base import percentile
from serverpy.bench.measure.scenarios.measuring import is_steady
from serverpy.bench.measure.targets import TARGETS
from tests.aio import wait_for
from tests.bench.signals import as_by_nohup, as_from_a_terminal

SECONDS = 100.0


@contextlib.contextmanager
def bench(
    out: Path, *arguments: str, signals: Callable[[], None] = as_from_a_terminal
) -> Iterator[subprocess.Popen[str]]:
    """Run `serverpy bench` in a new process group, as a shell does. Kills the command at the end of the block if it is
    still running."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SERVERPY_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "serverpy", "bench", "--quick", "--out", str(out), *arguments],
        env=clean,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        preexec_fn=signals,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def results(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / RESULTS).read_text())
    return found


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def find(process: subprocess.Popen[str], word: str) -> psutil.Process | None:
    """Return the descendant of the benchmark process that has the argument `word` in its command line, or None if no
    descendant has it."""
    for child in family(process):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if word in child.cmdline():
                return child
    return None


def until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds. Raises AssertionError if the benchmark process ends first."""

    def met() -> bool:
        assert process.poll() is None, process.communicate()
        return condition()

    wait_for(met, seconds=SECONDS)


def loaded(process: subprocess.Popen[str]) -> bool:
    """Return True if the clients have connected: the server under test then has more than 50 file descriptors."""
    server = find(process, "serve")
    try:
        return server is not None and server.num_fds() > 50
    except psutil.NoSuchProcess:
        return False


def none_left(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=5)
    return not alive


def test_a_run_of_two_scenarios_writes_results_and_a_report(tmp_path: Path) -> None:
    with bench(tmp_path, "latency", "throughput", "--methods", "relay") as process:
        said, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == DONE, errors
    found = results(tmp_path)
    assert found["meta"]["complete"]
    assert found["meta"]["mode"] == "quick"
    assert found["meta"]["command"].startswith("serverpy bench --quick")
    assert found["meta"]["versions"]["yt-dlp"]
    assert found["meta"]["machine"]["memory_bytes"] > 1 << 28
    assert [(each["name"], each["status"], each["reason"]) for each in found["scenarios"]] == [
        ("latency", "done", None),
        ("throughput", "done", None),
    ]
    rows = found["scenarios"][0]["rows"]
    assert [(row["target"], row["state"], row["in_flight"]) for row in rows] == [
        ("relay", "cold", 1),
        ("relay", "cached", 1),
        ("relay", "cached", 50),
    ]
    assert all(row["origin_first_byte_p50"] > 0 and row["first_byte_p50"] > 0 for row in rows)
    (row,) = found["scenarios"][1]["rows"]
    assert row["cpu_per_gb"] > 0
    assert row["ratio_to_nginx"] is None, "there is no ratio to a rival that was not measured"
    assert said.strip().endswith(str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert (tmp_path / "report.md").exists()


def test_a_killed_server_makes_its_scenario_and_the_run_fail(tmp_path: Path) -> None:
    with bench(tmp_path, "crowd", "extraction", "--methods", "relay", "--streams", "50") as process:
        until(process, lambda: loaded(process))
        server = find(process, "serve")
        assert server is not None
        server.kill()
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == FAILED
    crowd, extraction = results(tmp_path)["scenarios"]
    assert (crowd["status"], crowd["rows"]) == ("failed", [])
    assert crowd["reason"].startswith("ServerPY relay, 50 clients, http: ")
    assert "ended" in crowd["reason"]
    assert f"crowd: failed: {crowd['reason']}" in errors.splitlines()
    assert extraction["status"] == "done", "the others still run"
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_process_and_names_the_unfinished_scenario(
    tmp_path: Path, number: signal.Signals
) -> None:
    with bench(tmp_path, "crowd", "--methods", "relay", "--streams", "50") as process:
        until(process, lambda: loaded(process))
        children = family(process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert none_left(children)
    assert "Traceback" not in errors
    found = results(tmp_path)
    assert not found["meta"]["complete"]
    (crowd,) = found["scenarios"]
    assert (crowd["status"], crowd["rows"]) == ("incomplete", [])
    assert crowd["reason"] == "interrupted at ServerPY relay, 50 clients, http"


def test_a_benchmark_run_under_nohup_ignores_sigint_and_sighup_but_ends_on_sigterm(tmp_path: Path) -> None:
    with bench(tmp_path, "crowd", "--methods", "relay", "--streams", "50", signals=as_by_nohup) as process:
        until(process, lambda: loaded(process))
        children = family(process)
        status = Path(f"/proc/{process.pid}/status").read_text()
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        assert all(ignored >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGHUP))
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert none_left(children)


@pytest.mark.parametrize("arguments", [("nothing",), ("--methods", "wget"), ("--streams", "0"), ("--methods", ",")])
def test_the_bench_command_refuses_invalid_names_and_numbers_as_usage_errors(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with bench(tmp_path, *arguments) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "Error: " in errors
    assert not (tmp_path / RESULTS).exists()


# --- Without processes ---------------------------------------------------------------------------------------------


class Silent:
    """Watcher that records the lines of progress instead of printing them."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.planned = 0.0

    def plan(self, seconds: float) -> None:
        self.planned = seconds

    def cell(self, scenario: Scenario, cell: Cell) -> None: ...
    def cell_ended(self, cell: Cell) -> None: ...

    def say(self, line: str) -> None:
        self.said.append(line)


def scenario(name: str, *measures: Callable[[Bench], Findings]) -> Scenario:
    cells = tuple(Cell(f"cell {number}", 2.0, measure) for number, measure in enumerate(measures))
    return Scenario(name, name.title(), lambda _plan: cells, ("relay",))


def fails(_bench: Bench) -> Findings:
    raise BenchError("the cell broke")


def finds(_bench: Bench) -> Findings:
    return Findings(rows=({"clients": 1},))


def doubts(_bench: Bench) -> Findings:
    return Findings(rows=({"clients": 2},), problems=("3 of 5 had no stream",))


def test_a_scenario_is_measured_to_its_end_even_if_one_of_its_cells_fails(tmp_path: Path) -> None:
    watcher = Silent()
    asked = (scenario("bad", fails, finds, doubts), scenario("good", finds), scenario("none"))
    assert run(Order(asked, "quick", tmp_path, ("relay",)), watcher) == FAILED
    bad, good, none = results(tmp_path)["scenarios"]
    assert (bad["status"], bad["rows"]) == ("failed", [{"clients": 1}, {"clients": 2}])
    assert bad["reason"] == "cell 0: the cell broke; cell 2: 3 of 5 had no stream"
    assert (good["status"], good["reason"]) == ("done", None)
    assert (none["status"], none["rows"]) == ("skipped", [])
    assert none["reason"]
    assert watcher.planned == 8.0
    assert results(tmp_path)["meta"]["complete"], "every scenario has run"
    assert not list(tmp_path.glob("*.part"))


def test_a_scenario_leaves_out_a_rival_program_that_is_not_installed_and_reports_this(tmp_path: Path) -> None:
    order = Order(tuple(SCENARIOS.values()), "default", tmp_path)
    whole = {each.scenario.name: each for each in prepare(order, {})}
    fewer = {each.scenario.name: each for each in prepare(order, {"nginx": "nginx is not installed"})}
    assert len(fewer["crowd"].cells) < len(whole["crowd"].cells)
    assert fewer["crowd"].missing == "nginx is not installed"
    assert not any("nginx, proxy_buffering off" in cell.title for cell in fewer["crowd"].cells)
    assert fewer["hand-over"].missing == ""
    assert len(fewer["hand-over"].cells) == len(whole["hand-over"].cells)


@pytest.mark.parametrize(("mode", "minutes"), [("quick", 2.2), ("default", 40)])
def test_the_estimated_duration_of_a_run_is_within_the_minutes_that_the_help_promises(
    tmp_path: Path, mode: Any, minutes: float
) -> None:
    usual = tuple(each for each in SCENARIOS.values() if not each.only_named)
    prepared = prepare(Order(usual, mode, tmp_path), {})
    assert sum(each.seconds for each in prepared) <= 60 * minutes


def test_the_options_for_streams_and_methods_select_the_cells_of_a_scenario(tmp_path: Path) -> None:
    order = Order((SCENARIOS["crowd"],), "default", tmp_path, ("relay", "nginx"), (7, 9))
    (crowd,) = prepare(order, {})
    titles = [cell.title for cell in crowd.cells]
    assert len(titles) == 4
    assert all(" 7 clients" in title or " 9 clients" in title for title in titles)


def test_each_scenario_names_only_existing_targets() -> None:
    plan = Plan("full", dict(TARGETS))
    for each in SCENARIOS.values():
        assert set(each.targets) <= set(TARGETS)
        assert tuple(each.cells(plan))


def reading(t: float, pss: int, cpu: float) -> Reading:
    return Reading(t, pss, pss, pss, cpu, 1, 1, 1, 0)


def test_stable_memory_counts_as_a_plateau_only_if_the_cpu_of_the_target_is_not_saturated() -> None:
    times = [number / 5 for number in range(20)]
    flat = [reading(t, 100_000_000, 0.05 * t) for t in times]
    rising = [reading(t, int(100_000_000 + 5_000_000 * t), 0.05 * t) for t in times]
    filling = [reading(t, 100_000_000, min(t, 2.8)) for t in times]
    assert is_steady(flat)
    assert not is_steady(rising)
    assert not is_steady(filling), "while the kernel's buffers fill, the target works at full speed"
    assert not is_steady(flat[:4])
    assert not is_steady([])


def test_percentiles_are_computed_by_nearest_rank() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile(range(1, 101), 0.99) == 100
