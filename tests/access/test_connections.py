"""Tests of the limits on client connections."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from serverpy.access.clients import parse_networks
from serverpy.access.connections import FEWEST, UNREAD_LOOKS, Connections, places
from tests.aio import eventually

CLIENT, SAME_64, OTHER = "2001:db8::1", "2001:db8::2", "192.0.2.7"


@dataclass(eq=False)
class Wire:
    """A fake connection without a socket. It counts how often it is closed."""

    unsent: int = 0
    drops: int = 0
    unread_looks: int = 0
    unread_bytes: int = 0

    def unsent_bytes(self) -> int:
        return self.unsent

    def drop(self) -> None:
        self.drops += 1

    def reset(self) -> None:
        self.drops += 1


@dataclass
class Purse:
    """A fake memory budget that has `free` bytes left."""

    free: int
    lent: list[int] = field(default_factory=list)

    def hold(self, nbytes: int) -> bool:
        if nbytes > self.free:
            return False
        self.free -= nbytes
        return True

    def give_back(self, nbytes: int) -> None:
        self.free += nbytes


async def test_the_number_of_connections_of_one_client_network_is_limited() -> None:
    connections = Connections(each=2)
    first = Wire()
    assert [connections.open(each, CLIENT) for each in (first, Wire())] == [None, None]
    refused = Wire()
    assert connections.open(refused, SAME_64) == "client"
    assert connections.open(Wire(), OTHER) is None
    connections.close(refused)
    assert connections.open(Wire(), CLIENT) == "client"
    connections.close(first)
    assert connections.open(Wire(), CLIENT) is None
    assert connections.closed["client"] == 2


@pytest.mark.parametrize("exempt", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3", ""])
async def test_connections_on_loopback_or_from_trusted_proxies_or_over_unix_sockets_are_not_limited_in_number(
    exempt: str,
) -> None:
    connections = Connections(each=1, trusted=parse_networks(["10.0.0.0/8"]))
    assert [connections.open(Wire(), exempt) for _ in range(9)] == [None] * 9


async def test_requests_through_a_trusted_proxy_count_against_the_limit_of_the_client_that_the_proxy_names() -> None:
    connections = Connections(each=1, trusted=parse_networks(["10.0.0.1"]))
    fields = [(b"x-forwarded-for", b"198.51.100.1, 192.0.2.7")]
    assert (connections.is_proxy("10.0.0.1"), connections.is_proxy(OTHER)) == (True, False)
    client = connections.forwarded("10.0.0.1", fields)
    assert client == OTHER
    assert (connections.enter(client), connections.enter(client)) == (True, False)
    connections.leave(client)
    assert connections.enter(client)
    assert connections.forwarded("10.0.0.1", [(b"x-forwarded-for", b"127.0.0.1")]) is None
    assert connections.forwarded(OTHER, fields) is None


async def test_at_the_connection_limit_a_new_connection_replaces_the_one_that_has_been_idle_longest() -> None:
    connections = Connections(total=2)
    oldest, newer, busy = Wire(), Wire(), Wire()
    for each in (oldest, newer):
        connections.open(each, OTHER)
        connections.wait(each)
    connections.wait(oldest)  # a second call must not restart the idle time
    assert connections.open(busy, OTHER) is None
    assert (oldest.drops, newer.drops, len(connections)) == (1, 0, 2)
    connections.answer(newer)
    assert connections.open(Wire(), OTHER) == "all"
    assert (connections.closed["replaced"], connections.closed["all"]) == (1, 1)


async def test_refused_connections_that_still_receive_their_error_response_do_not_accumulate() -> None:
    connections = Connections(total=1)
    connections.open(Wire(), OTHER)
    for _ in range(100):
        refused = Wire()
        assert connections.open(refused, OTHER) == "all"
        connections.wait(refused)
    assert len(connections) == 2


async def test_idle_connections_are_closed_if_the_budget_has_no_memory_for_the_bytes_of_a_request() -> None:
    purse = Purse(100)
    connections = Connections(hold=purse.hold, give_back=purse.give_back, most_bytes=90)
    idle, busy = Wire(), Wire()
    assert connections.hold(idle, 60)
    connections.wait(idle)
    assert not connections.hold(Wire(), 91)
    assert idle.drops == 1
    assert purse.free == 100
    assert connections.hold(busy, 80)
    assert connections.hold(busy, 30)
    assert purse.free == 70
    assert not connections.hold(Wire(), 61)
    assert (busy.drops, purse.free) == (0, 70)
    connections.close(busy)
    assert purse.free == 100


async def test_a_connection_is_closed_if_its_client_receives_no_byte_of_a_response_for_two_stall_timeouts() -> None:
    connections = Connections(stall_timeout=0.004)
    stuck, slow, idle = Wire(unsent=1000), Wire(unsent=10**9), Wire()
    for each in (stuck, slow, idle):
        connections.open(each, OTHER)

    def is_given_up() -> bool:
        slow.unsent -= 1
        return stuck.drops > 0

    await eventually(is_given_up)
    assert stuck.unread_looks >= UNREAD_LOOKS
    assert (slow.drops, idle.drops) == (0, 0)
    for each in (stuck, slow, idle):
        connections.close(each)


@pytest.mark.parametrize(
    ("streams", "descriptors", "expected"),
    [(200, 1056, 400), (1000, 1 << 20, 4000), (2, 1 << 20, FEWEST), (1000, 256, 96), (1000, 4, 1)],
)
def test_the_maximum_number_of_connections_follows_from_max_streams_and_the_file_descriptor_limit(
    streams: int, descriptors: int, expected: int
) -> None:
    assert places(streams, descriptors) == expected
