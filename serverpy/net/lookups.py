"""The threads in which host names are looked up, limited in such a way that slow look-ups do not delay all other
look-ups.

The system's resolver (`getaddrinfo`) knows the hosts file, the search domains and the mDNS of this machine, but it
blocks its thread, for 10 s and more if no name server answers. The default executor of an event loop has only a few
threads, which also run other functions. So the look-ups of this process have THREADS threads of their own:

- Names that have not been resolved before use at most UNKNOWN_THREADS threads. The remaining threads are reserved for
  names that have been resolved before. So a page with many host names that no name server answers for does not delay
  streams from known media servers.
- The look-ups of one client use at most CLIENT_THREADS threads at a time.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from dataclasses import dataclass, field

THREADS = 32
UNKNOWN_THREADS = 24
CLIENT_THREADS = 4
MAX_WAITING = 1024
"""Maximum number of look-ups that wait for a thread. If more look-ups wait, a new look-up fails."""
MAX_KNOWN = 1024
"""Maximum number of host names that the pool remembers as resolved before."""

asking_client: ContextVar[Hashable | None] = ContextVar("asking_client", default=None)
"""The client for whose request the current task looks up names. None for a client on this machine, and for work that no
client has requested: for these, the limit CLIENT_THREADS does not apply."""


@dataclass(eq=False, slots=True)
class Job:
    """A look-up in the pool. `begun` is the time, in seconds of the monotonic clock, at which a thread began the
    look-up, or None while the look-up waits for a thread."""

    host: str
    client: Hashable | None
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[list[str]]
    is_known: bool = False
    begun: float | None = None


@dataclass(slots=True)
class Pool:
    """The look-up threads of this process, and the look-ups that wait for a thread, in the order of their arrival. The
    pool starts a thread when a look-up needs one. After the look-up, the thread waits for further look-ups. The methods
    are thread-safe."""

    find: Callable[[str], list[str]]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: deque[Job] = field(default_factory=deque)
    _jobs: queue.SimpleQueue[Job] = field(default_factory=queue.SimpleQueue)
    _threads: int = 0
    _running: int = 0
    _unknown: int = 0
    _clients: Counter[Hashable] = field(default_factory=Counter)
    _known: OrderedDict[str, None] = field(default_factory=OrderedDict)

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, host: str, client: Hashable | None) -> Job:
        """Queue the look-up of `host`. Raises OSError if too many look-ups wait."""
        loop = asyncio.get_running_loop()
        job = Job(host, client, loop, loop.create_future())
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                raise OSError("too many look-ups are waiting")
            self._waiting.append(job)
            self._start()
        return job

    def _start(self) -> None:
        """Assign waiting look-ups to threads, as many as the limits allow. The caller must hold the lock."""
        while self._running < THREADS and (job := self._next()) is not None:
            self._running += 1
            self._unknown += not job.is_known
            self._clients[job.client] += 1
            if self._running > self._threads:
                self._threads += 1
                threading.Thread(target=self._work, name="look-up", daemon=True).start()
            self._jobs.put(job)

    def _next(self) -> Job | None:
        for job in self._waiting:
            job.is_known = job.host in self._known
            if (job.is_known or self._unknown < UNKNOWN_THREADS) and (
                job.client is None or self._clients[job.client] < CLIENT_THREADS
            ):
                self._waiting.remove(job)
                return job
        return None

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            job.begun = time.monotonic()
            try:
                found, error = self.find(job.host), None
            except (OSError, ValueError) as failure:  # ValueError: the name cannot be encoded
                found, error = [], failure
            with self._lock:
                self._end(job, is_found=error is None)
                self._start()
            if not job.loop.is_closed():
                job.loop.call_soon_threadsafe(_deliver, job.answer, found, error)

    def _end(self, job: Job, *, is_found: bool) -> None:
        self._running -= 1
        self._unknown -= not job.is_known
        self._clients[job.client] -= 1
        if not self._clients[job.client]:
            del self._clients[job.client]
        if is_found:
            self._known[job.host] = None
            self._known.move_to_end(job.host)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)


def _deliver(answer: asyncio.Future[list[str]], found: list[str], error: Exception | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(found)
    else:
        answer.set_exception(error)
        answer.exception()  # marks the exception as retrieved: asyncio would log it if every caller was cancelled


def _system(host: str) -> list[str]:
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [_address_of(sockaddr) for *_, sockaddr in answers]


pool = Pool(_system)
"""The look-up threads of this process. All event loops of the process share them."""


async def look_up(host: str, port: int) -> list[str]:
    """Look up `host` with the system's resolver. Raises OSError if the name does not resolve."""
    return await pool.submit(host, asking_client.get()).answer


def _address_of(sockaddr: tuple[object, ...]) -> str:
    """Return the resolved address including its scope id, so that the guard sees the scope id, too."""
    scoped = len(sockaddr) == 4 and sockaddr[3] != 0
    return f"{sockaddr[0]}%{sockaddr[3]}" if scoped and "%" not in str(sockaddr[0]) else str(sockaddr[0])
