"""The messages between the server and its yt-dlp processes: typed values, encoded as JSON, each preceded by the length
of its encoding.

The extraction process parses hostile pages, so the server decodes only these types, never pickle, and rejects a message
longer than `MAX_MESSAGE_BYTES`. The messages travel over a stream socketpair. `WriteRaw` and `StartDownload` are sent
with file descriptors (SCM_RIGHTS), which arrive with the first byte of their frame; descriptors and these messages
arrive in the same order.

yt-dlp's dictionary of a track crosses from the extraction process to the download process in a file in memory
(memfd_create(2)), of which the server sees only the size:

    server ── WriteRaw, file ──▶ extraction process ── RawWritten ──▶ server
    server ── StartDownload, file, pipe ──▶ download process
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec

from serverpy import errors
from serverpy.errors import CapacityError, ExtractionFailed, ServerPYError
from serverpy.extraction.sites import Sites
from serverpy.extraction.values import Media, Track
from serverpy.options import Identity, Limits, Network, Targets, Timeouts

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_MEDIA_BYTES = 8 * 1024 * 1024
"""Maximum encoded size of one extraction, in bytes."""
MAX_RAW_BYTES = 16 * 1024 * 1024
"""Maximum size, in bytes, of yt-dlp's dictionary of one track in the form in which it crosses to the download
process."""
_LENGTH = struct.Struct("!I")

Role = Literal["extract", "download"]
"""What a yt-dlp process does: it extracts pages, or it downloads tracks."""


class RawGone(ServerPYError):
    """Error that is raised if no extraction process has yt-dlp's dictionary of the extraction, or can hand over the
    dictionary in time. The caller must extract the page again. No client sees this error, because the caller of
    `Workers.download` catches it."""

    code = "raw_gone"


class WorkerLost(ServerPYError):
    """Error that every request to a yt-dlp process gets if the process has ended. No client sees this error, because
    `Workers` catches it."""

    code = "worker_lost"


class WorkerFull(ServerPYError):
    """Error that an extraction gets if the extraction process reaches its memory limit before the extraction ends. Any
    of the extractions in that process may have filled the memory. No client sees this error, because `Workers` catches
    it."""

    code = "worker_full"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """The groups of settings that a yt-dlp process reads. The process adds `plugin_paths` to its `sys.path`, where
    yt-dlp looks for `yt_dlp_plugins`."""

    timeouts: Timeouts = Timeouts()
    targets: Targets = Targets()
    network: Network = Network()
    sites: Sites = Sites()
    identity: Identity = Identity()
    limits: Limits = Limits()
    max_js_children: int = 2
    plugin_paths: tuple[str, ...] = ()


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A message between server and worker about one request. `id` is the server's number for the request; every reply
    to the request repeats this number."""


# Messages from the server to the worker


class Configure(Message, frozen=True, kw_only=True):
    """The first message to the worker, with its settings. The worker replies with `Ready`, or with an `ErrorReply`
    whose `id` is 0. `directory` is an empty private directory for the worker; the server removes it after the worker
    has exited."""

    options: WorkerOptions
    directory: str


class Extract(Message, frozen=True, kw_only=True):
    id: int
    url: str


