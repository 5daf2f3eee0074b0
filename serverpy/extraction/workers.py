"""The server's requests to its yt-dlp processes: extractions, applications of a format selector, and downloads.

                ┌─ pages ──────▶ extraction process: every page
    Workers ────┼─ alone ──────▶ extraction process: one page at a time, after its first process was lost
                └─ downloads ──▶ download process: every track that is downloaded by yt-dlp

Each pool keeps one process, and replaces a process that hangs (`pool.py`). A page that holds Python's interpreter lock
therefore delays no download. The processes of `alone` and `downloads` are started when they are needed. Each request
ends with the reply of a process or with a `ServerPYError`. Cancelling a request tells the process to stop it.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Literal, TypeVar

from serverpy.errors import (
    Busy,
    ConfigurationError,
    ExtractionFailed,
    ExtractionTimeout,
    InvalidParameter,
    TooLarge,
    UpstreamFailed,
)
from serverpy.extraction.admission import Admission, Applicant
from serverpy.extraction.descriptors import closing
from serverpy.extraction.messages import (
    MAX_RAW_BYTES,
    DownloadEnd,
    DownloadStarted,
    ErrorReply,
    Extracted,
    Format,
    Page,
    RawApart,
    RawGone,
    RawWritten,
    Ready,
    Reply,
    Selected,
    WorkerFull,
    WorkerLost,
    WorkerOptions,
    format_of,
    to_error,
)
from serverpy.extraction.pool import DEFAULT_LIMITS, SETTINGS_DO_NOT_WORK, WorkerPool, WorkersLimits
from serverpy.extraction.values import Media
from serverpy.extraction.worker import Call, Worker
from serverpy.memory.room import Room

log = logging.getLogger(__name__)

START_WAIT_SECONDS = 20.0
"""Minimum number of seconds for which a request waits for the start of a process. WAIT_SECONDS may be less, because it
bounds the time for which a request waits until other requests end."""
ANSWER_SECONDS = 10.0
"""Seconds within which a process must answer a request that takes some milliseconds. A process that does not answer in
time counts as frozen, and is replaced."""
ALONE_IDLE_SECONDS = 10.0
BEAT_SECONDS = 1.0
"""Seconds between two checks whether a process that extracts a page still answers."""
RAW_FACTOR = 4
"""Memory that yt-dlp's dictionary of a track takes in the download process, as a multiple of its serialized size: the
serialized bytes, and the objects that are made of them."""

R = TypeVar("R", bound=Reply)

WorkerStatus = Literal["starting", "running", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersState:
    """The state of the yt-dlp processes, for `/health`. `status` is that of the extraction process: `stopped` means
    that none runs, because the last one was idle or did not start; the next extraction then starts one. `pids` are the
    process IDs of the extraction processes, and begin with that of the process that takes new pages; `download_pids`
    are those of the download processes. `ready` is the `Ready` message of the last extraction process that started, or
    None. `reruns` counts extractions that were repeated because their process was lost, `raws_apart` downloads for
    which the download process had to extract the page, `refused` extractions that were refused because no place became
    free in time."""

    status: WorkerStatus = "stopped"
    pids: tuple[int, ...] = ()
    download_pids: tuple[int, ...] = ()
    extractions: int = 0
    downloads: int = 0
    waiting: int = 0
    restarts: int = 0
    reruns: int = 0
    raws_apart: int = 0
    refused: int = 0
    is_failing: bool = False
    """Whether the last attempt to start a worker has failed."""
    ready: Ready | None = None


class Download:
    """An embedded download in progress. Its owner must await `wait` to the end, or call `cancel`."""

    def __init__(self, pool: WorkerPool, worker: Worker, call: Call) -> None:
        self._pool = pool
        self._worker = worker
        self._call = call

    async def wait(self) -> int:
        """Wait until all bytes are in the pipe, and return the number of bytes. Raises a `ServerPYError` if the
        download fails. If the caller is cancelled, the download continues."""
        try:
            return _expect(await asyncio.shield(self._call.reply), DownloadEnd).bytes
        except WorkerLost as error:
            raise UpstreamFailed("The download process, which runs yt-dlp, ended unexpectedly. Try again.") from error

    async def cancel(self) -> None:
        """Stop the download. Returns when the worker's thread has released the pipe or, if it does not do so, after a
        grace period; the pool then replaces the worker. The download stops even if the caller is cancelled.
        Idempotent."""
        if not self._call.reply.done():
            await asyncio.wait([self._pool.stop_soon(self._worker, self._call)])


class Workers:
    """The requests to the yt-dlp processes, and the limit on simultaneous extractions. Belongs to one event loop."""

    def __init__(self, options: WorkerOptions, limits: WorkersLimits = DEFAULT_LIMITS) -> None:
        self.options = options
        self._admission = Admission(options.limits.max_extractions)
        self._frozen_seconds = limits.frozen
        self._pages = WorkerPool(options, limits, role="extract", is_kept=True)
        idle = ALONE_IDLE_SECONDS if limits.idle is None else min(limits.idle, ALONE_IDLE_SECONDS)
        self._alone = WorkerPool(options, replace(limits, idle=idle), role="extract")
        self._turn = asyncio.Lock()
        """The lock that an extraction holds while it runs in the process of `_alone`, one extraction at a time."""
        self._downloads = WorkerPool(options, limits, role="download")
        self._reruns = 0
        self._raws_apart = 0

    async def start(self) -> None:
        """Start the first extraction process. Raises `ConfigurationError` if it rejects its settings, and
        `ExtractionFailed` if it does not start. The call is optional: without it, the first request starts the
        process."""
        await self._pages.start()

    async def aclose(self) -> None:
        """Stop all processes and their child processes within a few seconds. Requests in progress fail. Idempotent."""
        await asyncio.gather(*(pool.aclose() for pool in (self._pages, self._alone, self._downloads)))

    # Methods for extractions

    async def extract(self, url: str, client: str = "") -> Media:
        """Extract the page `url` for the account `client`. Raises `Busy` if too many extractions are in progress for
        too long, `ExtractionTimeout` if the extraction takes longer than EXTRACT_TIMEOUT, and the error of the
        extraction if it fails. An extraction whose process was lost is repeated once, and EXTRACT_TIMEOUT begins anew.
        If the caller is cancelled, the process stops the extraction."""
        applicant = Applicant.of(client, url)
        await self._admission.enter(applicant, self.options.timeouts.wait)
        try:
            try:
                return await self._extract(self._pages, url, self._replace)
            except (WorkerLost, WorkerFull):
                self._reruns += 1
            return await self._extract_alone(url)
        except TimeoutError:
            raise ExtractionTimeout(
                "The extraction of this page took longer than this server allows (EXTRACT_TIMEOUT). Try again later."
            ) from None
        finally:
            self._admission.leave(applicant)

    async def _started(self, pool: WorkerPool) -> Worker:
        try:
            async with asyncio.timeout(max(self.options.timeouts.wait, START_WAIT_SECONDS)):
                return await pool.get()
        except TimeoutError:
            raise Busy("The process that runs yt-dlp is still starting. Try again later.") from None

    async def _extract(self, pool: WorkerPool, url: str, on_frozen: Callable[[Worker], None]) -> Media:
        """Extract the page in a process of `pool`. Calls `on_frozen` once if the process does not answer. Raises
        `TimeoutError` after EXTRACT_TIMEOUT, `WorkerLost` if the process ends, and `WorkerFull` if its memory is full;
        the process is then replaced, and every other extraction in it raises `WorkerLost`."""
        with pool.need():
            worker = await self._started(pool)
            call = worker.extract(url)
            try:
                async with asyncio.timeout(self.options.timeouts.extract):
                    await self._listen(worker, call, on_frozen)
                    return _expect(await asyncio.shield(call.reply), Extracted).media
            except WorkerFull:
                log.warning("Worker process %s has reached its memory limit and is replaced", worker.pid)
                pool.retire(worker)
                worker.kill()
                # wait for the other extractions to fail, so that this page, which may have filled the memory, is
                # repeated last
                await worker.gone.wait()
                raise
            finally:
                if not call.reply.done():
                    pool.stop_soon(worker, call)

    async def _listen(self, worker: Worker, call: Call, on_frozen: Callable[[Worker], None]) -> None:
        """Wait for the reply to `call`. If `worker` does not answer a check in the meantime, call `on_frozen` and
        return without the reply."""
        while not call.reply.done():
            await asyncio.wait([call.reply], timeout=BEAT_SECONDS)
            if not call.reply.done() and not await worker.answers(self._frozen_seconds):
                on_frozen(worker)
                return

    def _replace(self, worker: Worker) -> None:
        """Replace the process of `_pages`, because one of its pages holds the interpreter lock, or a signal has stopped
        the process. Every extraction in that process is then repeated in a process in which no other extraction runs
        (`_extract_alone`)."""
        log.warning("The worker process %s does not answer and is replaced; its pages are repeated", worker.pid)
        self._pages.replace(worker)

    async def _extract_alone(self, url: str) -> Media:
        """Repeat the extraction of a page whose process was lost, in a process in which no other extraction runs. If
        this process does not answer, either, it keeps only this page until EXTRACT_TIMEOUT, and the next page gets
        another process. Raises `TimeoutError` if the repetition cannot begin within EXTRACT_TIMEOUT, and `TooLarge` if
        this process reaches its memory limit, too."""
        async with asyncio.timeout(self.options.timeouts.extract):
            await self._turn.acquire()
        has_turn = True

        def pass_turn(worker: Worker) -> None:
            nonlocal has_turn
            log.info(
                "The worker process %s does not answer while it extracts one page; further pages get another process",
                worker.pid,
            )
            self._alone.retire(worker)
            has_turn = False
            self._turn.release()

        try:
            return await self._extract(self._alone, url, pass_turn)
        except WorkerFull:
            raise TooLarge("The extraction of this page needs more memory than the server allows.") from None
        except WorkerLost:
            raise ExtractionFailed("The yt-dlp process ended unexpectedly while it extracted this page.") from None
        finally:
            if has_turn:
                self._turn.release()

    # Methods for format selectors

    async def select(self, media: Media, selector: str, kinds: Sequence[int] = ()) -> tuple[tuple[str, ...], ...]:
        """Return the choices of yt-dlp's `selector` among the tracks of `media`, each as a tuple of track ids, with
        several ids for a merge. The first choice is that of yt-dlp; the next ones are what yt-dlp would choose next,
        one choice of each kind. `kinds` are the kinds of the tracks; by default all tracks are of one kind. Raises
        `InvalidParameter` if the selector is invalid, and `FormatNotFound` if no track matches the selector."""
        with_url = "url" in selector
        formats = tuple(
            format_of(track, kind, with_url=with_url)
            for track, kind in zip(media.tracks, chain(kinds, repeat(0)), strict=False)
        )
        try:
            return await self._select(formats, selector)
        except (TimeoutError, WorkerLost):
            log.info("A worker process did not apply a format selector; the server retries in another process")
        try:
            return await self._select(formats, selector)
        except (TimeoutError, WorkerLost):
            raise InvalidParameter("The format selector takes too long. Use a simpler selector.") from None

    async def _select(self, formats: tuple[Format, ...], selector: str) -> tuple[tuple[str, ...], ...]:
        with self._pages.need():
            worker = await self._pages.get()
            async with _answering(self._pages, worker):
                return _expect(await worker.select(selector, formats), Selected).choices

    # Methods for downloads

    async def start_downloads(self) -> None:
        """Start the download process if it does not run. A stream calls this method before it opens a track, so that
        the time of the start does not count as time in which the media server sends nothing. Raises `Busy` if the start
        takes too long."""
        await self._started(self._downloads)

    async def download(self, raw_id: str, track_id: str, write_fd: int, room: Room | None = None) -> Download:
        """Have yt-dlp write a track of the extraction `raw_id` into the pipe `write_fd`. This method owns `write_fd`
        and always closes it. It charges the memory of yt-dlp's dictionary to `room`, and raises `Busy` if too little
        memory is free. Raises `RawGone` if no process can hand over the dictionary in time; the caller must then
        extract the page again, with `fresh=True`."""
        with closing(write_fd) as pipe, closing(_memory_file()) as raw, self._downloads.need():
            page = await self._write_raw(raw_id, track_id, raw.number)
            _charge(raw.number, room)
            worker = await self._downloads.get()
            call = worker.download(track_id, pipe.release(), raw.release(), page)
            call.reply.add_done_callback(lambda _: self._downloads.note_need())
            try:
                async with _answering(self._downloads, worker):
                    _expect(await asyncio.shield(call.started), DownloadStarted)
            except (TimeoutError, WorkerLost) as error:
                raise RawGone("The download process does not answer.") from error
            finally:
                if not call.started.done():
                    self._downloads.stop_soon(worker, call)
            return Download(self._downloads, worker, call)

    async def _write_raw(self, raw_id: str, track_id: str, file: int) -> Page | None:
        """Have the process of the extraction `raw_id` write yt-dlp's dictionary of the track into `file`. Returns None
        if the process has written it, or the page that the download process must extract if the dictionary cannot be
        written. Raises `RawGone` if the process has ended or does not answer."""
        for pool in (self._pages, self._alone):
            worker = pool.holder_of(raw_id)
            if worker is not None:
                break
        else:
            raise RawGone("The process that has extracted this page no longer runs.")
        with pool.need():
            try:
                async with _answering(pool, worker):
                    reply = await asyncio.shield(worker.write_raw(raw_id, track_id, os.dup(file)).reply)
            except TimeoutError as error:
                raise RawGone("The extraction process does not answer.") from error
        if isinstance(reply, RawApart):
            self._raws_apart += 1
            return reply.page
        try:
            _expect(reply, RawWritten)
        except WorkerLost as error:
            raise RawGone("The extraction process ended.") from error
        return None

    def state(self) -> WorkersState:
        pages, downloads = self._pages, self._downloads
        extracting = [*pages.workers, *self._alone.workers]
        return WorkersState(
            status="running" if pages.current else "starting" if pages.is_starting else "stopped",
            pids=tuple(worker.pid for worker in extracting if worker.pid is not None),
            download_pids=tuple(worker.pid for worker in downloads.workers if worker.pid is not None),
            extractions=self._admission.taken,
            downloads=sum(len(worker.downloads) for worker in downloads.workers),
            waiting=self._admission.waiting,
            restarts=sum(pool.restarts for pool in (pages, self._alone, downloads)),
            reruns=self._reruns,
            raws_apart=self._raws_apart,
            refused=self._admission.refused,
            is_failing=pages.is_failing,
            ready=pages.ready,
        )


@asynccontextmanager
async def _answering(pool: WorkerPool, worker: Worker) -> AsyncIterator[None]:
    """Limit the block, which waits for an answer of `worker`, to ANSWER_SECONDS. If no answer arrives in that time,
    replace the worker as frozen, and raise `TimeoutError`. The extractions in the worker are then repeated. Its
    downloads continue, and the stream that reads a download ends it if no more bytes arrive."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            yield
    except TimeoutError:
        log.warning("The worker process %s does not answer and is replaced", worker.pid)
        pool.retire(worker)
        if worker.role == "extract":
            worker.kill()
        raise


