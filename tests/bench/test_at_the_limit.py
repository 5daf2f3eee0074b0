"""The scenarios at the limit, small: what they must find, and that they notice when it is not so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from serverpy.bench.confine import confined, data_bytes
from serverpy.bench.exchange import Outcome
from serverpy.bench.scenarios import Bench, new_bench
from serverpy.bench.scenarios.promise import Load, kind_of, measure, problems
from serverpy.bench.targets import TARGETS, sample_origin

MIB = 1 << 20


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with sample_origin() as origin, new_bench("quick", origin) as bench:
        yield bench


# --- The budget ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "limited"), [("relay", False), ("relay", True), ("embedded", False)])
def test_the_budget_is_a_promise(bench: Bench, name: str, limited: bool) -> None:
    """200 clients at once where there is room for fewer: whoever is served has every byte, the others are told when to
    come again, and the serving process stays within its base, its budget and a tenth."""
    found = measure(TARGETS[name], Load(200, 3.0, 16 * MIB), limited, bench)
    assert not found.problems
    (row,), (series,) = found.rows, found.series
    assert row["held"]
    assert row["wrong"] == row["failed"] == 0
    assert row["served"] > 0
    assert row["refused"] > 0 or name == "relay", "a relayed stream may have ended before the others' patience"
    assert row["served"] + row["refused"] + row["timed_out"] <= 200
    assert (row["limit"] is not None) is limited
    assert max(series["pss"]) == row["highest_pss"]
    assert len(series["t"]) == row["readings"] > 20


def outcome(end: str, status: int | None, **more: object) -> Outcome:
    return Outcome(end, status, 0, None, 1.0, **more)  # type: ignore[arg-type]  # as the parameters say


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
def test_every_end_has_its_kind(ended: Outcome, kind: str) -> None:
    assert kind_of(ended) == kind


def test_a_broken_promise_fails_the_cell() -> None:
    kept = {"held": True, "wrong": 0, "failed": 0, "served": 9, "highest_pss": 5, "allowed_pss": 9.0}
    assert not list(problems(kept, []))
    for change in ({"held": False}, {"wrong": 1}, {"failed": 2}, {"served": 0}):
        assert list(problems({**kept, **change}, [outcome("wrong", 200, reason="wrong bytes")])), change


HUNGRY = """
import sys
print(0, flush=True)
sys.stdin.readline()
kept = bytearray(64 << 20)
kept[::4096] = kept[::4096]
print(len(kept))
"""


@pytest.mark.parametrize(("more", "enough"), [(16 * MIB, False), (128 * MIB, True)])
def test_a_confined_process_gets_no_more_memory_than_that(more: int, enough: bool) -> None:
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
