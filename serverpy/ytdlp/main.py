"""The worker process: `python -m serverpy.ytdlp.main <fd>`, started by `extraction/worker.py` alone.

`fd` is its end of a socketpair. The main thread reads requests from it and hands them on: extractions to a fixed number
of threads, each download to a thread of its own, selectors to one more. Every request gets its answer, whatever comes
of it. When the other end closes, the server has gone or wants us gone: the process ends at once, and its children and
descriptors with it. No thread is joined: one may hang in a regular expression, which is what a process is for.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import queue
import secrets
import shutil
import socket
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from serverpy.errors import Busy, ConfigurationError, ExtractionFailed, ServerPYError
from serverpy.extraction import messages
from serverpy.extraction.messages import (
    Cancel,
    Configure,
    Download,
    DownloadEnd,
    DownloadStarted,
    Extract,
    Extracted,
    Failed,
    Frames,
    RawGone,
    Ready,
    Reply,
    Request,
    Select,
    Selected,
    Stats,
    StatsRequest,
    WorkerOptions,
)
from serverpy.memory.heap import give_memory_back, settle
from serverpy.ytdlp import limits
from serverpy.ytdlp.session import impersonation, strip_tests

# What yt-dlp takes as "not installed": tags, browsers' cookie stores, file attributes, web sockets (which cannot go
# through the egress), and requests' guess at charsets, which yt-dlp makes itself. 7 MB and 100 modules. And cffi with
# its parser of C (1.3 MB), without which Cryptodome calls its library by ctypes, as fast; curl_cffi needs none of it.
UNUSED = ("mutagen", "sqlite3", "secretstorage", "xattr", "websockets", "charset_normalizer", "chardet", "cffi")
_RECEIVE_BYTES = 64 * 1024
_MAX_DESCRIPTORS = 16

log = logging.getLogger("serverpy.worker")

R = TypeVar("R", bound=Reply)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="worker: %(levelname)s %(message)s")
    sock = socket.socket(fileno=int(sys.argv[1]))
    for name in UNUSED:
        sys.modules[name] = None  # type: ignore[assignment]  # documented: the import fails
    impersonation.hide()
    strip_tests.install()
    warnings.filterwarnings("ignore", message="Unable to find acceptable character detection", module="requests")
    code = 1
    try:
        code = serve(sock)
    finally:
        logging.shutdown()
        os._exit(code)  # threads may hang; nothing here needs an orderly end


def serve(sock: socket.socket) -> int:
    """Answer requests until the other end closes; the exit code. Raises what no server of ours would cause."""
    inbox = Inbox(sock)
    first = next(inbox, None)
    if not isinstance(first, Configure):
        return 1 if first else 0
    outbox = Outbox(sock)
    limits.set_data_limit(first.options.limits)
    try:
        desk = Desk(first.options, Path(first.directory), outbox)
    except ConfigurationError as error:
        outbox.send(messages.failed(0, error))
        return 1
    settle()
    outbox.send(desk.ready())
    try:
        for request in inbox:
            desk.take(request, inbox)
    finally:
        desk.close()
        shutil.rmtree(first.directory, ignore_errors=True)
    return 0


class Inbox(Iterator[Request]):
    """The requests, and the descriptors that came with them, in order. Ends where the stream ends."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._frames = Frames()
        self._requests: deque[Request] = deque()
        self._descriptors: deque[int] = deque()

    def __next__(self) -> Request:
        while not self._requests:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._sock, _RECEIVE_BYTES, _MAX_DESCRIPTORS)
            except ConnectionError:
                raise StopIteration from None
            self._descriptors.extend(descriptors)
            if not data:
                raise StopIteration
            self._requests.extend(messages.decode_request(body) for body in self._frames.feed(data))
        return self._requests.popleft()

    def descriptor(self) -> int:
        """The descriptor of the `Download` that `next` has just given; the caller closes it."""
        descriptor = self._descriptors.popleft()
        os.set_inheritable(descriptor, False)
        return descriptor


