"""Tests of the threads of a yt-dlp process: the memory of ended requests is returned to the system."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from serverpy.errors import MediaNotFound
from serverpy.extraction.messages import Pong, Reply
from serverpy.ytdlp.channel import Outbox
from serverpy.ytdlp.children import Stopped, Ticket
from serverpy.ytdlp.threads import Threads
from tests.aio import eventually

Work = Callable[[Ticket], Reply]


def succeeds(_: Ticket) -> Reply:
    return Pong(id=0)


def fails(_: Ticket) -> Reply:
    raise MediaNotFound("nothing")


def stops(_: Ticket) -> Reply:
    raise Stopped


class Memory:
    """A process whose pauses last until the test lets one end. `begun` counts pauses, and `given` the times that memory
    was returned."""

    def __init__(self, outbox: Outbox) -> None:
        self.begun = self.given = 0
        self._end = threading.Semaphore(0)
        self.threads = Threads(outbox, pause=self._pause, give_back=self._give)

    def end_pause(self) -> None:
        self._end.release()

    def _pause(self, _: float) -> None:
        self.begun += 1
        self._end.acquire()

    def _give(self) -> None:
        self.given += 1


@contextmanager
def memory() -> Iterator[Memory]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = Memory(Outbox(theirs))
        try:
            yield made
        finally:
            made.threads.close()
            made.end_pause()


@pytest.mark.parametrize("work", [succeeds, fails, stops])
async def test_memory_is_given_back_when_no_request_is_in_progress_any_more(work: Work) -> None:
    with memory() as process:
        threads, last = process.threads, threading.Event()

        def waits(ticket: Ticket) -> Reply:
            last.wait()
            return work(ticket)

        threads.run(0, waits)
        for number in range(1, 1000):
            threads.run(number, work)
            await eventually(lambda: len(threads) == 1)
            if process.begun == 2:  # the first pause has ended while a request was in progress
                break
            if number == 1:
                await eventually(lambda: process.begun == 1)
                process.end_pause()
        assert (process.begun, process.given) == (2, 0)
        last.set()
        await eventually(lambda: not len(threads))
        process.end_pause()
        await eventually(lambda: process.given == 1)


async def test_requests_that_follow_each_other_do_not_each_give_memory_back() -> None:
    with memory() as process:
        for number in range(50):
            process.threads.run(number, succeeds)
            await eventually(lambda: not len(process.threads))
        await eventually(lambda: process.begun == 1)
        process.end_pause()
        await eventually(lambda: process.given == 1)


@pytest.mark.parametrize("requests", [0, 1])
async def test_the_thread_that_gives_memory_back_ends_with_the_others(requests: int) -> None:
    before = set(threading.enumerate())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        threads = Threads(Outbox(theirs))
        for number in range(requests):
            threads.run(number, succeeds)
        (own,) = (each for each in set(threading.enumerate()) - before if each.name == "give-back")
        threads.close()
        await eventually(lambda: not own.is_alive())
