"""The work of `get` as values: what is to be fetched, what is said of it on the way, and the order it is done in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

logger = logging.getLogger(__name__)

MAX_NESTING = 3
"""Playlists in playlists; deeper ones are left to the error that says so."""


@dataclass(frozen=True, slots=True, order=True)
class Job:
    """One page, or one item of it. `order` is its place: the items of a page stand between it and the next page."""

    order: tuple[int, ...]
    url: str = field(compare=False)
    item: int | None = field(default=None, compare=False)

    @property
    def key(self) -> tuple[tuple[int, ...], str, int | None]:
        """Of what is one at a time: a list may name a page twice, and the items that a child reports share a place."""
        return self.order, self.url, self.item


class Began(msgspec.Struct, frozen=True, tag="began"):
    """The bytes come. `start` are there already; `total` is None where the source does not say."""

    name: str
    start: int
    total: int | None


class Moved(msgspec.Struct, frozen=True, tag="moved"):
    """`done` bytes are there now."""

    done: int


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Complete under its name. `resumed` bytes were there before."""

    name: str
    size: int
    resumed: int = 0


class Present(msgspec.Struct, frozen=True, tag="present"):
    """Was complete before; not fetched."""

    name: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """`code` as in the HTTP API's problems, or one of `get`'s own."""

    code: str
    reason: str


Event = Began | Moved | Done | Present | Failed


class Watcher(Protocol):
    """Who is told how it goes."""

    def see(self, job: Job, event: Event) -> None: ...

    def say(self, line: str) -> None:
        """A line about no job in particular."""
        ...


class Runner(Protocol):
    """Who does a job, in this process or in another."""

    async def run(self, job: Job) -> Sequence[Job]:
        """Do it, and tell a watcher how it ended; what fails does not raise. Or the jobs that it consists of."""
        ...


async def run_all(jobs: Sequence[Job], runner: Runner, at_once: int, watcher: Watcher) -> None:
    """Do all of them, and those that they turn out to consist of, in their order, so many at once. One that raises
    after all has failed, as `watcher` is told; the others go on."""
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
    except Exception as error:  # a job's end: what nobody expected is a mistake of ours
        logger.debug("a job failed unexpectedly", exc_info=True)
        watcher.see(job, Failed("internal", f"This program made a mistake ({type(error).__name__})."))
        return ()