class Outbox:
    """Answers from any thread. A server that has gone is noticed by the inbox, not here."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def send(self, reply: Reply) -> None:
        """Some answer leaves in any case: one that cannot be encoded becomes an error."""
        try:
            frame = messages.encode(reply)
        except Exception:
            log.exception("The answer to request %d cannot be sent", _id_of(reply))
            frame = messages.encode(messages.failed(_id_of(reply), ExtractionFailed("This page could not be read.")))
        with self._lock, contextlib.suppress(ConnectionError):
            self._sock.sendall(frame)


def _id_of(reply: Reply) -> int:
    return 0 if isinstance(reply, Ready) else reply.id


class Desk:
    """Hands requests to threads and keeps the tickets of those under way. `take` and `close` belong to one thread."""

    def __init__(self, options: WorkerOptions, directory: Path, outbox: Outbox) -> None:
        # Late, after `UNUSED` is set: these bring in yt-dlp.
        from serverpy.net.egress import Egress, EgressLimits
        from serverpy.net.guard import Guard
        from serverpy.ytdlp.children import Ticket
        from serverpy.ytdlp.page.raw_store import RawStore
        from serverpy.ytdlp.prepare import prepare
        from serverpy.ytdlp.session.proxies import Outlets

        guard = Guard.of(options.targets)

        def make_egress() -> Egress:
            return Egress(guard, options.network, EgressLimits.of(options.timeouts))

        make_egress()  # raises here what PROXY and SOURCE_ADDRESS have wrong
        self._options = options
        self._outbox = outbox
        self._new_ticket = Ticket
        self._outlets = Outlets(make_egress)
        self._outlets.start()
        self._process = prepare(options, self._outlets, directory)
        self._raws = RawStore()
        self._tag = secrets.token_hex(6)
        self._lock = threading.Lock()
        self._tickets: dict[int, Ticket] = {}
        self._extracting = 0
        self._downloading = 0
        self._pages: queue.SimpleQueue[Extract] = queue.SimpleQueue()
        self._questions: queue.SimpleQueue[Select | StatsRequest] = queue.SimpleQueue()
        for number in range(options.limits.extract_workers):
            _thread(f"extract-{number}", self._extract_for_ever)
        _thread("answer", self._answer_for_ever)

    def ready(self) -> Ready:
        from serverpy.ytdlp.prepare import describe

        return describe()

    def take(self, request: Request, inbox: Inbox) -> None:
        """Hand `request` on; never waits for its end."""
        match request:
            case Extract():
                self._open(request.id)
                self._pages.put(request)
            case Download():
                self._start_download(request, inbox.descriptor())
            case Select() | StatsRequest():
                self._questions.put(request)
            case Cancel():
                self._cancel(request.id)
            case Configure():
                raise ValueError("configured twice")

    def close(self) -> None:
        """Tell everything to stop, end the children, and wait for nothing."""
        with self._lock:
            tickets = list(self._tickets.values())
        for ticket in tickets:
            ticket.set()
        self._process.gate.close()
        self._outlets.close(seconds=0.5)

    def _open(self, id_: int) -> None:
        with self._lock:
            self._tickets[id_] = self._new_ticket()

    def _cancel(self, id_: int) -> None:
        with self._lock:
            ticket = self._tickets.get(id_)
        if ticket is not None:
            ticket.set()

    # Extractions

    def _extract_for_ever(self) -> None:
        while True:
            request = self._pages.get()
            with self._lock:
                self._extracting += 1
            reply = self._reply_of(request.id, lambda request=request: self._extract(request))  # type: ignore[misc]
            with self._lock:
                self._extracting -= 1
                del self._tickets[request.id]
            self._outbox.send(reply)

    def _extract(self, request: Extract) -> Reply:
        from serverpy.ytdlp.page.extract import extract

        raw_id = f"{self._tag}-{request.id}"
        media, raw = extract(request.url, self._options, self._tickets[request.id], raw_id)
        self._raws.put(raw_id, raw)
        return Extracted(id=request.id, media=media)

    def _reply_of(self, id_: int, work: Callable[[], R]) -> R | Failed:
        from serverpy.ytdlp.children import Stopped

        try:
            return work()
        except ServerPYError as error:
            return messages.failed(id_, error)
        except Stopped:
            return messages.failed(id_, ExtractionFailed("The request was cancelled."))
        except Exception:
            log.exception("Request %d failed in a way that nobody foresaw", id_)
            return messages.failed(id_, ExtractionFailed("This page could not be read."))

    # Downloads

    def _start_download(self, request: Download, descriptor: int) -> None:
        with self._lock:
            if free := self._downloading < self._options.limits.max_workers:
                self._downloading += 1
                self._tickets[request.id] = self._new_ticket()
        if not free:
            os.close(descriptor)
            self._outbox.send(messages.failed(request.id, Busy("Every download thread is taken.")))
            return
        try:
            _thread(f"download-{request.id}", lambda: self._download_once(request, descriptor))
        except RuntimeError:  # there is no room for its stack
            os.close(descriptor)
            self._download_over(messages.failed(request.id, Busy("No more downloads can be started.")))

    def _download_once(self, request: Download, descriptor: int) -> None:
        self._download_over(self._reply_of(request.id, lambda: self._download(request, descriptor)))

    def _download_over(self, reply: DownloadEnd | Failed) -> None:
        with self._lock:
            self._downloading -= 1
            del self._tickets[reply.id]
            last = not self._downloading
        self._outbox.send(reply)
        if last:
            gc.collect()  # sessions are cycles: those of 100 downloads are 20 MB
            give_memory_back()

    def _download(self, request: Download, descriptor: int) -> DownloadEnd:
        """`download.run` closes the descriptor, once it is called."""
        try:
            from serverpy.ytdlp.download import track

            raw = self._raws.get(request.raw_id)
            if raw is None:
                raise RawGone("This extraction is no longer known.")
            self._outbox.send(DownloadStarted(id=request.id))
        except BaseException:
            os.close(descriptor)
            raise
        ticket = self._tickets[request.id]
        count = track.run(raw, request.item, request.track_id, descriptor, ticket, self._options)
        return DownloadEnd(id=request.id, bytes=count)

    # Questions

    def _answer_for_ever(self) -> None:
        while True:
            request = self._questions.get()
            self._outbox.send(self._reply_of(request.id, lambda request=request: self._answer(request)))  # type: ignore[misc]

    def _answer(self, request: Select | StatsRequest) -> Reply:
        if isinstance(request, StatsRequest):
            return self._stats(request.id)
        from serverpy.ytdlp.page.selection import select

        return Selected(id=request.id, choices=select(request.selector, request.formats))

    def _stats(self, id_: int) -> Stats:
        return Stats(
            id=id_,
            children=len(self._process.gate),
            extractions=self._extracting,
            downloads=self._downloading,
            raws=len(self._raws),
            raw_bytes=self._raws.bytes,
            threads=threading.active_count(),
        )


def _thread(name: str, target: Callable[[], None]) -> None:
    """Daemon: the end of the process waits for none of them. One that ends by an exception takes the process with it:
    its requests would wait for ever, while those of a worker that dies are answered at once."""

    def run() -> None:
        try:
            target()
        except BaseException:
            with contextlib.suppress(BaseException):  # there may be no memory for the words
                log.critical("Thread %s has failed, and the worker ends", name, exc_info=True)
            os._exit(1)

    threading.Thread(target=run, name=name, daemon=True).start()


if __name__ == "__main__":
    main()
