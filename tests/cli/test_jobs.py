"""Jobs are done in their order, so many at once, and each fails for itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from serverpy.cli.jobs import Done, Event, Failed, Job, run_all

JOBS = [Job((number,), f"http://example.org/{number}") for number in range(3)]


class Told:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[tuple[int, ...], Event]] = []

    def see(self, job: Job, event: Event) -> None:
        self.events.append((job.order, event))

    def say(self, line: str) -> None:
        raise AssertionError(line)


class Parted:
    """Every page is done, but the second, which consists of two items; and those in `broken` raise."""

    def __init__(self, told: Told, broken: Sequence[tuple[int, ...]] = ()) -> None:
        self._told = told
        self._broken = broken

    async def run(self, job: Job) -> Sequence[Job]:
        if job.order in self._broken:
            raise KeyError("secret")
        if job.order == (1,):
            return [Job((1, number), job.url, number) for number in (1, 2)]
        self._told.see(job, Done(job.url, 1))
        return ()


@pytest.mark.parametrize("at_once", [1, 2, 5])
async def test_jobs_and_the_items_they_consist_of_are_done(at_once: int) -> None:
    told = Told()
    await run_all(JOBS, Parted(told), at_once, told)
    orders = [order for order, _ in told.events]
    assert sorted(orders) == [(0,), (1, 1), (1, 2), (2,)]
    assert at_once > 1 or orders == sorted(orders)


@pytest.mark.parametrize("at_once", [1, 3])
async def test_a_job_that_raises_has_failed_and_the_others_go_on(
    at_once: int, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    with caplog.at_level(logging.DEBUG, "serverpy"):
        await run_all(JOBS, Parted(told, broken=[(0,), (1, 1)]), at_once, told)
    assert sorted(order for order, event in told.events if isinstance(event, Done)) == [(1, 2), (2,)]
    failures = [(order, event) for order, event in told.events if isinstance(event, Failed)]
    failed = Failed("internal", "Internal error (KeyError).")
    assert sorted(failures, key=lambda each: each[0]) == [((0,), failed), ((1, 1), failed)]
    assert "KeyError: 'secret'" in caplog.text
