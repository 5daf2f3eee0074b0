"""What the unanswered requests of one connection hold, and which clients they count for."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from serverpy.access.connections import Connection, Connections
from serverpy.api.request_limits import COVERED_BYTES
from serverpy.errors import Busy


class Unanswered:
    """The account of a connection's unanswered requests. It lists those only that hold more than usual, that wait for
    others, or whose client a proxy has named."""

    def __init__(self, limits: Connections, connection: Connection) -> None:
        self._limits = limits
        self._connection = connection
        self._listed: dict[RequestResponseCycle, tuple[int, str | None]] = {}
        self._held_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether no request is listed and nothing is charged."""
        return not (self._held_bytes or self._listed)

    def weigh(self, nbytes: int) -> None:
        """Charge the budget with `nbytes` for the request that is being read, and with what the listed requests hold.
        Raises `Busy` if there is no room."""
        held = max(0, nbytes + sum(size for size, _ in self._listed.values()) - COVERED_BYTES)
        if held != self._held_bytes and not self._limits.hold(self._connection, held):
            raise Busy("The server has no memory for this request.")
        self._held_bytes = held

    def add(self, cycle: RequestResponseCycle, nbytes: int, client: str | None) -> None:
        """List a request, which `weigh` has charged and `client` has entered."""
        self._listed[cycle] = nbytes, client

    def remove(self, cycle: RequestResponseCycle) -> None:
        """Give back what the request held. Idempotent."""
        _, client = self._listed.pop(cycle, (0, None))
        if client is not None:
            self._limits.leave(client)
        self.weigh(0)
        # an idle connection keeps its last request
        cycle.scope["headers"], cycle.scope["path"] = [], ""
        cycle.scope["query_string"] = cycle.scope["raw_path"] = b""

    def clear(self) -> None:
        """Give back everything."""
        for cycle in list(self._listed):
            self.remove(cycle)
        self.weigh(0)
