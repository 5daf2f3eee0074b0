"""The requests of the server process to a yt-dlp process, and the threads that handle these requests: extractions
(`Extractions`) in the extraction process, downloads (`Downloads`) in the download process.

Each extraction and each download runs in a thread of its own, and has a `Ticket` (a cancellation event) from the
arrival of the request until the reply. A `Cancel` message and the end of the process set this event. This module
imports yt-dlp, so `main` imports this module only after it has hidden the modules that yt-dlp must not find.
"""

from __future__ import annotations

import os
import queue
import secrets
from pathlib import Path
from typing import BinaryIO, Protocol

from serverpy.errors import Busy
from serverpy.extraction.messages import (
    Cancel,
    Configure,
    DownloadEnd,
    DownloadStarted,
    Extract,
    Extracted,
    Ping,
    Pong,
    RawApart,
    RawGone,
    RawWritten,
    Ready,
    Reply,
    Request,
    Role,
    Select,
    Selected,
    StartDownload,
    WorkerFull,
    WorkerOptions,
    WriteRaw,
    error_reply,
)
from serverpy.net.egress import Egress, EgressLimits
from serverpy.net.guard import Guard
from serverpy.net.happy_eyeballs import Routes
from serverpy.ytdlp.channel import Inbox, Outbox
from serverpy.ytdlp.children import Ticket
from serverpy.ytdlp.page import crossing
from serverpy.ytdlp.page.extract import extract, extract_again, raw_bytes
from serverpy.ytdlp.page.raw_store import RawStore
from serverpy.ytdlp.prepare import describe, prepare
from serverpy.ytdlp.session.proxies import SessionProxies
from serverpy.ytdlp.threads import Threads, reply_of, start_thread

_FULL = WorkerFull("This process has reached its memory limit.")


class Dispatcher:
    """Distributor of requests to the threads of a yt-dlp process. Only one thread may call `take` and `close`."""

    def __init__(self, role: Role, options: WorkerOptions, directory: Path, outbox: Outbox) -> None:
        """Prepare the process. Raises ConfigurationError if a setting is invalid."""
        guard, routes = Guard.of(options.targets), Routes()

        def make_egress() -> Egress:
            return Egress(guard, options.network, EgressLimits.of(options.timeouts), routes=routes)

        make_egress()  # called here only to raise ConfigurationError if PROXY or SOURCE_ADDRESS is invalid
        self._proxies = SessionProxies(make_egress)
        self._proxies.start()
        self._gate = prepare(role, options, self._proxies, directory).gate
        self._tag = secrets.token_hex(6)
        self._outbox = outbox
        self._threads = Threads(outbox)
        self._work: _Work = (
            Extractions(options, outbox, self._threads, self._tag)
            if role == "extract"
            else Downloads(options, outbox, self._threads)
        )

    def ready(self) -> Ready:
        return describe(self._tag)

    def take(self, request: Request, inbox: Inbox) -> None:
        """Start to handle `request`, and return without waiting for the reply."""
        match request:
            case Cancel():
                self._threads.cancel(request.id)
            case Ping():
                self._outbox.send(Pong(id=request.id))
            case Configure():
                raise ValueError("the server sent Configure twice")
            case _:
                self._work.take(request, inbox)

    def close(self) -> None:
        """Tell every request to stop, and kill yt-dlp's child processes. Does not wait for the threads of this
        process."""
        self._threads.close()
        self._gate.close()
        self._proxies.close(seconds=0.5)


class _Work(Protocol):
    def take(self, request: Request, inbox: Inbox) -> None: ...


