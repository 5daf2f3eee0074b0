"""`subprocess`: one child for each request, the stock command line of yt-dlp, its standard output through a pipe.

For isolation, and as the yardstick of the memory analysis: a child costs about 55 MB and 2–4 s of CPU. It extracts for
itself, takes what can be had in one file, and does not heal: yt-dlp resumes into standard output by sending everything
again, so any cut is its end, and ours.

What stands between the client and the child: the address and the selector are single arguments that nothing can turn
into options; the environment is made anew, with the filtering proxy in it (in the arguments, everybody on the machine
could read its token) and nothing else of the server's; no configuration, no cache, no program on the PATH; and a
private directory, gone with the child, for what yt-dlp wants as files: cookies, and one fragment at a time. It lies in
memory (`IN_MEMORY`) wherever the machine has such a place, as Linux does.

The end, in this order: stop reading, close the pipe, SIGTERM to the child's group, a second later SIGKILL, wait for the
child, stop reading its messages, remove its directory.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi
import msgspec

import serverpy
from serverpy.body import SESSION_BYTES, UNBOUNDED, Head, Source, Unlosable
from serverpy.containers import SNIFF_BYTES, identify
from serverpy.directories import PrivateDirectory, sweep
from serverpy.errors import (
    Busy,
    ExtractionTimeout,
    InvalidParameter,
    InvalidUrl,
    ItemNotFound,
    MediaNotFound,
    ServerPYError,
    TooLarge,
    UnsupportedConversion,
    UpstreamFailed,
)
from serverpy.extraction.sites import Sites
from serverpy.extraction.values import Track
from serverpy.memory.room import Lender
from serverpy.options import Identity, Network, Timeouts
from serverpy.plan import Capability, Plan
from serverpy.streaming.child.errors import media_error, page_error
from serverpy.streaming.first_bytes import first_chunks
from serverpy.streaming.os_pipe import HandOver, PipeReader, open_pipe
from serverpy.streaming.slots import Slot, Slots
from serverpy.tasks import Closing, cancel, spawn

log = logging.getLogger(__name__)

DEFAULT_FORMAT = "b/bv*+ba/bv*/ba/all"
"""Picture and sound that are apart are asked for together, which is refused: neither alone is what was meant. `all`,
best first, is what is left for pictures: they have neither codec."""
STOCK, LIMITED = "yt_dlp", "serverpy.ytdlp.commandline"
"""Modules to run: yt-dlp's command line, and the same without the extractors that may not run."""
ENOUGH = 101
"""What yt-dlp exits with once it has downloaded as many as it was told to."""
MESSAGE_BYTES = 8 * 1024
"""What is kept of a child's messages, its last ones; a longer line is cut."""
MAX_FOUND_BYTES = 64 * 1024
IN_MEMORY = "/dev/shm"
DIRECTORY_PREFIX = "serverpy-child-"
FILE_BYTES = 256 * 1024 * 1024
"""The largest file (a fragment) that a child may write into its directory."""
TERMINATE_SECONDS = 1.0
EXIT_SECONDS = 10.0
"""How long a child may live after its last byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOptions:
    """The settings that a child gets. `proxy_url` is asked at each start: the filtering proxy, with its token. Of
    `network` a child gets the authorities alone."""

    proxy_url: Callable[[], str]
    timeouts: Timeouts = Timeouts()
    network: Network = Network()
    sites: Sites = Sites()
    identity: Identity = Identity()
    max_duration: float | None = None
    plugin_paths: tuple[str, ...] = ()


class Subprocess:
    """At most `max_children` at once; one that finds no place waits `timeouts.wait`, then `Busy`."""

    def __init__(self, options: ChildOptions, hand_over: HandOver, *, max_children: int) -> None:
        self._options = options
        self._hand_over = hand_over
        self._swept = False
        self.slots = Slots(max_children, options.timeouts.wait, "children of the subprocess method")

    @property
    def stream_bytes(self) -> int:
        in_server = SESSION_BYTES + 2 * self._hand_over.chunk_bytes
        return self._hand_over.pipe_bytes + in_server + 2 * MESSAGE_BYTES + MAX_FOUND_BYTES

    @property
    def capability(self) -> Capability:
        return Capability(
            opener="subprocess",
            method="subprocess",
            stream_bytes=self.stream_bytes,
            carries=self.carries,
            bytes_for=lambda tracks: self.stream_bytes,
            automatic=False,
            extracts=True,
        )

    def carries(self, track: Track) -> bool:
        return not track.is_live and not track.has_drm and track.protocol in PROTOCOLS

    async def open(self, plan: Plan, source: Source, reservation: Lender) -> SubprocessBody:
        if not source.url.lower().startswith(("http://", "https://")):
            raise InvalidUrl("The address is not an http(s) URL.")
        if "\0" in f"{source.url}{source.format}":
            raise InvalidParameter("No parameter may contain a NUL.")
        slot = await self.slots.take()
        began = time.monotonic()
        try:
            child = self._start(source)
        except BaseException:
            slot.release()
            raise
        body = SubprocessBody(child, slot)
        try:
            await body.begin(source, self._options, began)
        except BaseException:
            await body.aclose()
            raise
        return body

    def _start(self, source: Source) -> _Child:
        try:
            if not self._swept:
                sweep(DIRECTORY_PREFIX, _parent())
                self._swept = True
            return _Child(self._options, source, self._hand_over)
        except OSError as error:
            log.error("a yt-dlp child cannot be started: %s", error)
            raise _not_started(error) from error


PROTOCOLS = frozenset(("http", "https", "m3u8", "m3u8_native", "http_dash_segments", "ism", "f4m"))
"""What the stock command line streams to its standard output by itself, in one go."""


_FULL = frozenset((errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT))


def _not_started(error: OSError) -> ServerPYError:
    if error.errno in _FULL:
        return Busy("There is no room for another child process.")
    return UpstreamFailed("Yt-dlp could not be started.")


def _parent() -> str | None:
    """Where the children's directories lie; None for the system's place."""
    return IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None


class _Child:
    """One child with its pipes and its directory. `aclose` ends all of it."""

    def __init__(self, options: ChildOptions, source: Source, hand_over: HandOver) -> None:
        """Raises OSError, and then leaves nothing behind."""
        marker = secrets.token_hex(8)
        with ExitStack() as failed, ExitStack() as theirs:
            reading_end, out = open_pipe(hand_over.pipe_bytes)
            theirs.callback(os.close, out)
            self.out = PipeReader(reading_end, hand_over.chunk_bytes)
            failed.callback(self.out.close)
            reading_end, err = open_pipe(MESSAGE_BYTES)
            theirs.callback(os.close, err)
            self._err = PipeReader(reading_end, MESSAGE_BYTES)
            failed.callback(self._err.close)
            self._directory = PrivateDirectory(DIRECTORY_PREFIX, _parent())
            failed.callback(self._directory.remove)
            self._process = _start(options, source, marker, self._directory.path, out, err)
            failed.callback(_kill, self._process)
            _limit(self._process)
            self._pidfd = os.pidfd_open(self._process.pid)
            failed.pop_all()
        self.messages = _Messages(marker)
        self._listening = spawn(self._listen(), name="messages of a yt-dlp child")
        self._exited: asyncio.Task[int] = spawn(self._wait(), name="exit of a yt-dlp child")
        self.aclose = Closing(self._close, "close a yt-dlp child")

    async def found(self) -> dict[str, Any] | None:
        """What the child says that it is about to stream; None if it ended without."""
        waiting = spawn(self.messages.found.wait(), name="what a yt-dlp child found")
        try:
            await asyncio.wait((waiting, self._listening), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel(waiting)
        return self.messages.value

    async def exit_code(self) -> int:
        """Raises `TimeoutError` if the child does not end after its last byte."""
        async with asyncio.timeout(EXIT_SECONDS):
            code = await asyncio.shield(self._exited)
            # Its last message is its reason.
            await asyncio.wait([self._listening])
        return code

    async def _listen(self) -> None:
        while data := await self._err.read():
            self.messages.feed(data)

    async def _wait(self) -> int:
        """The child's end; it is reaped here, by the one task that does."""
        loop = asyncio.get_running_loop()
        exited = asyncio.Event()
        loop.add_reader(self._pidfd, exited.set)
        try:
            await exited.wait()
        finally:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        # Until it is waited for, its number and its group's stay taken: what it started is ended now.
        self._signal(signal.SIGKILL)
        return self._process.wait()

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            log.debug("the child's group has ended already")

    async def _close(self) -> None:
        self.out.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self._exited.done():
                self._signal(number)
                await asyncio.wait([self._exited], timeout=TERMINATE_SECONDS)
        if not self._exited.done():
            log.error("a yt-dlp child does not end: process %s", self._process.pid)
        await cancel(self._listening)
        self._err.close()
        self._directory.remove()


