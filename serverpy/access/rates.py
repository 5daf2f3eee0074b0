"""Rate limits on the page extractions of each account."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from serverpy.access.allowance import Allowance

if TYPE_CHECKING:
    from serverpy.access.windows import Windows


class Rates:
    """The rate limits of one serving process, in memory. The first call of `count` imports the `limits` library in a
    thread."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._windows: Windows | None = None

    async def count(self, rate: str, account: str) -> Allowance:
        """Count an extraction of `account`, unless the extraction exceeds `rate`, which is in the syntax of the
        `limits` library. Returns the resulting state of the rate limit."""
        if self._windows is None:
            found = await asyncio.to_thread(_windows, self._clock)
            self._windows = self._windows or found
        return await self._windows.count(rate, account)


def _windows(clock: Callable[[], float]) -> Windows:
    from serverpy.access.windows import Windows

    return Windows(clock)
