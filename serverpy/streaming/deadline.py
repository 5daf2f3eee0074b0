"""The limit on how long a media server may take before the first byte, including retries and back-offs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serverpy.errors import UpstreamTimeout


@asynccontextmanager
async def first_byte_within(seconds: float) -> AsyncIterator[None]:
    """Limit the time of the block. At the end of that time, cancel the block, let it clean up, and raise
    `UpstreamTimeout`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise UpstreamTimeout("Timed out waiting for the first byte from the media server.") from None
