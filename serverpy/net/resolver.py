"""The resolver of an event loop, which resolves a host name to addresses that the guard has checked:

    failed just now? ─▶ under way? join ─▶ look-up (`lookups.py`) ─▶ guard

Callers that resolve the same name at the same time share one look-up. If a look-up fails, or takes longer than
LOOK_UP_SECONDS, the name fails immediately for the next FAILED_SECONDS. A name that resolves to a forbidden address
fails in the same way, so that neither the error nor its timing reveals which names exist in the networks of this
machine.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence

from serverpy.net.guard import Guard, Lookup, UnusableName, resolve_host
from serverpy.net.lookups import Job, asking_client, pool

LOOK_UP_SECONDS = 5.0
FAILED_SECONDS = 5.0
MAX_FAILED = 1024
"""Maximum number of names that the resolver remembers as failed."""


class Resolver:
    """The resolver of one event loop. If `asking_client` is None, look-ups count as look-ups of `client`. `lookup`
    replaces the system's resolver. `is_remote` states whether the operator's proxy resolves names."""

    def __init__(
        self, client: Hashable | None = None, lookup: Lookup | None = None, *, is_remote: bool = False
    ) -> None:
        self._is_remote = is_remote
        self._client = client
        self._lookup = lookup or self._look_up
        self._jobs: dict[str, Job] = {}
        self._failed: OrderedDict[tuple[str, int], float] = OrderedDict()

    async def resolve(self, guard: Guard, host: str, port: int) -> tuple[str, ...]:
        """Resolve `host` to the numeric addresses to connect to (`guard.py::resolve_host`). The caller must set a
        timeout. Raises `TargetForbidden` if `host` is a forbidden address, `UpstreamFailed` if `host` is a name that
        does not resolve, or that resolves to a forbidden address."""
        key = host, port
        until = self._failed.get(key)
        if until is not None and until > time.monotonic():
            raise UnusableName(host)
        try:
            return await resolve_host(guard, host, port, lookup=self._lookup, is_remote=self._is_remote)
        except UnusableName:
            self._failed[key] = time.monotonic() + FAILED_SECONDS
            self._failed.move_to_end(key)
            if len(self._failed) > MAX_FAILED:
                self._failed.popitem(last=False)
            raise

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        job = self._jobs.get(host)
        if job is None:
            job = self._jobs[host] = pool.submit(host, asking_client.get() or self._client)
            job.answer.add_done_callback(lambda _: self._jobs.pop(host, None))
        while True:
            # the time limit begins when a thread begins the look-up, because the wait for a thread does not depend on
            # the name
            waited = 0.0 if job.begun is None else time.monotonic() - job.begun
            done, _ = await asyncio.wait([job.answer], timeout=max(LOOK_UP_SECONDS - waited, 0))
            if done:
                return job.answer.result()
            if job.begun is not None and time.monotonic() - job.begun >= LOOK_UP_SECONDS:
                raise OSError("no name server has answered in time")
