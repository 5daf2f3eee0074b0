"""The threads of the worker process, and the requests that each thread handles: extractions run on a fixed number of
threads, each download on a thread of its own, and format selectors on one more thread.

An extraction or download has a ticket from the arrival of its request until its reply; a `Cancel` message and the end
of the worker set the ticket. This module imports yt-dlp, so `main` imports it only after hiding the modules that yt-dlp
must not find.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from serverpy.errors import Busy, ExtractionFailed, ServerPYError, TooLarge
from serverpy.extraction.messages import (
    Cancel,
    Configure,
    DownloadEnd,
    DownloadStarted,
    ErrorReply,
    Extract,
    Extracted,
    RawGone,
    Ready,
    Reply,
    Request,
    Select,
    Selected,
    StartDownload,
    WorkerOptions,
    error_reply,
)
from serverpy.memory.heap import give_memory_back
from serverpy.net.egress import Egress, EgressLimits
from serverpy.net.guard import Guard
from serverpy.net.happy_eyeballs import Routes
from serverpy.ytdlp.channel import Inbox, Outbox
from serverpy.ytdlp.children import Stopped, Ticket
from serverpy.ytdlp.faults import ran_out_of_memory
from serverpy.ytdlp.page.extract import extract
from serverpy.ytdlp.page.raw_store import RawStore
from serverpy.ytdlp.prepare import describe, prepare
from serverpy.ytdlp.session.proxies import SessionProxies

log = logging.getLogger("serverpy.worker")

R = TypeVar("R", bound=Reply)


class Dispatcher:
    """Distributor of requests to the worker's threads. Only one thread may call `take` and `close`."""

    def __init__(self, options: WorkerOptions, directory: Path, outbox: Outbox) -> None:
        """Prepare the worker process and start its threads. Raises ConfigurationError if a setting is invalid."""
        guard, routes = Guard.of(options.targets), Routes()

        def make_egress() -> Egress:
            return Egress(guard, options.network, EgressLimits.of(options.timeouts), routes=routes)

        make_egress()  # made only to raise ConfigurationError if PROXY or SOURCE_ADDRESS is invalid
        self._options = options
        self._outbox = outbox
        self._proxies = SessionProxies(make_egress)
        self._proxies.start()
        self._gate = prepare(options, self._proxies, directory).gate
        self._raws = RawStore()
        self._tag = secrets.token_hex(6)
        self._lock = threading.Lock()
        self._tickets: dict[int, Ticket] = {}
        self._downloading = 0
        self._pages: queue.SimpleQueue[Extract] = queue.SimpleQueue()
        self._selectors: queue.SimpleQueue[Select] = queue.SimpleQueue()
        for number in range(options.limits.extract_workers):
            _thread(f"extract-{number}", self._extract_for_ever)
        _thread("select", self._select_for_ever)

    def ready(self) -> Ready:
        return describe()

    def take(self, request: Request, inbox: Inbox) -> None:
        """Pass `request` to a thread, and return without waiting for the reply."""
        match request:
            case Extract():
                self._open(request.id)
                self._pages.put(request)
            case StartDownload():
                self._start_download(request, inbox.descriptor())
            case Select():
                self._selectors.put(request)
            case Cancel():
                self._cancel(request.id)
            case Configure():
                raise ValueError("the server sent Configure twice")

    def close(self) -> None:
        """Tell every request to stop, and kill yt-dlp's child processes. Does not wait for the worker's threads."""
        with self._lock:
            tickets = list(self._tickets.values())
        for ticket in tickets:
            ticket.set()
        self._gate.close()
        self._proxies.close(seconds=0.5)

    def _open(self, id_: int) -> None:
        with self._lock:
            self._tickets[id_] = Ticket()

    def _cancel(self, id_: int) -> None:
        with self._lock:
            ticket = self._tickets.get(id_)
        if ticket is not None:
            ticket.set()

    # Methods for extractions

    def _extract_for_ever(self) -> None:
        while True:
            request = self._pages.get()
            reply = _reply_of(request.id, lambda request=request: self._extract(request))  # type: ignore[misc]
            with self._lock:
                del self._tickets[request.id]
            self._outbox.send(reply)

    def _extract(self, request: Extract) -> Extracted:
        raw_id = f"{self._tag}-{request.id}"
        media, raw = extract(request.url, self._options, self._tickets[request.id], raw_id)
        self._raws.put(raw_id, raw)
        return Extracted(id=request.id, media=media)

    # Methods for downloads

    def _start_download(self, request: StartDownload, descriptor: int) -> None:
        with self._lock:
            if free := self._downloading < self._options.limits.max_workers:
                self._downloading += 1
                self._tickets[request.id] = Ticket()
        if not free:
            os.close(descriptor)
            self._outbox.send(error_reply(request.id, Busy("All download threads are busy. Try again later.")))
            return
        try:
            _thread(f"download-{request.id}", lambda: self._download_once(request, descriptor))
        except RuntimeError:  # the system has no memory for the thread's stack
            os.close(descriptor)
            self._download_over(
                error_reply(request.id, Busy("There is too little memory for another download. Try again later."))
            )

    def _download_once(self, request: StartDownload, descriptor: int) -> None:
        self._download_over(_reply_of(request.id, lambda: self._download(request, descriptor)))

    def _download_over(self, reply: DownloadEnd | ErrorReply) -> None:
        with self._lock:
            self._downloading -= 1
            del self._tickets[reply.id]
            last = not self._downloading
        self._outbox.send(reply)
        if last:
            gc.collect()  # sessions are reference cycles: after 100 downloads they hold 20 MB
            give_memory_back()

    def _download(self, request: StartDownload, descriptor: int) -> DownloadEnd:
        """Run a download. `track.run` closes the descriptor. If an error occurs before that call, this method closes
        it."""
        try:
            # Imported here so that only the first download loads yt-dlp's downloaders.
            from serverpy.ytdlp.download import track

            raw = self._raws.get(request.raw_id)
            if raw is None:
                raise RawGone("The worker no longer has this extraction. Extract the page again.")
            self._outbox.send(DownloadStarted(id=request.id))
        except BaseException:
            os.close(descriptor)
            raise
        count = track.run(raw, request.track_id, descriptor, self._tickets[request.id], self._options)
        return DownloadEnd(id=request.id, bytes=count)

    # Methods for format selectors

    def _select_for_ever(self) -> None:
        while True:
            request = self._selectors.get()
            self._outbox.send(_reply_of(request.id, lambda request=request: _select(request)))  # type: ignore[misc]


