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
from tests.aio import eventually, stays

Work = Callable[[Ticket], Reply]


def succeeds(_: Ticket) -> Reply:
    return Pong(id=0)


def fails(_: Ticket) -> Reply:
    raise MediaNotFound("nothing")


def stops(_: Ticket) -> Reply:
    raise Stopped


@contextmanager
def giving_back(seconds: float) -> Iterator[tuple[Threads, list[str]]]:
    """Yield the threads of a process, and a list that grows by one item each time they give memory back."""
    given: list[str] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Threads(Outbox(theirs), seconds=seconds, give_back=lambda: given.append("given")), given


@pytest.mark.parametrize("work", [succeeds, fails, stops])
async def test_memory_is_given_back_when_no_request_is_in_progress_any_more(work: Work) -> None:
    with giving_back(0.001) as (threads, given):
        last = threading.Event()

        def waits(ticket: Ticket) -> Reply:
            last.wait()
            return work(ticket)

        threads.run(1, waits)
        threads.run(2, work)
        await eventually(lambda: len(threads) == 1)
        await stays(lambda: not given, seconds=0.05)
        last.set()
        await eventually(lambda: len(given) == 1)
        threads.run(3, work)
        await eventually(lambda: len(given) == 2)


async def test_requests_that_follow_each_other_do_not_each_give_memory_back() -> None:
    with giving_back(0.2) as (threads, given):
        for number in range(50):
            threads.run(number, succeeds)
            await eventually(lambda: not len(threads))
        await eventually(lambda: given)
        assert len(given) < 25
