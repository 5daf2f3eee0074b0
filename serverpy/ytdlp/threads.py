"""The threads of a yt-dlp process: one for each request in progress. The thread sends a reply to the server process
even if the request fails."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from serverpy.errors import Busy, ExtractionFailed, ServerPYError, TooLarge
from serverpy.extraction.messages import ErrorReply, Reply, error_reply
from serverpy.memory.heap import give_memory_back
from serverpy.ytdlp.channel import Outbox
from serverpy.ytdlp.children import Stopped, Ticket
from serverpy.ytdlp.faults import ran_out_of_memory

log = logging.getLogger("serverpy.worker")

GIVE_BACK_SECONDS = 1.0
"""Seconds after the end of a request until free memory is returned to the operating system."""
TOO_LARGE = TooLarge("This page or its media needs more memory than the server allows.")


class Threads:
    """The requests in progress, each with a thread and a `Ticket` (cancellation event). Only one thread may call
    `run`. `pause` waits for the seconds that it is given before memory is returned; `close` ends the default pause."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        pause: Callable[[float], object] | None = None,
        give_back: Callable[[], None] = give_memory_back,
    ) -> None:
        self._outbox = outbox
        self._is_closed = threading.Event()
        self._pause = pause or self._is_closed.wait
        self._give_back = give_back
        self._lock = threading.Lock()
        self._tickets: dict[int, Ticket] = {}
        self._has_ended = threading.Event()
        """Event that is set when a request has ended whose memory may not have been returned to the operating
        system."""
        start_thread("give-back", self._give_back_for_ever)

    def __len__(self) -> int:
        return len(self._tickets)

    def run(self, id_: int, work: Callable[[Ticket], Reply], full: ServerPYError = TOO_LARGE) -> None:
        """Call `work` in a new thread, and send the reply that it returns, or the error that it raises. If the process
        runs out of memory, send the error `full`. Raises `Busy` if the system has no memory for the thread's stack."""
        ticket = Ticket()
        with self._lock:
            self._tickets[id_] = ticket

        def run() -> None:
            reply = reply_of(id_, lambda: work(ticket), full)
            self._forget(id_)
            self._outbox.send(reply)
            self._has_ended.set()

        try:
            start_thread(f"request-{id_}", run)
        except RuntimeError:
            self._forget(id_)
            raise Busy("There is too little memory for another request. Try again later.") from None

    def cancel(self, id_: int) -> None:
        with self._lock:
            ticket = self._tickets.get(id_)
        if ticket is not None:
            ticket.set()

    def close(self) -> None:
        """Tell every request to stop, and end the thread that returns memory."""
        with self._lock:
            tickets = list(self._tickets.values())
        for ticket in tickets:
            ticket.set()
        self._is_closed.set()
        self._has_ended.set()

    def _forget(self, id_: int) -> None:
        with self._lock:
            del self._tickets[id_]

    def _give_back_for_ever(self) -> None:
        """Return free memory to the operating system soon after requests have ended, if no other request is in
        progress. This is not done after each request, because a garbage collection and `malloc_trim` take a fifth of
        the CPU time of an extraction."""
        while not self._is_closed.is_set():
            self._has_ended.wait()
            self._pause(GIVE_BACK_SECONDS)
            self._has_ended.clear()
            if not self._tickets:
                self._give_back()  # reference cycles keep ended sessions: 20 MB after 100 downloads


def reply_of(id_: int, work: Callable[[], Reply], full: ServerPYError = TOO_LARGE) -> Reply:
    """Return the reply that `work` returns, or an `ErrorReply` if `work` raises an exception. If the process ran out of
    memory, the reply contains the error `full`."""
    try:
        return _outcome(id_, work)
    except MemoryError:
        # Reply only after this block, because its end frees the traceback, and with it the objects that filled the
        # memory.
        pass
    give_memory_back()
    log.error("Request %d was stopped because this process reached its memory limit", id_)
    return error_reply(id_, full)


def _outcome(id_: int, work: Callable[[], Reply]) -> Reply:
    """Return the reply that `work` returns, or an `ErrorReply` if `work` raises an exception. Raises MemoryError if the
    process ran out of memory, even if `work` translated that error into another error."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  # `_reply_to` translates or logs the exception
        if ran_out_of_memory(error):
            raise MemoryError from None
        return _reply_to(id_, error)
    except Stopped:
        return error_reply(id_, ExtractionFailed("The request was cancelled."))


def _reply_to(id_: int, error: Exception) -> ErrorReply:
    if isinstance(error, ServerPYError):
        return error_reply(id_, error)
    log.error("Request %d failed with an unexpected error", id_, exc_info=error)
    return error_reply(id_, ExtractionFailed("This page could not be read because of an internal error."))


def start_thread(name: str, target: Callable[[], None]) -> None:
    """Start a daemon thread, so that the process does not wait for it at exit. If `target` raises an exception, the
    process exits, so that all requests to this process fail at once. Otherwise the requests that wait for the thread
    would wait forever. Raises `RuntimeError` if the system has no memory for the thread's stack."""

    def run() -> None:
        try:
            target()
        except BaseException:  # noqa: BLE001  # the exception is logged
            try:
                log.critical("Thread %s has failed, so the worker process exits", name, exc_info=True)
            finally:  # logging may fail, because no memory may be left
                os._exit(1)

    threading.Thread(target=run, name=name, daemon=True).start()
