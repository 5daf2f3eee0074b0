"""Tests of the runner of download jobs: jobs start in order, a given number of jobs runs at once, and a job that fails
does not affect the others."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from serverpy.cli.jobs import Announced, Done, Event, Failed, Job, Listed, Reading, run_all

JOBS = [Job((number,), f"http://example.org/{number}") for number in range(3)]


class Recorder:
    """Watcher that records all events of jobs."""

    def __init__(self) -> None:
        self.events: list[tuple[tuple[int, ...], Event]] = []

    def see(self, job: Job, event: Event) -> None:
        self.events.append((job.order, event))

    def say(self, line: str) -> None:
        raise AssertionError(line)


class FakeRunner:
    """Runner that completes jobs. The second job splits into two items. The jobs in `broken` raise an exception."""

    def __init__(self, recorder: Recorder, broken: Sequence[tuple[int, ...]] = ()) -> None:
        self._recorder = recorder
        self._broken = broken

    async def run(self, job: Job) -> Sequence[Job]:
        if job.order in self._broken:
            raise KeyError("secret")
        if job.order == (1,):
            return [Job((1, number), job.url, number) for number in (1, 2)]
        self._recorder.see(job, Done(job.url, 1))
        return ()


@pytest.mark.parametrize("at_once", [1, 2, 5])
async def test_the_runner_runs_all_jobs_and_also_the_items_into_which_a_job_splits(at_once: int) -> None:
    recorder = Recorder()
    await run_all(JOBS, FakeRunner(recorder), at_once, recorder)
    orders = [order for order, _ in recorder.events]
    assert sorted(orders) == [(0,), (1, 1), (1, 2), (2,)]
    assert at_once > 1 or orders == sorted(orders)


@pytest.mark.parametrize("at_once", [1, 3])
async def test_a_job_that_raises_is_reported_as_failed_and_the_other_jobs_continue(
    at_once: int, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    with caplog.at_level(logging.DEBUG, "serverpy"):
        await run_all(JOBS, FakeRunner(recorder, broken=[(0,), (1, 1)]), at_once, recorder)
    assert sorted(order for order, event in recorder.events if isinstance(event, Done)) == [(1, 2), (2,)]
    failures = [(order, event) for order, event in recorder.events if isinstance(event, Failed)]
    failed = Failed("internal", "Internal error (KeyError).")
    assert sorted(failures, key=lambda each: each[0]) == [((0,), failed), ((1, 1), failed)]
    assert "KeyError: 'secret'" in caplog.text


async def test_a_page_is_reported_before_the_runner_reads_it_and_after_its_items_are_listed() -> None:
    recorder = Recorder()
    await run_all(JOBS[:2], Announced(FakeRunner(recorder), recorder), 1, recorder)
    url = JOBS[1].url
    assert recorder.events == [
        ((0,), Reading()),
        ((0,), Done(JOBS[0].url, 1)),
        ((1,), Reading()),
        ((1,), Listed()),
        ((1, 1), Reading()),
        ((1, 1), Done(url, 1)),
        ((1, 2), Reading()),
        ((1, 2), Done(url, 1)),
    ]
