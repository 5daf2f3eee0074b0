"""The work of `get` as values: what is to be fetched, what is said of it on the way, and the order it is done in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

MAX_NESTING = 3
"""Playlists in playlists; deeper ones are left to the error that says so."""


@dataclass(frozen=True, slots=True, order=True)
class Job:
    """One page, or one item of it. `order` is its place: the items of a page stand between it and the next page."""

    order: tuple[int, ...]
    url: str = field(compare=False)
    item: int | None = field(default=None, compare=False)

    @property
    def key(self) -> tuple[str, int | None]:
        return self.url, self.item


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


async def run_all(jobs: Sequence[Job], runner: Runner, at_once: int) -> None:
    """Do all of them, and those that they turn out to consist of, in their order, so many at once."""
    queue: asyncio.PriorityQueue[Job] = asyncio.PriorityQueue()
    for job in jobs:
        queue.put_nowait(job)

    async def work() -> None:
        while True:
            for part in await runner.run(await queue.get()):
                queue.put_nowait(part)
            queue.task_done()

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(work(), name=f"get {number}") for number in range(at_once)]
        await queue.join()
        for worker in workers:
            worker.cancel()