class _Messages:
    """A child's standard error: the last of it, and in it the one line that begins with our marker."""

    def __init__(self, marker: str) -> None:
        self._marker = marker.encode()
        self._line = b""
        self._tail = b""
        self.found = asyncio.Event()
        self.value: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        return (self._tail + self._line[-MESSAGE_BYTES:]).decode("utf-8", "replace")

    def feed(self, data: bytes) -> None:
        *lines, rest = (self._line + data).split(b"\n")
        for line in lines:
            self._take(line)
        self._line = rest[-MAX_FOUND_BYTES:]

    def _take(self, line: bytes) -> None:
        if line.startswith(self._marker) and not self.found.is_set():
            try:
                value = json.loads(line[len(self._marker) :])
            except ValueError:
                log.warning("a yt-dlp child describes what it found in a way that is not JSON")
                value = None
            self.value = value if isinstance(value, dict) else {}
            self.found.set()
        else:
            self._tail = (self._tail + line + b"\n")[-MESSAGE_BYTES:]


class SubprocessBody(Unlosable):
    """A child's output. Holds its place among the children until it is closed."""

    head: Head

    def __init__(self, child: _Child, slot: Slot) -> None:
        self._child = child
        self._slot = slot
        self._first: list[bytes] = []
        self._ended = False
        self.aclose = Closing(self._close, "close subprocess body")

    async def begin(self, source: Source, options: ChildOptions, began: float) -> None:
        """Until the first bytes are in hand. Raises what the child says is wrong, or `ExtractionTimeout`."""
        try:
            async with asyncio.timeout(options.timeouts.extract):
                found = await self._child.found()
                if found is None:
                    await self._fail(source)
                    return
                _refuse(found, source, options.max_duration)
                self._first = await first_chunks(self._read, SNIFF_BYTES)
        except TimeoutError:
            raise ExtractionTimeout("Yt-dlp gave no byte in time.") from None
        container = identify(b"".join(self._first), declared_ext=_text(found.get("ext")))
        self.head = Head(
            content_type=container.content_type,
            ext=container.ext,
            estimate=_count(found.get("filesize")) or _count(found.get("filesize_approx")),
            title=_text(found.get("title")),
            timings={"first-byte": time.monotonic() - began},
        )

    async def _fail(self, source: Source) -> None:
        """The child ended before it had chosen."""
        if await self._child.exit_code() != 0:
            raise page_error(self._child.messages.text)
        if source.item is not None:
            raise ItemNotFound(f"The page has no item {source.item}.")
        raise MediaNotFound("No media was found on this page.")

    async def read(self, most: int = UNBOUNDED) -> bytes:
        if self._first:
            return self._first.pop(0)
        if self._ended:
            return b""
        return await self._read(most)

    async def _read(self, most: int = UNBOUNDED) -> bytes:
        data = await self._child.out.read(most)
        if not data:
            try:
                code = await self._child.exit_code()
            except TimeoutError:
                raise UpstreamFailed("Yt-dlp did not end after its last byte.") from None
            if code != ENOUGH:
                raise media_error(self._child.messages.text)
            self._ended = True
        return data

    async def _close(self) -> None:
        self._first.clear()
        try:
            await self._child.aclose()
        finally:
            self._slot.release()


