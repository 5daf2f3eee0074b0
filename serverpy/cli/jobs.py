"""The downloads of `get` as values: the jobs, the events of each job, and the order in which the jobs run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

logger = logging.getLogger(__name__)

MAX_NESTING = 3
"""Maximum depth of nested playlists. The job of a playlist that is nested deeper fails."""


@dataclass(frozen=True, slots=True, order=True)
class Job:
    """One page, or one item of a page. `order` determines when the job runs: the items of a page come after that page
    and before the next page."""

    order: tuple[int, ...]
    url: str = field(compare=False)
    item: int | None = field(default=None, compare=False)

    @property
    def key(self) -> tuple[tuple[int, ...], str, int | None]:
        """The identity of a download in progress. `order` alone does not suffice, because all items that a child
        process reports have the same `order`."""
        return self.order, self.url, self.item


class Reading(msgspec.Struct, frozen=True, tag="reading"):
    """Event: the runner is about to extract the page."""


class Listed(msgspec.Struct, frozen=True, tag="listed"):
    """Event: the page has items, for which new jobs are made."""


class Began(msgspec.Struct, frozen=True, tag="began"):
    """Event: the download begins. `start` is the number of bytes that an earlier run has downloaded; `total` is None if
    the media server does not report it."""

    name: str
    start: int
    total: int | None


class Moved(msgspec.Struct, frozen=True, tag="moved"):
    """Event: the file now has `done` bytes."""

    done: int


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Event: the file is complete and has its final name. `resumed` is the number of bytes that an earlier run had
    downloaded."""

    name: str
    size: int
    resumed: int = 0


class Present(msgspec.Struct, frozen=True, tag="present"):
    """Event: the file was already complete, so it was not downloaded."""

    name: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Event: the job failed. `code` is an error code of the HTTP API, or a code that only `get` has."""

    code: str
    reason: str


class OutputClosed(msgspec.Struct, frozen=True, tag="output_closed"):
    """Event: the reader of stdout has closed the pipe (`| head`), so the job was abandoned."""


Event = Reading | Listed | Began | Moved | Done | Present | Failed | OutputClosed


class Watcher(Protocol):
    """Receiver of the events of `get`'s jobs."""

    def see(self, job: Job, event: Event) -> None: ...

    def say(self, line: str) -> None:
        """Show a line of text that belongs to no particular job."""
        ...


class Runner(Protocol):
    """Executor of jobs, in this process or in child processes."""

    async def run(self, job: Job) -> Sequence[Job]:
        """Return the jobs into which `job` divides: the items of its page. If there are none, download the media and
        tell a watcher how the download ended. Does not raise if the job fails."""
        ...


class Announced:
    """A runner that wraps another runner. It tells a watcher when the inner runner begins to extract a page, and when
    the page turns out to have items."""

    def __init__(self, runner: Runner, watcher: Watcher) -> None:
        self._runner = runner
        self._watcher = watcher

    async def run(self, job: Job) -> Sequence[Job]:
        self._watcher.see(job, Reading())
        parts = await self._runner.run(job)
        if parts:
            self._watcher.see(job, Listed())
        return parts


async def run_all(jobs: Sequence[Job], runner: Runner, at_once: int, watcher: Watcher) -> None:
    """Run `jobs` and the jobs into which they divide, in order, at most `at_once` at a time. If `runner` raises an
    error, tell `watcher` that the job failed, and continue with the other jobs."""
    queue: asyncio.PriorityQueue[Job] = asyncio.PriorityQueue()
    for job in jobs:
        queue.put_nowait(job)

    async def work() -> None:
        while True:
            for part in await _parts(await queue.get(), runner, watcher):
                queue.put_nowait(part)
            queue.task_done()

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(work(), name=f"get {number}") for number in range(at_once)]
        await queue.join()
        for worker in workers:
            worker.cancel()


async def _parts(job: Job, runner: Runner, watcher: Watcher) -> Sequence[Job]:
    try:
        return await runner.run(job)
    except Exception as error:  # an unexpected error is a bug in ServerPY; it ends only this job
        logger.debug("a download of `get` failed unexpectedly", exc_info=True)
        watcher.see(job, Failed("internal", f"Internal error ({type(error).__name__})."))
        return ()
