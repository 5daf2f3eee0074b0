"""The limits on the client connections of one serving process: their number for one client and in all, the bytes that
their unanswered requests hold, and the time for which a client may leave a response unread.

A connection is *replaceable* while no request of it is being answered: the client has not yet sent one completely. If
all places are taken, the connection that has been replaceable for the longest time makes room for a new one. So
clients that send nothing, or one byte at a time, do not keep others out.

The functions may only be called in the thread of the event loop.
"""

from __future__ import annotations

import asyncio
import math
import resource
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from serverpy.access.clients import Fields, Network, client_of, is_within, network_of, parse_address
from serverpy.access.refusals import Refusals

CONNECTIONS = "serverpy.connections"
"""Key of the `Connections` in the state that the lifespan of the application hands to the server."""

Reason = Literal["client", "all", "replaced", "memory", "pipelined", "late", "unread"]
"""Why a connection was refused or closed: more than CLIENT_CONNECTIONS of its client; more than there are places for;
replaced by a new one; no memory for its requests; too many pipelined requests; a request that did not come in time; a
response that was not read in time."""
REASONS: tuple[Reason, ...] = ("client", "all", "replaced", "memory", "pipelined", "late", "unread")

FEWEST = 256
"""Connections for which there are places, however small MAX_STREAMS is, if the limit on descriptors allows them."""
CONNECTIONS_PER_STREAM = 4
"""Connections for each place of a stream: those that stream, that wait, and that do neither."""
SPARE_DESCRIPTORS = 256
"""Descriptors for everything but clients and what is opened for each of them; a quarter of all if there are few."""
CROWDED_SECONDS = 5.0
SENT_LOOK_SECONDS = 0.02
LOOKS = 4
"""Looks at unread responses in each STALL_TIMEOUT."""
UNREAD_LOOKS = 2 * LOOKS
"""Looks without progress after which a response counts as unread. A stream notices that itself, in half the time."""


class Connection(Protocol):
    """What the limits need of a connection."""

    unread_looks: int
    unread_bytes: int

    def unsent_bytes(self) -> int:
        """Return the number of bytes that the client has not received yet; 0 if the server has written all of them."""
        ...

    def drop(self) -> None:
        """Close the connection at once."""
        ...

    def reset(self) -> None:
        """Close the connection at once with RST."""
        ...