def _refuse(found: Mapping[str, Any], source: Source, max_duration: float | None) -> None:
    if found.get("is_live"):
        raise UnsupportedConversion("A live stream cannot be downloaded by this method.")
    if found.get("requested_formats"):
        raise UnsupportedConversion("This method cannot merge formats: choose one that has picture and sound.")
    if source.item not in (None, 1) and found.get("playlist_index") is None:
        raise ItemNotFound("The page has one item only.")
    duration = found.get("duration")
    if max_duration is not None and isinstance(duration, int | float) and duration > max_duration:
        raise TooLarge(f"The media is longer than the {max_duration:g} seconds that this server allows.")


def _text(value: object) -> str | None:
    """A piece of a text that is not there is an empty list to yt-dlp."""
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and value > 0 else None


# The start


def _start(
    options: ChildOptions, source: Source, marker: str, directory: Path, out: int, err: int
) -> subprocess.Popen[bytes]:
    # `Popen` itself rather than the loop's own: it reaps whatever loop or thread this runs in. It returns in 1–2 ms.
    return subprocess.Popen(
        arguments(options, source, marker, directory),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        cwd=_empty(directory, "work"),
        env=environment(options, directory),
        start_new_session=True,
    )


def _limit(process: subprocess.Popen[bytes]) -> None:
    for limit, value in ((resource.RLIMIT_FSIZE, FILE_BYTES), (resource.RLIMIT_CORE, 0)):
        resource.prlimit(process.pid, limit, (value, value))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Of a child that nobody has listened to yet; nobody else waits for it either."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def arguments(options: ChildOptions, source: Source, marker: str, directory: Path) -> list[str]:
    """The child's argument vector. What comes from the client is the value behind `--format=`, and the last one."""
    cookies_file = options.identity.cookies_file
    return [
        sys.executable,
        "-m",
        *_program(options.sites),
        "--ignore-config",
        "--no-update",
        "--no-cache-dir",
        "--quiet",
        "--no-warnings",
        "--no-progress",
        "--color=never",
        *(["--no-playlist"] if source.item is None else []),
        f"--playlist-items={source.item or 1}",
        # A selector may ask for several files (`b,w`): behind each other they would be none.
        "--max-downloads=1",
        "--abort-on-error",
        "--abort-on-unavailable-fragments",
        # yt-dlp would write the beginning a second time wherever a server does not resume.
        "--retries=0",
        "--fragment-retries=0",
        f"--socket-timeout={min(20.0, options.timeouts.stall)}",
        "--fixup=never",
        "--no-part",
        "--no-mtime",
        "--downloader=native",
        *_impersonation(options.identity),
        *([f"--cookies={_copy(cookies_file, directory)}"] if cookies_file else []),
        *(["--compat-options=no-certifi"] if options.network.ca_file else []),
        "--output-na-placeholder=null",
        f"--print=before_dl:{marker}{FOUND}",
        f"--format={source.format or DEFAULT_FORMAT}",
        "--output=-",
        "--",
        source.url,
    ]