def _memory_file() -> int:
    try:
        return os.memfd_create("serverpy-raw", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise Busy("The server has no resources for another download. Try again later.") from error


def _charge(file: int, room: Room | None) -> None:
    """Charge the memory that the dictionary in `file` will take in the download process to `room`, and seal the file
    against changes. Raises `TooLarge` if the file has more than MAX_RAW_BYTES, and `Busy` if too little memory is
    free."""
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE)
    size = os.fstat(file).st_size
    if size > MAX_RAW_BYTES:
        raise TooLarge("The page has too much data for a download by yt-dlp.")
    if room is not None and not room.try_hold(size * RAW_FACTOR):
        raise Busy("Too little memory is free for this download. Try again later.")


def _expect(reply: Reply, kind: type[R]) -> R:
    """Return `reply` if its type is `kind`. Raises the worker's error if `reply` is an `ErrorReply`, and
    `ExtractionFailed` if its type is any other."""
    if isinstance(reply, ErrorReply):
        error = to_error(reply)
        if isinstance(error, ConfigurationError):
            log.error("The worker process rejected a setting: %s", error)
            raise ExtractionFailed(SETTINGS_DO_NOT_WORK) from error
        raise error
    if not isinstance(reply, kind):
        raise ExtractionFailed("The extraction process sent an unexpected reply type.")
    return reply
