"""Small runs of the benchmark scenarios that put the server at its limits. The tests check that the results are right
and that each violation of a limit is noticed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from serverpy.bench.measure.confine import confined, data_bytes
from serverpy.bench.measure.errors import BenchError
from serverpy.bench.measure.exchange import Outcome
from serverpy.bench.measure.sampler import Reading
from serverpy.bench.measure.scenarios import SCENARIOS, Bench, new_bench
from serverpy.bench.measure.scenarios.idle import measure as measure_idle
from serverpy.bench.measure.scenarios.mixed_load import measure_mixed, soak, trend
from serverpy.bench.measure.scenarios.mixed_load import problems as leftovers
from serverpy.bench.measure.scenarios.promise import Load, kind_of, measure, problems
from serverpy.bench.measure.scenarios.request_kinds import Mixed
from serverpy.bench.measure.scenarios.saturation import measure as measure_saturation
from serverpy.bench.measure.targets import TARGETS, sample_origin

MIB = 1 << 20


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with sample_origin() as origin, new_bench("quick", origin) as bench:
        yield bench


# --- The budget ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "limited"), [("relay", False), ("relay", True), ("embedded", False)])
def test_the_server_respects_its_memory_budget_under_200_clients(bench: Bench, name: str, limited: bool) -> None:
    """200 clients connect at once, more than the server accepts. Each served client gets every byte, and each refused
    client gets a Retry-After. The process that serves the clients uses at most its base memory plus 110 % of its
    budget."""
    found = measure(TARGETS[name], Load(200, 3.0, 16 * MIB), limited, bench)
    assert not found.problems
    (row,), (series,) = found.rows, found.series
    assert row["held"]
    assert row["wrong"] == row["failed"] == 0
    assert row["served"] > 0
    assert row["refused"] > 0 or name == "relay", "no stream was refused, although the budget cannot hold all of them"
    assert row["served"] + row["refused"] + row["timed_out"] <= 200
    assert (row["limit"] is not None) is limited
    assert max(series["pss"]) == row["highest_pss"]
    assert len(series["t"]) == row["readings"] > 20


def outcome(end: str, status: int | None, **more: object) -> Outcome:
    # mypy cannot see that the callers pass valid types
    return Outcome(end, status, 0, None, 1.0, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ended", "kind"),
    [
        (outcome("refused", 503, retry_after="3"), "refused"),
        (outcome("refused", 503), "failed"),
        (outcome("refused", 500, retry_after="3"), "failed"),
        (outcome("failed", None, reason="no byte within 60 s"), "timed_out"),
        (outcome("cut", 200, reason="silent for 60 s"), "timed_out"),
        (outcome("cut", 200, reason="cut after 7 bytes of 9"), "failed"),
        (outcome("wrong", 200, reason="wrong bytes"), "wrong"),
    ],
)
def test_the_outcome_of_a_request_is_classified_as_served_or_refused_or_wrong_or_failed(
    ended: Outcome, kind: str
) -> None:
    assert kind_of(ended) == kind


def test_a_run_in_which_a_memory_limit_is_exceeded_or_a_client_fails_is_reported_as_a_problem() -> None:
    kept = {"held": True, "wrong": 0, "failed": 0, "served": 9, "highest_pss": 5, "allowed_pss": 9.0}
    assert not list(problems(kept, []))
    for change in ({"held": False}, {"wrong": 1}, {"failed": 2}, {"served": 0}):
        assert list(problems({**kept, **change}, [outcome("wrong", 200, reason="wrong bytes")])), change


# --- Leftovers -----------------------------------------------------------------------------------------------------


def test_in_a_mix_of_200_requests_of_twelve_kinds_each_request_ends_as_expected_for_its_kind(bench: Bench) -> None:
    found = measure_mixed(TARGETS["relay"], 200, bench)
    (row,) = found.rows
    assert row["unexpected"] == 0, found.problems
    kinds = {name: number for name, number in row.items() if name.startswith("asked ")}
    assert len(kinds) == 12
    assert sum(kinds.values()) == 200
    assert kinds["asked left"] == 10
    assert row["zombies"] == 0
    assert row["processes_after"] <= row["processes_before"] == 2
    assert not any("still in use" in problem for problem in found.problems)


def reading(**more: int) -> Reading:
    return replace(Reading(0.0, 100, 90, 120, 1.0, 5, 20, 2, 0), **more)


def test_resources_that_the_server_still_holds_after_a_run_are_reported_as_problems() -> None:
    idle = {"streams": 0, "waiting": 0, "upstreams": 0, "buffered_bytes": 0, "budget": {"used": 0, "total": 9}}
    assert not list(leftovers(Mixed(), reading(), reading(threads=3, fds=20), idle))
    assert list(leftovers(Mixed(), reading(), reading(fds=22, zombies=1), idle)) == [
        "not released after the run: 2 fds, 1 zombies"
    ]
    held = {**idle, "streams": 2, "budget": {"used": 7, "total": 9}}
    assert list(leftovers(Mixed(), reading(), reading(), held)) == ["still in use after the run: 2 streams, 7 budget"]
    assert list(leftovers(Mixed(unexpected=1, reasons=["head: cut"]), reading(), reading(), idle)) == [
        "1 requests did not end as expected: head: cut"
    ]


def test_a_soak_run_records_the_memory_over_time_and_its_trend(bench: Bench) -> None:
    found = soak(4.0, bench)
    (row,), (series,) = found.rows, found.series
    assert row["unexpected"] == 0, found.problems
    assert row["requests"] > 50
    assert row["slow_clients"] >= 20
    assert len(series["t"]) == len(series["pss"]) >= 4
    assert 0 < row["pss_first_quarter"] < 2 * row["pss_last_quarter"]


def test_the_memory_trend_is_reported_in_bytes_per_hour() -> None:
    found = trend([0.0, 1.0, 2.0, 3.0], [100, 101, 102, 103])
    assert found == {"pss_first_quarter": 100, "pss_last_quarter": 103, "pss_slope_per_hour": pytest.approx(3600)}
    with pytest.raises(BenchError):
        trend([0.0], [1])


def test_long_benchmark_scenarios_run_only_if_the_user_names_them() -> None:
    assert [each.name for each in SCENARIOS.values() if each.only_named] == ["soak", "chaos", "hostile", "callbacks"]


# --- Saturation and idling -----------------------------------------------------------------------------------------


def test_streams_continue_while_extractions_saturate_the_worker(bench: Bench) -> None:
    found = measure_saturation(TARGETS["relay"], 0.5, 1.5, bench)
    assert not found.problems
    before, during = found.rows
    assert (before["extractions"], before["streams"]) == (0, 55)
    assert during["extractions"] > 0
    assert during["lag_p99"] >= during["lag_p50"] >= 0
    assert during["answer_longest"] >= during["answer_p99"] > 0


def test_an_idle_server_ends_its_worker_and_the_next_extraction_starts_another_one(bench: Bench) -> None:
    first, idle, known, new = measure_idle(bench).rows
    assert [row["processes"] for row in (first, idle, known, new)] == [2, 1, 1, 2]
    assert idle["pss"] < first["pss"]
    assert min(row["first_byte"] for row in (first, known, new)) > 0


# --- Limiting a process's memory -----------------------------------------------------------------------------------

HUNGRY = """
import sys
print(0, flush=True)
sys.stdin.readline()
kept = bytearray(64 << 20)
kept[::4096] = kept[::4096]
print(len(kept))
"""


@pytest.mark.parametrize(("more", "enough"), [(16 * MIB, False), (128 * MIB, True)])
def test_a_confined_process_cannot_allocate_memory_beyond_its_memory_limit(more: int, enough: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HUNGRY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"0\n"
        assert data_bytes(process.pid) > MIB
        with confined(process.pid, more, 0):
            said, _ = process.communicate(b"now\n", timeout=30)
        assert (said == b"67108864\n") is enough
        assert (process.returncode == 0) is enough