class Extractions:
    """The requests to the extraction process. Each extraction runs in a thread of its own. The requests to apply a
    format selector or to write the dictionary of a track are short, so one further thread handles them one after
    another."""

    def __init__(self, options: WorkerOptions, outbox: Outbox, threads: Threads, tag: str) -> None:
        self._options = options
        self._outbox = outbox
        self._threads = threads
        self._tag = tag
        self._raws = RawStore()
        self._questions: queue.SimpleQueue[tuple[Select | WriteRaw, int]] = queue.SimpleQueue()
        start_thread("questions", self._answer_for_ever)

    def take(self, request: Request, inbox: Inbox) -> None:
        match request:
            case Extract():
                self._start(request)
            case Select():
                self._questions.put((request, -1))
            case WriteRaw():
                self._questions.put((request, inbox.descriptor()))
            case _:
                raise ValueError(f"an extraction process received a request of the type {type(request).__name__}")

    def _start(self, request: Extract) -> None:
        try:
            self._threads.run(request.id, lambda ticket: self._extract(request, ticket), full=_FULL)
        except Busy:  # the system has no memory for the stack of a thread
            self._outbox.send(error_reply(request.id, _FULL))

    def _extract(self, request: Extract, ticket: Ticket) -> Extracted:
        raw_id = f"{self._tag}-{request.id}"
        media, raw = extract(request.url, self._options, ticket, raw_id)
        self._raws.put(raw_id, raw)
        return Extracted(id=request.id, media=media)

    def _answer_for_ever(self) -> None:
        while True:
            request, descriptor = self._questions.get()
            self._outbox.send(reply_of(request.id, lambda: self._answer(request, descriptor)))  # noqa: B023  # `reply_of` calls the function before the next request

    def _answer(self, request: Select | WriteRaw, descriptor: int) -> Reply:
        if isinstance(request, WriteRaw):
            return self._write_raw(request, descriptor)
        from serverpy.ytdlp.page.selection import (
            select,
        )  # many servers never apply a selector

        return Selected(id=request.id, choices=select(request.selector, request.formats))

    def _write_raw(self, request: WriteRaw, descriptor: int) -> RawWritten | RawApart:
        with open(descriptor, "wb") as file:
            raw = self._raws.get(request.raw_id)
            if raw is None:
                raise RawGone("The process no longer has this extraction. Extract the page again.")
            data = raw_bytes(raw, request.track_id)
            if isinstance(data, bytes):
                file.write(data)
                return RawWritten(id=request.id)
            return RawApart(id=request.id, page=data)


class Downloads:
    """The requests to the download process. Each download runs in a thread of its own."""

    def __init__(self, options: WorkerOptions, outbox: Outbox, threads: Threads) -> None:
        # imported here, because the extraction process does not need yt-dlp's downloaders
        from serverpy.ytdlp.download import track

        self._options = options
        self._outbox = outbox
        self._threads = threads
        self._run = track.run

    def take(self, request: Request, inbox: Inbox) -> None:
        if not isinstance(request, StartDownload):
            raise ValueError(f"a download process received a request of the type {type(request).__name__}")
        pipe, raw = inbox.descriptor(), inbox.descriptor()
        try:
            if len(self._threads) >= self._options.limits.max_workers:
                raise Busy("All download threads are busy. Try again later.")
            self._threads.run(request.id, lambda ticket: self._download(request, pipe, raw, ticket))
        except Busy as error:
            os.close(pipe)
            os.close(raw)
            self._outbox.send(error_reply(request.id, error))

    def _download(self, request: StartDownload, pipe: int, raw: int, ticket: Ticket) -> DownloadEnd:
        """Run a download. `track.run` closes the pipe. If an error occurs before the call of `track.run`, this method
        closes the pipe."""
        try:
            with open(raw, "rb") as file:
                self._outbox.send(DownloadStarted(id=request.id))
                found = self._track(request, file, ticket)
        except BaseException:
            os.close(pipe)
            raise
        return DownloadEnd(id=request.id, bytes=self._run(found, pipe, ticket, self._options))

    def _track(self, request: StartDownload, file: BinaryIO, ticket: Ticket) -> crossing.RawTrack:
        if request.page is not None:
            return extract_again(request.page, self._options, ticket).track(request.track_id)
        file.seek(0)  # both processes share the file position, which the writing process has moved to the end
        return crossing.load(file.read())
