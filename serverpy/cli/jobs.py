"""The work of `get` as values: the jobs, the events of each job, and the order in which they run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

logger = logging.getLogger(__name__)

MAX_NESTING = 3
"""Maximum depth of nested playlists. A deeper playlist is not expanded, and its job fails."""


@dataclass(frozen=True, slots=True, order=True)
class Job:
    """One page, or one item of it. `order` is its position: the items of a page come between that page and the next."""

    order: tuple[int, ...]
    url: str = field(compare=False)
    item: int | None = field(default=None, compare=False)

    @property
    def key(self) -> tuple[tuple[int, ...], str, int | None]:
        """Identity of a download in progress: `order` alone does not suffice, because the items that a child reports
        share their position."""
        return self.order, self.url, self.item


class Reading(msgspec.Struct, frozen=True, tag="reading"):
    """Event: the page is about to be read."""


class Listed(msgspec.Struct, frozen=True, tag="listed"):
    """Event: the page has items, which become jobs."""


class Began(msgspec.Struct, frozen=True, tag="began"):
    """Event: the download begins. `start` bytes exist already; `total` is None if the source does not report it."""

    name: str
    start: int
    total: int | None


class Moved(msgspec.Struct, frozen=True, tag="moved"):
    """Event: `done` bytes exist now."""

    done: int


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Event: the file is complete and has its name. `resumed` bytes existed before."""

    name: str
    size: int
    resumed: int = 0


class Present(msgspec.Struct, frozen=True, tag="present"):
    """Event: the file was complete before, and was not downloaded."""

    name: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Event: the job failed. `code` is one of the HTTP API's, or one of `get`'s own."""

    code: str
    reason: str


class OutputClosed(msgspec.Struct, frozen=True, tag="output_closed"):
    """Event: the reader of stdout has left (`| head`), so the job was given up."""


Event = Reading | Listed | Began | Moved | Done | Present | Failed | OutputClosed


class Watcher(Protocol):
    """Receiver of events."""

    def see(self, job: Job, event: Event) -> None: ...

    def say(self, line: str) -> None:
        """Report a line that belongs to no particular job."""
        ...


class Runner(Protocol):
    """Executor of jobs, in this process or in another."""

    async def run(self, job: Job) -> Sequence[Job]:
        """Return the jobs that `job` consists of. If there are none, do the job and tell a watcher how it ended. Does
        not raise if the job fails."""
        ...


class Announced:
    """A runner around another runner. It tells a watcher when the inner runner begins to read a page, and when the page
    turns out to have items."""

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
    """Run all jobs and the jobs that they expand to, in order, `at_once` at a time. If `runner` raises, tell `watcher`
    that the job failed, and continue with the others."""
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
    except Exception as error:  # an unexpected error is a bug of ours; it ends only this job
        logger.debug("a job failed unexpectedly", exc_info=True)
        watcher.see(job, Failed("internal", f"Internal error ({type(error).__name__})."))
        return ()
