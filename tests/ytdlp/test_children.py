"""Tests of the gate that limits the number of child processes of a worker, with real child processes."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from serverpy.ytdlp.children import Gate, Stopped, Ticket, install
from tests.aio import PATIENCE_SECONDS, wait_for

SLEEP = ("/bin/sleep", "3600")


class Popen(subprocess.Popen[bytes]):
    """Stand-in for yt-dlp's class `Popen`. Like that class, it is a subclass of `subprocess.Popen`."""


@contextmanager
def gate(limit: int) -> Iterator[tuple[Gate, type[Popen]]]:
    made = Gate(limit)
    kind = type("Popen", (Popen,), {})
    install(kind, made, lambda wait, *args, **kwargs: wait(*args, **kwargs))
    try:
        yield made, kind
    finally:
        made.kill()


def test_a_child_process_waits_to_start_while_the_maximum_number_of_child_processes_is_running() -> None:
    with gate(1) as (made, popen):
        first = popen(SLEEP)
        started = threading.Event()

        def second() -> None:
            with popen(("/bin/sleep", "0")) as child:
                started.set()
                child.wait()

        thread = threading.Thread(target=second)
        thread.start()
        assert not started.wait(0.2)
        assert len(made) == 1
        first.kill()
        first.wait()
        assert started.wait(PATIENCE_SECONDS)
        thread.join()
        wait_for(lambda: len(made) == 0)


def test_cancelling_an_extraction_ends_only_the_child_processes_that_were_started_for_this_extraction() -> None:
    with gate(4) as (made, popen):
        ticket = Ticket()
        with made.on_behalf_of(ticket):
            mine = popen(SLEEP)
            other = popen(SLEEP)
        assert mine.wait(PATIENCE_SECONDS) == -9
        assert other.wait(PATIENCE_SECONDS) == -9
        stranger = popen(SLEEP)
        made.kill(ticket)
        assert stranger.poll() is None
        made.kill()
        assert stranger.wait(PATIENCE_SECONDS) == -9


def test_cancelling_an_extraction_also_cancels_its_child_process_that_waits_to_start() -> None:
    with gate(1) as (made, popen):
        first = popen(SLEEP)
        ticket = Ticket()
        timer = threading.Timer(0.1, ticket.set)
        timer.start()
        with pytest.raises(Stopped), made.on_behalf_of(ticket):
            popen(SLEEP)
        assert len(made) == 1
        first.kill()
        first.wait()


def test_a_child_process_that_fails_to_start_does_not_count_as_running() -> None:
    with gate(1) as (made, popen):
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                popen(("/nonexistent",))
        assert len(made) == 0


def test_setting_a_ticket_calls_only_the_hooks_whose_blocks_are_still_running() -> None:
    ticket = Ticket()
    ran: list[str] = []
    with ticket.hook(lambda: ran.append("left")):
        pass
    with ticket.hook(lambda: ran.append("here")):
        ticket.check()
        ticket.set()
        ticket.set()
    assert ran == ["here"]
    with pytest.raises(Stopped):
        ticket.check()
    with pytest.raises(Stopped), ticket.hook(lambda: ran.append("late")):
        pass


def test_setting_an_event_also_cancels_the_ticket_that_was_made_from_the_event() -> None:
    event = threading.Event()
    ticket = Ticket.of(event)
    assert Ticket.of(ticket) is ticket
    ticket.check()
    event.set()
    with pytest.raises(Stopped):
        ticket.check()