class Format(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields of a track that a yt-dlp format selector can test. As in yt-dlp, `vcodec` or `acodec` is "none" if the
    track has no such stream, and None if the codec is unknown. `details` is a JSON object of all other fields, and of
    fields in which yt-dlp's format differs from the track. Two tracks of equal `kind` can be streamed in the same ways,
    and merged with the same other tracks."""

    format_id: str
    url: str = ""
    ext: str
    protocol: str
    container: str | None = None
    vcodec: str | None = None
    acodec: str | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    tbr: float | None = None
    filesize: int | None = None
    filesize_approx: int | None = None
    language: str | None = None
    format_note: str | None = None
    details: str | None = None
    kind: int = 0


def format_of(track: Track, kind: int = 0, *, with_url: bool = False) -> Format:
    """Return the fields of `track` that a yt-dlp format selector can test, under the names that yt-dlp uses. The URL is
    long, so it is left out unless `with_url`."""
    return Format(
        format_id=track.id,
        url=track.url if with_url else "",
        ext=track.ext,
        protocol=track.protocol,
        container=track.container,
        vcodec=_codec(track.vcodec),
        acodec=_codec(track.acodec),
        width=track.width,
        height=track.height,
        fps=track.fps,
        tbr=track.bitrate,
        filesize=track.size if track.size_exact else None,
        filesize_approx=None if track.size_exact else track.size,
        language=track.language,
        format_note=track.note,
        details=track.details,
        kind=kind,
    )


def _codec(name: str | None) -> str | None:
    return "none" if name is None else None if name == "unknown" else name


class Select(Message, frozen=True, kw_only=True):
    """A request to apply a yt-dlp format selector to `formats`. The worker replies with `Selected`."""

    id: int
    selector: str
    formats: tuple[Format, ...]


class WriteRaw(Message, frozen=True, kw_only=True):
    """A request to write yt-dlp's dictionary of a track into a file, whose descriptor is sent with this message. The
    extraction process replies with `RawWritten`; with `RawApart` if the dictionary cannot be written; or with an
    `ErrorReply`, for example `raw_gone`."""

    id: int
    raw_id: str
    track_id: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page that the download process itself must extract, with yt-dlp's key of its extractor."""

    url: str
    extractor: str


class StartDownload(Message, frozen=True, kw_only=True):
    """A request to write a track's bytes into a pipe. Two descriptors are sent with this message: that of the pipe, and
    that of the file with yt-dlp's dictionary. The file is empty if the process must extract `page`. The download
    process replies with `DownloadStarted`, then with `DownloadEnd` or `ErrorReply` when its thread has closed the
    descriptors."""

    id: int
    track_id: str
    page: Page | None = None


class Cancel(Message, frozen=True, kw_only=True):
    """A request to stop the earlier request `id`, which may wait or run. The worker still replies to the stopped
    request once the request's thread is free, usually with `ErrorReply`."""

    id: int


class Ping(Message, frozen=True, kw_only=True):
    """A request to which the process immediately replies with `Pong`, unless the process is frozen."""

    id: int


Request = Configure | Extract | Select | WriteRaw | StartDownload | Cancel | Ping


# Messages from the worker to the server


class Ready(Message, frozen=True, kw_only=True):
    """The worker's message that it accepts requests. `js_runtimes` are the JavaScript runtimes that yt-dlp can use,
    such as `deno-2.3.0`. The ids of the process's extractions begin with `tag`."""

    yt_dlp: str
    tag: str = ""
    js_runtimes: tuple[str, ...] = ()
    impersonation: bool = False
    plugins: tuple[str, ...] = ()


class Extracted(Message, frozen=True, kw_only=True):
    id: int
    media: Media


class Selected(Message, frozen=True, kw_only=True):
    """The reply to `Select`. Each item of `choices` contains the ids of the tracks of one choice; several ids mean that
    their tracks are merged. The first item is yt-dlp's choice. The next items are what yt-dlp would choose next, one
    item of each kind (`Format.kind`)."""

    id: int
    choices: tuple[tuple[str, ...], ...]


class RawWritten(Message, frozen=True, kw_only=True):
    """The reply to `WriteRaw` once the file is complete."""

    id: int


class RawApart(Message, frozen=True, kw_only=True):
    """The reply to `WriteRaw` if yt-dlp's dictionary has values that exist only in the extraction process (generators
    and functions), so that the download process must extract the page itself."""

    id: int
    page: Page


class DownloadStarted(Message, frozen=True, kw_only=True):
    """The first reply to `StartDownload`: the download process has received the descriptors, and has a thread for the
    download. A `DownloadEnd` or `ErrorReply` follows. If the download cannot start, the process replies with an
    `ErrorReply` instead, for example `busy`."""

    id: int


class DownloadEnd(Message, frozen=True, kw_only=True):
    """The last reply to `StartDownload`: the worker has written the whole track, `bytes` bytes, and closed the
    descriptor of the pipe."""

    id: int
    bytes: int


class Pong(Message, frozen=True, kw_only=True):
    id: int


class ErrorReply(Message, frozen=True, kw_only=True):
    """A `ServerPYError` that the worker raised, identified by its `code`."""

    id: int
    code: str
    message: str
    retry_after: int | None = None


Reply = Ready | Extracted | Selected | RawWritten | RawApart | DownloadStarted | DownloadEnd | Pong | ErrorReply

_encoder = msgspec.json.Encoder()
_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


class MessageTooLarge(ValueError):
    """A message between server and worker that exceeds its size limit."""


def encode(message: Request | Reply, *, limit: int = MAX_MESSAGE_BYTES) -> bytes:
    """Return the frame that carries `message`: its length and its JSON. A lone surrogate, which UTF-8 cannot encode,
    becomes a question mark. Raises MessageTooLarge if the message has more than `limit` bytes."""
    try:
        body = _encoder.encode(message)
    except UnicodeEncodeError:
        body = _encoder.encode(_clean(msgspec.to_builtins(message)))
    if len(body) > limit:
        raise MessageTooLarge(f"the message {type(message).__name__} has {len(body)} bytes, but the limit is {limit}")
    return _LENGTH.pack(len(body)) + body


def _clean(value: Any) -> Any:
    """Return a copy of `value` whose strings UTF-8 can encode: each lone surrogate becomes a question mark."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(inner) for key, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list | tuple) else value


def decode_request(body: bytes) -> Request:
    return _requests.decode(body)


def decode_reply(body: bytes) -> Reply:
    """Decode a reply of the worker. Raises `msgspec.DecodeError` if the reply is invalid."""
    return _replies.decode(body)


class Frames:
    """A splitter of a byte stream into messages. Between calls, it holds at most one incomplete message."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add `data` to the stream, and yield the bodies of the messages that are now complete. Raises MessageTooLarge
        if a frame is longer than MAX_MESSAGE_BYTES."""
        self._buffer += data
        while (body := self._next()) is not None:
            yield body

    def _next(self) -> bytes | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_MESSAGE_BYTES:
            raise MessageTooLarge(f"a frame announces {length} bytes, but the limit is {MAX_MESSAGE_BYTES}")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(memoryview(self._buffer)[_LENGTH.size : end])
        del self._buffer[:end]
        return body


def _leaves(base: type[ServerPYError]) -> Iterator[type[ServerPYError]]:
    for child in base.__subclasses__():
        yield from _leaves(child)
        if "code" in child.__dict__:
            yield child


class _Codes:
    """The table of error classes by `code`: the classes in `serverpy.errors`, and those of this module."""

    table: ClassVar[dict[str, type[ServerPYError]]] = {
        leaf.code: leaf for leaf in _leaves(ServerPYError) if leaf.__module__ in (errors.__name__, __name__)
    }


def error_reply(id_: int, error: ServerPYError) -> ErrorReply:
    retry_after = error.retry_after if isinstance(error, CapacityError) else None
    return ErrorReply(id=id_, code=error.code, message=error.detail, retry_after=retry_after)


def to_error(reply: ErrorReply) -> ServerPYError:
    """Return the exception that the worker raised, rebuilt from `reply`."""
    kind = _Codes.table.get(reply.code, ExtractionFailed)
    if issubclass(kind, CapacityError) and reply.retry_after is not None:
        return kind(reply.message, reply.retry_after)
    return kind(reply.message)
