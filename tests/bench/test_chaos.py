"""Tests of the benchmark scenarios `chaos` and `hostile`: which outcomes of requests they report as problems, and short
runs of both scenarios."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from serverpy.bench.measure.exchange import Outcome
from serverpy.bench.measure.sampler import Reading
from serverpy.bench.measure.scenarios import Bench, Plan, chaos, new_bench
from serverpy.bench.measure.scenarios.chaos import Chaos, cells, left_behind, run_clients
from serverpy.bench.measure.scenarios.chaos import measure as measure_chaos
from serverpy.bench.measure.scenarios.chaos import problems as chaos_problems
from serverpy.bench.measure.scenarios.hostile import CROWDS, Crowd
from serverpy.bench.measure.scenarios.hostile import measure as measure_hostile
from serverpy.bench.measure.scenarios.hostile import problems as hostile_problems
from serverpy.bench.measure.scenarios.trouble import LEFT, Ledger, World, code_of, documented_codes, some_fault
from serverpy.bench.measure.targets import TARGETS, Running, sample_origin
from serverpy.sample.faults import parse_faults

REFUSED = Outcome("refused", 503, 0, None, 1.0, reason='503 {"type": "about:blank", "code": "busy"}')


def test_every_random_fault_is_a_valid_specification_and_equal_seeds_yield_equal_faults() -> None:
    chance = random.Random(3)
    faults = [some_fault(chance, "relay") for _ in range(2000)]
    assert all(parse_faults(fault) for fault in set(faults))
    again = random.Random(3)
    assert faults == [some_fault(again, "relay") for _ in range(2000)]


def test_the_ledger_of_a_chaos_run_counts_outcomes_and_error_codes_and_reports_no_problem_for_expected_outcomes() -> (
    None
):
    ledger = Ledger()
    for good in (
        replace(REFUSED, end="complete", status=200, reason="", first_byte=0.5),
        replace(REFUSED, end="cut", status=200, reason="cut after 5 bytes of 9"),
        replace(REFUSED, end="failed", status=None, reason=LEFT),
        REFUSED,
    ):
        ledger.add("any", "relay", good)
    assert not ledger.bad
    assert ledger.codes == {"busy": 1}
    assert ledger.ends == {"complete": 1, "cut": 1, "left": 1, "refused": 1}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"end": "wrong", "status": 200, "reason": "wrong bytes between 0 and 9"}, "wrong_bytes"),
        ({"end": "wrong", "status": 200, "reason": "5 bytes of 9 that looked complete"}, "short_but_complete"),
        ({"end": "cut", "status": 200, "reason": "silent for 60 s"}, "silent"),
        ({"end": "failed", "status": None, "reason": "the connection ended before a response"}, "unanswered"),
        ({"reason": '500 {"code": "internal"}'}, "undocumented"),
        ({"reason": "502 Bad Gateway"}, "undocumented"),
    ],
)
def test_unexpected_outcomes_of_requests_are_reported_as_one_problem_for_each_kind_of_outcome(
    changes: dict[str, object], kind: str
) -> None:
    ledger = Ledger()
    ledger.add("any", "relay", replace(REFUSED, **changes))  # type: ignore[arg-type]  # the table has only valid fields
    assert ledger.bad == {kind: 1}
    found = list(chaos_problems({"orphans": 0, "growth_pss": 0, "pss_before": 9}, (ledger, Ledger()), {}, {}))
    assert len(found) == 1
    assert kind in found[0]


def test_resources_that_the_server_still_holds_after_a_chaos_run_are_reported_as_problems() -> None:
    row = {"orphans": 2, "growth_pss": 50_000_000, "pss_before": 100_000_000, "pss_after": 150_000_000}
    found = list(chaos_problems(row, (Ledger(), Ledger()), {"fds": 3}, {"streams": 1}))
    assert len(found) == 4
    assert not list(chaos_problems({**row, "orphans": 0, "growth_pss": 9}, (Ledger(), Ledger()), {}, {}))


def test_leftover_descriptors_and_processes_and_zombies_are_reported_but_a_few_leftover_pool_threads_are_not() -> None:
    base = Reading(0.0, 100, 90, 120, 1.0, 5, 20, 2, 0)
    assert left_behind((base, base), (base, replace(base, threads=8))) == {}
    found = left_behind(
        (base, base), (replace(base, processes=3, fds=99, zombies=1), replace(base, fds=21, threads=60))
    )
    assert found == {"processes": 1, "zombies": 1, "fds": 1, "threads": 55}


def test_the_expected_error_codes_count_as_documented_but_the_code_internal_does_not() -> None:
    assert {"busy", "upstream_failed", "extraction_timeout", "invalid_url"} <= documented_codes()
    assert "internal" not in documented_codes()
    assert code_of(REFUSED) == "busy"


def test_each_effect_of_an_attack_on_the_memory_limit_or_on_honest_users_is_reported_as_a_problem() -> None:
    row = {"held": True, "complete": 9, "highest_pss": 1, "allowed_pss": 2}
    times = {f"{kind}_first_byte_{when}": 0.5 for kind in ("cached", "new") for when in ("before", "during")}
    assert not list(hostile_problems({**row, **times}, []))
    for change in (
        {"held": False},
        {"new_first_byte_during": 1.6},
        {"cached_first_byte_during": None},
        {"complete": 0},
    ):
        assert len(list(hostile_problems({**row, **times, **change}, []))) == 1
    assert list(hostile_problems({**row, **times}, ["cut"]))


@pytest.mark.parametrize("minutes", [0.5, 6, 60])
def test_the_announced_duration_of_a_chaos_run_includes_the_warm_up_and_everything_after_the_run(
    minutes: float,
) -> None:
    (cell,) = cells(Plan("default", {"relay": TARGETS["relay"]}, minutes=minutes, seed=1))
    seconds = 60 * minutes
    warm_up = min(chaos.WARM_SECONDS, chaos.WARM_SHARE * seconds) + chaos.KEPT_SECONDS
    assert cell.seconds >= warm_up + seconds + chaos.FINISH_SECONDS + chaos.REST_SECONDS


@pytest.mark.parametrize("hung", ["client", "honest"])
async def test_a_chaos_run_ends_and_reports_the_clients_whose_requests_do_not_end(
    monkeypatch: pytest.MonkeyPatch, hung: str
) -> None:
    async def ends(*_: object) -> None: ...

    async def hangs(*_: object) -> None:
        await asyncio.Event().wait()

    for name in ("client", "honest", "vandal"):
        monkeypatch.setattr(chaos, name, hangs if name == hung else ends)
    running = cast(Running, SimpleNamespace(pid=0))  # the functions above use neither the server nor the addresses
    ledger, _ = await run_clients(
        Chaos(0.01, 1, clients=20), cast(World, None), Counter(), running, finish_seconds=0.01
    )
    honest_clients = sum(chaos.HONEST.values())
    assert ledger.bad == {"unfinished": honest_clients if hung == "honest" else 20 - honest_clients}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with sample_origin() as origin, new_bench("quick", origin) as bench:
        yield bench


@pytest.mark.soak
def test_in_a_chaos_run_of_30_seconds_no_client_gets_wrong_bytes_and_no_resources_are_left_behind(bench: Bench) -> None:
    found = measure_chaos(Chaos(30.0, 1, clients=40), bench)
    assert not found.problems
    (row,) = found.rows
    assert row["killed"] + row["stopped"] > 0
    assert row["refused"] > 0
    assert row["complete"] > 0
    assert row["honest complete"] > 0


@pytest.mark.soak
@pytest.mark.parametrize("crowd", CROWDS, ids=lambda crowd: crowd.name)
def test_the_requests_of_honest_users_succeed_during_an_attack(bench: Bench, crowd: Crowd) -> None:
    found = measure_hostile(crowd, 10.0, bench)
    assert not found.problems