def places(max_streams: int, descriptors: int) -> int:
    """Return the number of connections that a process with so many descriptors may have. Each connection leaves one
    descriptor for what is opened on its behalf."""
    spare = min(SPARE_DESCRIPTORS, descriptors // 4)
    return max(1, min(max(FEWEST, CONNECTIONS_PER_STREAM * max_streams), (descriptors - spare) // 2))


def descriptor_limit() -> int:
    """Return the limit on open file descriptors of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


class Connections:
    """The client connections of one serving process. `each` is the number for one client: loopback and `trusted`, the
    networks of TRUSTED_PROXIES, may have any number, but the clients that a trusted proxy names are counted by their
    requests. `hold` charges bytes to the budget, and returns whether they were free; `give_back` returns them. The
    unanswered requests of all connections hold at most `most_bytes` together."""

    def __init__(
        self,
        *,
        total: int | None = None,
        each: int | None = None,
        trusted: Sequence[Network] = (),
        most_bytes: float = math.inf,
        hold: Callable[[int], bool] = lambda _nbytes: True,
        give_back: Callable[[int], None] = lambda _nbytes: None,
        stall_timeout: float = 60.0,
        refusals: Refusals | None = None,
    ) -> None:
        self._total = total
        self._each = each
        self._trusted = trusted
        self._most_bytes = most_bytes
        self._hold = hold
        self._give_back = give_back
        self._look_seconds = stall_timeout / LOOKS
        self._all: dict[Connection, str | None] = {}
        self._replaceable: dict[Connection, None] = {}
        self._of_clients: Counter[str] = Counter()
        self._held: dict[Connection, int] = {}
        self._held_bytes = 0
        self._looking: asyncio.TimerHandle | None = None
        self.closed: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        """Number of connections that were refused or closed, by `Reason`."""
        self.refusals = refusals or Refusals()
        """Counts of the requests that were refused before the application."""
        self._crowded_at = -math.inf
        """Time of the event loop at which there was no place for a connection."""

    def __len__(self) -> int:
        return len(self._all)

    @property
    def is_crowded(self) -> bool:
        """Whether there was no place for a connection a moment ago."""
        return asyncio.get_running_loop().time() - self._crowded_at < CROWDED_SECONDS

    def open(self, connection: Connection, peer: str) -> Reason | None:
        """Count a new connection. Returns None, or the reason for which it is refused; it is counted in both cases,
        until `close`."""
        client = self._client(peer)
        reason: Reason | None = None
        if client is not None and not self.enter(client):
            client, reason = None, "client"
        elif not self._make_room():
            self._crowded_at, reason = asyncio.get_running_loop().time(), "all"
        self._all[connection] = client
        if reason is not None:
            self.closed[reason] += 1
        elif self._looking is None:
            self._look_later()
        return reason

    def close(self, connection: Connection) -> None:
        """Stop counting a connection, and give back what it holds. Idempotent."""
        client = self._all.pop(connection, None)
        if client is not None:
            self.leave(client)
        self._replaceable.pop(connection, None)
        self.hold(connection, 0)

    def drop(self, connection: Connection, reason: Reason) -> None:
        """Close a connection for `reason`."""
        self.closed[reason] += 1
        self._replaceable.pop(connection, None)
        connection.drop()

    async def wait_sent(self) -> None:
        """Wait until the system has accepted all bytes of all responses."""
        # the transports tell their protocols, not this class
        while any(each.unsent_bytes() for each in self._all):  # noqa: ASYNC110
            await asyncio.sleep(SENT_LOOK_SECONDS)

    def reset(self, *, only_unsent: bool = False) -> None:
        """Reset all connections, or those with bytes that the system has not accepted."""
        for connection in list(self._all):
            if not only_unsent or connection.unsent_bytes():
                connection.reset()

    # The clients

    def enter(self, client: str) -> bool:
        """Count a connection, or a request through a trusted proxy, of `client`. Returns whether that is allowed; the
        caller must then call `leave`."""
        if self._each is not None and self._of_clients[client] >= self._each:
            return False
        self._of_clients[client] += 1
        return True

    def leave(self, client: str) -> None:
        self._of_clients[client] -= 1
        if self._of_clients[client] <= 0:
            del self._of_clients[client]

    def is_proxy(self, peer: str) -> bool:
        """Return whether connections from `peer` come from a trusted proxy."""
        return bool(self._trusted) and is_within(parse_address(peer), self._trusted)

    def forwarded(self, peer: str, fields: Fields) -> str | None:
        """Return the client that a trusted proxy names. Returns None if it names none, or one that is exempt."""
        client = client_of(peer, fields, self._trusted)
        return self._client(client.address) if client.is_trusted else None

    def _client(self, address: str) -> str | None:
        parsed = parse_address(address)
        if parsed is None or parsed.is_loopback or (self._trusted and is_within(parsed, self._trusted)):
            return None
        return network_of(address)

    # Connections that may be replaced

    def wait(self, connection: Connection) -> None:
        """Note that the connection answers no request, until `answer`."""
        self._replaceable[connection] = None

    def answer(self, connection: Connection) -> None:
        """Note that a request of the connection is being answered."""
        self._replaceable.pop(connection, None)

    def _make_room(self) -> bool:
        """Close the connections that have been replaceable for the longest time, if there is no place for another.
        Returns whether there is one now."""
        while self._total is not None and len(self._all) >= self._total:
            oldest = next(iter(self._replaceable), None)
            if oldest is None:
                return False
            self.drop(oldest, "replaced")
            self.close(oldest)
        return True

    # The bytes of requests

    def hold(self, connection: Connection, nbytes: int) -> bool:
        """Charge the budget with `nbytes` for the requests of a connection, in place of what they held before. Returns
        False if the budget has no room even without replaceable connections."""
        before = self._held.pop(connection, 0)
        more = nbytes - before
        if more < 0:
            self._give_back(-more)
        while more > 0 and not (self._held_bytes + more <= self._most_bytes and self._hold(more)):
            holder = next((each for each in self._replaceable if each in self._held), None)
            if holder is None:
                self._held |= {connection: before} if before else {}
                self.closed["memory"] += 1
                return False
            self.drop(holder, "memory")
            self.close(holder)
        self._held_bytes += more
        if nbytes:
            self._held[connection] = nbytes
        return True

    # Responses that nobody reads

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(self._look_seconds, self._look)

    def _look(self) -> None:
        """Close each connection whose client has taken no byte of a response for UNREAD_LOOKS looks."""
        for connection in list(self._all):
            unsent = connection.unsent_bytes()
            has_moved = not unsent or unsent != connection.unread_bytes
            connection.unread_looks = 0 if has_moved else connection.unread_looks + 1
            connection.unread_bytes = unsent
            if connection.unread_looks >= UNREAD_LOOKS:
                self.drop(connection, "unread")
        self._looking = None
        if self._all:
            self._look_later()