def _select(request: Select) -> Selected:
    from serverpy.ytdlp.page.selection import select  # loaded by the first format selector

    return Selected(id=request.id, choices=select(request.selector, request.formats))


def _reply_of(id_: int, work: Callable[[], R]) -> R | ErrorReply:
    """Return the reply that `work` returns, or an `ErrorReply` if `work` raises an exception."""
    try:
        return _outcome(id_, work)
    except MemoryError:
        # The end of this block frees the traceback, and with it the objects that filled the memory; reply only after
        # that.
        pass
    give_memory_back()
    log.error("Request %d was stopped because it reached the memory limit of the worker", id_)
    return error_reply(id_, TooLarge("The extraction of this page needs more memory than the server allows."))


def _outcome(id_: int, work: Callable[[], R]) -> R | ErrorReply:
    """Return the reply that `work` returns, or an `ErrorReply` if `work` raises an exception. Raises MemoryError if the
    memory was full, even if `work` translated that error into another one."""
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


def _thread(name: str, target: Callable[[], None]) -> None:
    """Start a daemon thread, so that the process does not wait for it at exit. If `target` raises an exception, the
    process exits, and the server then fails the requests of this worker at once. Otherwise the requests that wait for
    the thread would wait forever."""

    def run() -> None:
        try:
            target()
        except BaseException:  # noqa: BLE001  # the exception is logged
            try:
                log.critical("Thread %s has failed, so the worker process exits", name, exc_info=True)
            finally:  # there may be no memory left for logging
                os._exit(1)

    threading.Thread(target=run, name=name, daemon=True).start()
