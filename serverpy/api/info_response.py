"""The response of `/info`. A page may have thousands of formats or items. The response renders them while it sends
them, in pieces of about PIECE_BYTES, so that it neither blocks the event loop nor holds more than one piece."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serverpy.api.protocol import LEFT
from serverpy.api.responses import FLUSH
from serverpy.errors import Busy
from serverpy.extraction.values import Media
from serverpy.info import info_json
from serverpy.memory.budget import Budget
from serverpy.plan import Capabilities, Plan

PIECE_BYTES = 16 * 1024
ITEM_BYTES = 2048
"""Memory, in bytes, that the response charges to the budget for each format and item of its extraction. Only the
response may still hold the extraction, because the cache may have evicted it."""
FEW_ITEMS = 64
"""Number of formats and items for which the response charges no memory: the memory of a request covers them."""


class InfoResponse(Response):
    """A response with the JSON document of `media`, whose default choice is `default`. Raises `Busy` when it is sent,
    if the budget has no room for `media`."""

    media_type = "application/json"

    def __init__(self, media: Media, capabilities: Capabilities, default: Plan | None, budget: Budget) -> None:
        self._media = media
        self._budget = budget
        pieces = info_json(media, capabilities, default, PIECE_BYTES)
        first, second = next(pieces), next(pieces, None)
        super().__init__(first if second is None else b"")
        self._pieces = None if second is None else itertools.chain((first, second), pieces)
        if self._pieces is not None:
            del self.headers["Content-Length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._pieces is None:
            await super().__call__(scope, receive, send)
            return
        with self._charged():
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for piece in self._pieces if scope["method"] != "HEAD" else ():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send(FLUSH)
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    @contextlib.contextmanager
    def _charged(self) -> Iterator[None]:
        media = self._media
        items = len(media.tracks) + len(media.entries) + len(media.subtitles)
        nbytes = ITEM_BYTES * max(0, items - FEW_ITEMS)
        if not self._budget.try_keep(nbytes):
            raise Busy("The server has too little memory for this response now. Try again later.")
        try:
            yield
        finally:
            self._budget.shrink(nbytes)


@contextlib.contextmanager
def cancelled_if_left(scope: Scope) -> Iterator[None]:
    """Cancel the current task if the client disconnects during the block. Has no effect on an ASGI server without
    `StreamProtocol`: such a server reports a disconnect only by a message, for which this function does not wait."""
    watch, task = scope.get("extensions", {}).get(LEFT), asyncio.current_task()
    if watch is None or task is None:
        yield
        return
    watch(task.cancel)
    try:
        yield
    finally:
        watch(None)
