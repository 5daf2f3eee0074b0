"""Tests of the limit on the number of extraction threads that parse at the same time. A thread needs one of the places
while it parses, but not while it waits for the network."""

from __future__ import annotations

import threading

import pytest

from serverpy.ytdlp.children import Stopped, Ticket
from serverpy.ytdlp.places import Places
from tests.aio import PATIENCE_SECONDS, wait_for


class Parser:
    """A thread that takes a place and parses until `end` is set. If `waits` is true, the thread first waits outside its
    place until `outside` is set, like an extraction that waits for the network."""

    def __init__(self, places: Places, *, waits: bool = False) -> None:
        self.ticket = Ticket()
        self.parses, self.outside, self.end = threading.Event(), threading.Event(), threading.Event()
        self.stopped = False
        self._places, self._waits = places, waits
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            with self._places.held(self.ticket):
                if self._waits:
                    self._places.outside(self.outside.wait)
                self.parses.set()
                self.end.wait(PATIENCE_SECONDS)
        except Stopped:
            self.stopped = True

    def finish(self) -> None:
        self.end.set()
        self.thread.join(PATIENCE_SECONDS)
        assert not self.thread.is_alive()


def test_a_thread_that_waits_for_the_network_needs_no_place_for_parsing() -> None:
    places = Places(1)
    waiting = [Parser(places, waits=True) for _ in range(3)]
    parsing = Parser(places)
    assert parsing.parses.wait(PATIENCE_SECONDS)
    parsing.finish()
    for each in waiting:
        each.outside.set()
        assert each.parses.wait(PATIENCE_SECONDS)
        each.finish()


def test_a_thread_waits_if_all_places_for_parsing_are_taken_until_one_of_them_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serverpy.ytdlp.places.PATIENCE_SECONDS", PATIENCE_SECONDS)
    places = Places(1)
    first = Parser(places)
    assert first.parses.wait(PATIENCE_SECONDS)
    second = Parser(places)
    assert not second.parses.wait(0.05)
    first.finish()
    assert second.parses.wait(PATIENCE_SECONDS)
    second.finish()


def test_a_thread_that_waits_for_a_place_for_parsing_ends_if_its_extraction_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serverpy.ytdlp.places.PATIENCE_SECONDS", PATIENCE_SECONDS)
    places = Places(1)
    first = Parser(places)
    assert first.parses.wait(PATIENCE_SECONDS)
    second, third = Parser(places), Parser(places, waits=True)
    wait_for(lambda: len(places._waiting) == 2)
    second.ticket.set()
    second.thread.join(PATIENCE_SECONDS)
    assert second.stopped
    first.finish()
    third.outside.set()
    assert third.parses.wait(PATIENCE_SECONDS)
    third.finish()


def test_a_thread_that_has_waited_for_patience_seconds_parses_even_without_a_free_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serverpy.ytdlp.places.PATIENCE_SECONDS", 0.01)
    places = Places(1)
    first, second = Parser(places), Parser(places)
    assert first.parses.wait(PATIENCE_SECONDS)
    assert second.parses.wait(PATIENCE_SECONDS)
    first.finish()
    second.finish()
    third = Parser(places)
    assert third.parses.wait(PATIENCE_SECONDS)
    fourth = Parser(places)
    assert fourth.parses.wait(PATIENCE_SECONDS)
    third.finish()
    fourth.finish()
