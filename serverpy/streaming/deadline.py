"""The limit on how long a media server may take before the first byte, including retries and back-offs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serverpy.errors import UpstreamTimeout


@asynccontextmanager
async def first_byte_within(seconds: float) -> AsyncIterator[None]:
    """Limit the block to `seconds`. A block that takes longer is cancelled, cleans up, and raises `UpstreamTimeout`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise UpstreamTimeout("Timed out waiting for the first byte from the media server.") from None
