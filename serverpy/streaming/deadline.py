"""The limit on the time until the first byte of media arrives from the media server, including retries and the pauses
between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serverpy.errors import UpstreamTimeout


@asynccontextmanager
async def first_byte_within(seconds: float) -> AsyncIterator[None]:
    """Limit the time of the `async with` block to `seconds`. If the block takes longer, the context manager cancels it
    and raises `UpstreamTimeout`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise UpstreamTimeout("Timed out waiting for the first byte from the media server.") from None
