"""The limits on the client connections of one serving process: the number of connections of each client and of all
clients, the bytes that unanswered requests hold, and the time for which a client may leave a response unread.

A connection is *replaceable* while the server answers no request of it, because the client has not sent a complete
request. If the maximum number of connections is reached, the server closes the connection that has been replaceable for
the longest time, and accepts the new one. So clients that send nothing, or one byte at a time, do not keep others out.

All functions must be called in the thread of the event loop.
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
"""Why the server refused or closed a connection.

- `client`: the client has more than CLIENT_CONNECTIONS.
- `all`: the maximum number of connections is reached.
- `replaced`: a new connection has taken its place.
- `memory`: the budget has no memory for the requests of the connection.
- `pipelined`: the client has sent too many pipelined requests.
- `late`: the client did not send a complete request in time.
- `unread`: the client did not read a response in time."""
REASONS: tuple[Reason, ...] = ("client", "all", "replaced", "memory", "pipelined", "late", "unread")

FEWEST = 256
"""Least value of the maximum number of connections, however small MAX_STREAMS is. The limit on file descriptors may
lower that maximum further."""
CONNECTIONS_PER_STREAM = 4
"""Number of connections that the server accepts for each stream of MAX_STREAMS: connections that stream, that wait for
a stream, or that are idle."""
SPARE_DESCRIPTORS = 256
"""Number of file descriptors that are reserved for everything but client connections and what the server opens on their
behalf. At most a quarter of all descriptors is reserved."""
CROWDED_SECONDS = 5.0
SENT_LOOK_SECONDS = 0.02
LOOKS = 4
"""Number of checks for unread responses in each STALL_TIMEOUT."""
UNREAD_LOOKS = 2 * LOOKS
"""Number of checks in a row that find the same number of unsent bytes before a response counts as unread. A media
stream itself detects a client that does not read, in half of the time that these checks take."""


class Connection(Protocol):
    """The methods and attributes of a client connection that `Connections` uses."""

    unread_looks: int
    unread_bytes: int

    def unsent_bytes(self) -> int:
        """Return the number of response bytes that the client has not received yet. Returns 0 if the operating system
        has accepted all of them."""
        ...

    def drop(self) -> None:
        """Close the connection immediately."""
        ...

    def reset(self) -> None:
        """Close the connection immediately with RST."""
        ...


def places(max_streams: int, descriptors: int) -> int:
    """Return the maximum number of client connections of a process that may open `descriptors` file descriptors. For
    each connection, one more descriptor is reserved for the upstream connection or pipe of its request."""
    spare = min(SPARE_DESCRIPTORS, descriptors // 4)
    return max(1, min(max(FEWEST, CONNECTIONS_PER_STREAM * max_streams), (descriptors - spare) // 2))


def descriptor_limit() -> int:
    """Return the limit on open file descriptors of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


class Connections:
    """The client connections of one serving process. `total` is the maximum number of connections, and `each` the
    maximum number for one client; None means no limit. Clients on loopback, and the proxies in the networks `trusted`
    (TRUSTED_PROXIES), may have any number of connections. For a client that a trusted proxy names, `each` limits the
    number of open requests.

    `hold` charges bytes to the budget, and returns whether that many were free; `give_back` returns bytes to the
    budget. The unanswered requests of all connections hold at most `most_bytes` together. `stall_timeout` is in
    seconds."""

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
        """Number of connections that the server refused or closed, for each `Reason`."""
        self.refusals = refusals or Refusals()
        """Counters of the requests that the server refused before they reached the application."""
        self._crowded_at = -math.inf
        """Time, by the clock of the event loop, of the last refusal because of the maximum number of connections."""

    def __len__(self) -> int:
        return len(self._all)

    @property
    def is_crowded(self) -> bool:
        """Whether the maximum number of connections led to a refusal in the last CROWDED_SECONDS."""
        return asyncio.get_running_loop().time() - self._crowded_at < CROWDED_SECONDS

    def open(self, connection: Connection, peer: str) -> Reason | None:
        """Count a new connection from the address `peer`. Returns None if it is accepted, otherwise the reason for
        which the caller must refuse it. A refused connection is counted too: the caller must call `close` at the end of
        each connection."""
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
        """Stop counting a connection, and return the bytes that it holds to the budget. Idempotent."""
        client = self._all.pop(connection, None)
        if client is not None:
            self.leave(client)
        self._replaceable.pop(connection, None)
        self.hold(connection, 0)

    def drop(self, connection: Connection, reason: Reason) -> None:
        """Close a connection immediately, and count it under `reason`."""
        self.closed[reason] += 1
        self._replaceable.pop(connection, None)
        connection.drop()

    async def wait_sent(self) -> None:
        """Wait until the operating system has accepted all bytes of all responses."""
        # a transport tells only its protocol that its buffer is empty, so this class has to poll
        while any(each.unsent_bytes() for each in self._all):  # noqa: ASYNC110
            await asyncio.sleep(SENT_LOOK_SECONDS)

    def reset(self, *, only_unsent: bool = False) -> None:
        """Close all connections with RST. With `only_unsent`, close only those with bytes that the operating system has
        not accepted."""
        for connection in list(self._all):
            if not only_unsent or connection.unsent_bytes():
                connection.reset()

    # Methods that limit the connections of each client

    def enter(self, client: str) -> bool:
        """Count a connection of `client`, or a request of `client` through a trusted proxy. Returns False, without
        counting, if `client` has reached its limit. After True, the caller must later call `leave`."""
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
        """Return the network of the client that the trusted proxy `peer` names in the header fields. Returns None if it
        names no client, or a client without a limit (loopback, or another trusted proxy)."""
        client = client_of(peer, fields, self._trusted)
        return self._client(client.address) if client.is_trusted else None

    def _client(self, address: str) -> str | None:
        parsed = parse_address(address)
        if parsed is None or parsed.is_loopback or (self._trusted and is_within(parsed, self._trusted)):
            return None
        return network_of(address)

    # Methods for connections that may be replaced

    def wait(self, connection: Connection) -> None:
        """Make the connection replaceable until `answer` is called. The caller does this when the server answers no
        request of the connection."""
        self._replaceable[connection] = None

    def answer(self, connection: Connection) -> None:
        """Make the connection no longer replaceable. The caller does this when the server begins to answer a request of
        the connection."""
        self._replaceable.pop(connection, None)

    def _make_room(self) -> bool:
        """If the maximum number of connections is reached, close the connections that have been replaceable for the
        longest time. Returns whether a new connection can then be accepted."""
        while self._total is not None and len(self._all) >= self._total:
            oldest = next(iter(self._replaceable), None)
            if oldest is None:
                return False
            self.drop(oldest, "replaced")
            self.close(oldest)
        return True

    # Methods that charge the bytes of requests

    def hold(self, connection: Connection, nbytes: int) -> bool:
        """Charge the budget with `nbytes` for the unanswered requests of a connection, instead of the bytes charged for
        them before. If the budget has no room, closes replaceable connections that hold bytes. Returns False if the
        budget has no room even after that."""
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

    # Methods for responses that clients do not read

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(self._look_seconds, self._look)

    def _look(self) -> None:
        """Check all connections. Close each connection that has unsent bytes of a response, and has sent none of them
        during UNREAD_LOOKS checks in a row."""
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
