"""Helper that runs an egress proxy in a thread, for synchronous tests."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

from serverpy.net.egress import Egress
from serverpy.net.guard import Guard
from tests.net.origin import DEADLINE


class EgressThread:
    """`Egress` in a thread with its own event loop, as a context manager. The egress listens once the context is
    entered. Leaving the context closes the egress and joins the thread. `loop_factory` makes the event loop; the other
    arguments are passed to `Egress`."""

    def __init__(self, guard: Guard, *, loop_factory: Any = asyncio.new_event_loop, **arguments: Any) -> None:
        self.egress = Egress(guard, **arguments)
        self._loop_factory = loop_factory
        self._listening: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name="egress")

    @property
    def url(self) -> str:
        return self.egress.url

    @property
    def active(self) -> int:
        """The number of clients that have an upstream connection through the egress."""
        return sum(client.upstream is not None for client in list(self.egress._clients))

    def close(self) -> None:
        """Call `aclose` of the egress in its event loop. The loop keeps running until the caller leaves the context."""
        loop, _ = self._listening.result()
        asyncio.run_coroutine_threadsafe(self.egress.aclose(), loop).result(DEADLINE)

    def __enter__(self) -> EgressThread:
        self._thread.start()
        self._listening.result(DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        loop, stop = self._listening.result()
        loop.call_soon_threadsafe(stop.set)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._loop_factory) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        stop = asyncio.Event()
        try:
            await self.egress.start()
        except BaseException as error:
            self._listening.set_exception(error)
            raise
        self._listening.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        await self.egress.aclose()
