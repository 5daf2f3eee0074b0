"""How long a media server may take before the first byte, tries and back-offs and all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serverpy.errors import UpstreamTimeout


@asynccontextmanager
async def first_byte_within(seconds: float) -> AsyncIterator[None]:
    """Limit the time of the block. Raises `UpstreamTimeout` when it is over; the block is cancelled, and cleans up
    after itself."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise UpstreamTimeout("The media server gave no byte in time.") from None
