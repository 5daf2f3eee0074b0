"""The limit on the time until the first byte of media arrives from the media server, including retries and the pauses
between them."""

from __future__ import annotations

from serverpy.errors import UpstreamTimeout
from serverpy.tasks import Stall


class FirstByteWithin(Stall):
    """A context manager that limits the time of its block to `seconds`. If the block takes longer, or raises a
    `TimeoutError`, the context manager raises `UpstreamTimeout`. It is a `Stall`, because `asyncio.timeout` within an
    asynchronous context manager takes three times as much CPU time."""

    def __enter__(self) -> FirstByteWithin:
        super().__enter__()
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: object) -> None:
        try:
            super().__exit__(kind, error, where)
            if isinstance(error, TimeoutError):
                raise error
        except TimeoutError:
            raise UpstreamTimeout("Timed out waiting for the first byte from the media server.") from None