# A page's texts may be of any length; the line that tells them has to fit into MAX_FOUND_BYTES.
FOUND = (
    '{"title":%(title.:300)j,"ext":%(ext.:20)j,"duration":%(duration)j,"is_live":%(is_live)j,'
    '"filesize":%(filesize)j,"filesize_approx":%(filesize_approx)j,"playlist_index":%(playlist_index)j,'
    '"requested_formats":%(requested_formats.0.format_id.:20)j}'
)


def _program(sites: Sites) -> list[str]:
    return [STOCK] if sites.unlimited else [LIMITED, msgspec.json.encode(sites).decode()]


def _impersonation(identity: Identity) -> list[str]:
    # curl_cffi queues a body without a bound: in pieces, the queue has one.
    return [f"--impersonate={identity.impersonate}", "--http-chunk-size=1M"] if identity.impersonate else []


def environment(options: ChildOptions, directory: Path) -> dict[str, str]:
    """All of the child's environment. No NO_PROXY, and a PATH where there is nothing: ffmpeg would fetch by itself."""
    proxy = options.proxy_url()
    empty = _empty(directory, "empty")
    values = {
        "HOME": empty,
        "LC_ALL": "C.UTF-8",
        "PATH": empty,
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": _empty(directory, "tmp"),
        **{f"XDG_{name}_HOME": empty for name in ("CACHE", "CONFIG", "DATA", "STATE")},
        **{f"{scheme}_proxy": proxy for scheme in ("http", "https", "ftp", "all")},
    }
    paths = options.plugin_paths
    if not paths:
        values["YTDLP_NO_PLUGINS"] = "1"
    if not options.sites.unlimited:
        paths = (*paths, str(Path(serverpy.__file__).parent.parent))
    if paths:
        values["PYTHONPATH"] = os.pathsep.join(paths)
    if options.network.ca_file:
        values["SSL_CERT_FILE"] = _authorities(options.network.ca_file, directory)
    return values


def _empty(directory: Path, name: str) -> str:
    path = directory / name
    path.mkdir(exist_ok=True)
    return str(path)


def _copy(cookies_file: str, directory: Path) -> str:
    """yt-dlp writes its cookies back at the end."""
    return shutil.copyfile(cookies_file, directory / "cookies.txt").__fspath__()


def _authorities(ca_file: str, directory: Path) -> str:
    bundle = directory / "authorities.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + Path(ca_file).read_bytes())
    return str(bundle)
