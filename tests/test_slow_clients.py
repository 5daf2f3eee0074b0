"""Tests of the minimum rate at which a client must read its stream while other requests wait (MIN_RATE)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from serverpy.running import Record, Running
from serverpy.slow_clients import SlowClients

RATE, SECONDS = 512, 60.0


@dataclass
class Crowd:
    """Streams whose clients read at the rates that a test sets. `is_wanted` states whether other requests are
    waiting."""

    is_wanted: bool = True
    running: Running = field(default_factory=Running)
    ends: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = SlowClients(self.running, lambda _record: self.is_wanted, min_rate=RATE, seconds=SECONDS)

    def begin(self) -> Record:
        record = self.running.begin("1", "192.0.2.1", self.ends.append)
        record.unsent_bytes = lambda: 1000
        record.given_bytes = 1000
        return record


@pytest.mark.parametrize(("rate", "is_wanted", "ends"), [(RATE - 1, True, ["slow"]), (RATE, True, []), (1, False, [])])
def test_the_stream_of_a_slow_client_is_cut_only_if_other_requests_are_waiting(
    rate: int, is_wanted: bool, ends: list[str]
) -> None:
    crowd = Crowd(is_wanted)
    record = crowd.begin()
    for second in range(0, int(SECONDS) + 1, 2):
        assert crowd.ends == []
        record.given_bytes = 1000 + rate * second
        crowd.watch.look(second)
    assert crowd.ends == ends


def test_the_stream_of_a_client_that_has_been_slow_is_cut_as_soon_as_other_requests_wait() -> None:
    crowd = Crowd(is_wanted=False)
    crowd.begin()
    for second in range(0, 100, 2):
        crowd.watch.look(second)
    assert crowd.ends == []
    crowd.is_wanted = True
    crowd.watch.look(100)
    assert crowd.ends == ["slow"]


def test_a_client_that_waits_for_the_media_server_of_its_stream_does_not_count_as_slow() -> None:
    crowd = Crowd()
    record = crowd.begin()
    for second in range(0, 600, 2):
        record.unsent_bytes = lambda second=second: 1000 if second % 20 else 0  # type: ignore[misc]
        crowd.watch.look(second)
    assert crowd.ends == []


def test_the_stream_of_a_client_that_was_slow_only_at_the_beginning_is_not_cut() -> None:
    crowd = Crowd(is_wanted=False)
    record = crowd.begin()
    for second in range(0, 130, 2):
        record.given_bytes += 0 if second < SECONDS else 2 * RATE
        crowd.watch.look(second)
    crowd.is_wanted = True
    crowd.watch.look(130)
    assert crowd.ends == []
