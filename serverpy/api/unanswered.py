"""The record of the memory that the unanswered requests of one connection take, and of the clients for which they are
counted."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from serverpy.access.connections import Connection, Connections
from serverpy.api.request_limits import COVERED_BYTES
from serverpy.errors import Busy


class Unanswered:
    """The unanswered requests of one connection. Lists only requests that take more than COVERED_BYTES, that wait for
    the response to an earlier request, or whose client a trusted proxy has named."""

    def __init__(self, limits: Connections, connection: Connection) -> None:
        self._limits = limits
        self._connection = connection
        self._listed: dict[RequestResponseCycle, tuple[int, str | None]] = {}
        self._held_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether no request is listed, and no memory is charged to the budget."""
        return not (self._held_bytes or self._listed)

    def weigh(self, nbytes: int) -> None:
        """Charge the budget with `nbytes` for the request that is being read, and with the memory of the listed
        requests. The first COVERED_BYTES are free. Raises `Busy` if the budget has no room."""
        held = max(0, nbytes + sum(size for size, _ in self._listed.values()) - COVERED_BYTES)
        if held != self._held_bytes and not self._limits.hold(self._connection, held):
            raise Busy("The server has too little memory for this request now. Try again later.")
        self._held_bytes = held

    def add(self, cycle: RequestResponseCycle, nbytes: int, client: str | None) -> None:
        """List a request. The caller has charged its `nbytes` with `weigh`, and has counted it for `client` with
        `Connections.enter`."""
        self._listed[cycle] = nbytes, client

    def remove(self, cycle: RequestResponseCycle) -> None:
        """Remove a request from the list, and return its memory to the budget. Idempotent."""
        _, client = self._listed.pop(cycle, (0, None))
        if client is not None:
            self._limits.leave(client)
        self.weigh(0)
        # empty the request, because an idle connection keeps a reference to its last request
        cycle.scope["headers"], cycle.scope["path"] = [], ""
        cycle.scope["query_string"] = cycle.scope["raw_path"] = b""

    def clear(self) -> None:
        """Remove all requests from the list, and return their memory to the budget."""
        for cycle in list(self._listed):
            self.remove(cycle)
        self.weigh(0)
