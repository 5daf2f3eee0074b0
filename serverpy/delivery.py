"""One request, from admission to an open body, in reading order.

    check → reserve → extract → choose → open

What is reserved is given back by `Stream.aclose`, exactly once, after the body is closed.
"""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from serverpy.body import UNCUT, Body, Head, Method, Source
from serverpy.errors import (
    DrmProtected,
    FormatNotFound,
    InvalidParameter,
    MediaNotFound,
    NotMedia,
    ServerPYError,
    TooLarge,
    UnsupportedConversion,
)
from serverpy.extraction.choice import Choice, by_id, default_choices, is_seekable, pick_entry, selected
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.values import Media, Track
from serverpy.extraction.workers import Workers
from serverpy.media.weave.weaver import Weaver
from serverpy.memory.budget import Budget, Reservation
from serverpy.net.guard import check_url
from serverpy.options import MediaLimits
from serverpy.ranges import ByteRange
from serverpy.streaming.methods.relay import RelayBody
from serverpy.streaming.segments.manifest import HLS_PROTOCOLS

logger = logging.getLogger(__name__)

AUTO = ("relay", "embedded")
"""The methods that `auto` tries, in this order."""
AS_THEY_ARE = ("mp4", "webm", "m4a", "mp3", "opus", "flac", "wav")
"""Values of `to` that the media may be already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What a client asks of `/stream`, by CONTRACT's names. `method` None is the server's own choice."""

    url: str
    format: str | None = None
    to: str = "source"
    method: str | None = None
    item: int | None = None
    start: float | None = None
    end: float | None = None
    range: ByteRange | None = None
    if_range: str | None = None


class Stream:
    """An open body with what was reserved for it. Its owner closes it."""

    def __init__(
        self, body: Body, method: str, reservation: Reservation, head: Head, *, max_bytes: int | None, collect: bool
    ) -> None:
        self.head = head
        self.method = method
        self._body = body
        self._reservation = reservation
        self._left_bytes = math.inf if max_bytes is None else max_bytes
        self._collect = collect

    async def read(self) -> bytes:
        """The next bytes, `b""` at the end. Raises what the body raises, and `TooLarge` beyond MAX_BYTES."""
        chunk = await self._body.read()
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            raise _too_large()
        return chunk

    @property
    def loss(self) -> ServerPYError | None:
        """Why there is nothing more to read, if that came while nobody read."""
        return self._body.loss if isinstance(self._body, RelayBody) else None

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Have `tell` called when that comes."""
        if isinstance(self._body, RelayBody):
            self._body.when_lost(tell)

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            self._reservation.release()
        if self._collect:
            gc.collect()


@dataclass(slots=True)
class Clock:
    """Seconds by name, for `Server-Timing`."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = now - self._since
        self._since = now


class Delivery:
    """Opens streams. `methods` by their names, `default_method` one of them or `auto`. `weaver` opens pairs of tracks,
    for whoever allows its method."""

    def __init__(
        self,
        *,
        budget: Budget,
        extractor: Extractor,
        selector: Workers,
        methods: Mapping[str, Method],
        weaver: Weaver,
        limits: MediaLimits,
        default_method: str,
        collect: bool,
    ) -> None:
        self._budget = budget
        self._extractor = extractor
        self._selector = selector
        self._methods = methods
        self._weaver = weaver
        self._default_method = default_method
        self._max_duration = limits.max_duration
        self._max_bytes = limits.max_bytes
        self._collect = collect

    async def open(self, request: StreamRequest) -> Stream:
        """The stream that `request` asks for, its first bytes in hand. Raises a `ServerPYError`; leaves nothing behind
        when it raises or is cancelled."""
        request = _checked(request)
        methods = self._allowed(request.method, has_start=request.start is not None)
        clock = Clock()
        reservation = await self._budget.reserve(methods[0].stream_bytes)
        try:
            clock.lap("wait")
            source, choices = await self._choose(request, methods)
            clock.lap("extract")
            body, name = await self._open_first(replace(source, room=reservation), choices, methods, reservation)
        except BaseException:
            reservation.release()
            raise
        head = replace(body.head, timings={**clock.seconds, **body.head.timings})
        stream = Stream(body, name, reservation, head, max_bytes=self._max_bytes, collect=self._collect)
        if self._max_bytes is not None and max(head.total or 0, head.length or 0) > self._max_bytes:
            await stream.aclose()
            raise _too_large()
        return stream

    async def info(self, url: str) -> Media:
        """What is behind `url`."""
        return await self._extractor.extract(check_url(url))

    def methods_of(self, track: Track) -> list[str]:
        """The methods that can stream `track`."""
        return [] if track.has_drm else [name for name, method in self._methods.items() if method.carries(track)]

    def conversions_of(self, track: Track) -> list[str]:
        """The values of `to` that can be had of `track`: what it is already."""
        if not self.methods_of(track):
            return []
        return ["source", *(name for name in AS_THEY_ARE if _is_already((track,), name))]

    def _allowed(self, name: str | None, *, has_start: bool) -> list[Method]:
        name = name or self._default_method
        if name != "auto" and name not in self._methods:
            raise InvalidParameter(f"There is no method of that name; there are auto, {', '.join(self._methods)}.")
        names = AUTO if name == "auto" else (name,)
        if has_start and "relay" not in names:  # which alone reads live lists for itself
            raise InvalidParameter(UNCUT)
        return [self._methods[each] for each in names if each == "relay" or not has_start]

    async def _choose(self, request: StreamRequest, methods: list[Method]) -> tuple[Source, list[Choice]]:
        """Find the tracks that are asked for; of several choices, each is for when those before it prove impossible."""
        if methods[0].name == "subprocess":  # its child extracts for itself
            if request.to != "source":
                raise UnsupportedConversion("A child process gives the source's bytes only: leave out `to`.")
            return Source(url=request.url, format=request.format, item=request.item), []
        source = await self._locate(request)
        assert source.media is not None
        if self._max_duration is not None and (source.media.duration or 0) > self._max_duration:
            raise TooLarge(f"The media is longer than the {self._max_duration:g} seconds that this server allows.")
        if request.start is not None and not _may_be_live(source.media):
            raise InvalidParameter(UNCUT)
        choices = await self._pick(source.media, request.format, methods)
        choices = [choice for choice in choices if request.to == "source" or _is_already(choice, request.to)]
        if not choices:
            raise UnsupportedConversion(f"This format cannot be turned into {request.to}.")
        return source, choices

    async def _open_first(
        self, source: Source, choices: list[Choice], methods: list[Method], reservation: Reservation
    ) -> tuple[Body, str]:
        """The first of `choices` that can be had, and the name of its method. What looked like two MP4s may turn out
        to be something else."""
        for choice in choices[:-1]:
            try:
                return await self._open(source, choice, methods, reservation)
            except (UnsupportedConversion, DrmProtected, NotMedia, TooLarge) as error:
                ids = "+".join(track.id for track in choice)
                logger.info("%s cannot be had, and the next best is tried: %s: %s", ids, error.code, error.detail)
        return await self._open(source, choices[-1] if choices else None, methods, reservation)

    async def _open(
        self, source: Source, choice: Choice | None, methods: list[Method], reservation: Reservation
    ) -> tuple[Body, str]:
        if choice is not None and len(choice) == 2:
            await _hold(reservation, self._weaver.stream_bytes)
            return await self._weaver.open(source, choice, reservation), self._weaver.name
        track = None if choice is None else choice[0]
        method = next((method for method in methods if track is None or method.carries(track)), None)
        if method is None:
            assert track is not None
            raise FormatNotFound(f"The format {track.id} cannot be streamed by the method asked for.")
        await _hold(reservation, method.stream_bytes if track is None else method.bytes_for(track))
        return await method.open(replace(source, track=track)), method.name

    async def _locate(self, request: StreamRequest) -> Source:
        """The page, or its item, that holds the tracks."""
        source = Source(
            url=request.url,
            format=request.format,
            range=request.range,
            if_range=request.if_range,
            start=request.start,
        )
        media = await self._extractor.extract(request.url)
        entry = pick_entry(media, request.item)
        if entry is None:
            return replace(source, media=media)
        if entry.media is not None:
            return replace(source, media=entry.media, item=request.item or 1)
        url = entry.url or ""
        if not url.startswith(("http://", "https://")):  # an extractor's own address may be smuggled, but no other kind
            raise MediaNotFound("This item has no address that could be read.")
        media = await self._extractor.extract(url)
        if media.entries:
            raise UnsupportedConversion("This item is a playlist itself: ask for its own address.")
        return replace(source, url=url, media=media)

    async def _pick(self, media: Media, wanted: str | None, methods: list[Method]) -> list[Choice]:
        weaves = partial(self._weaves, methods=methods)
        if wanted is None:
            return default_choices(media, lambda track: any(method.carries(track) for method in methods), weaves)
        exact = by_id(media.tracks, wanted)
        return [selected(media, [exact.id] if exact is not None else await self._select(media, wanted), weaves)]

    def _weaves(self, track: Track, methods: list[Method]) -> bool:
        return any(method.name == self._weaver.name for method in methods) and self._weaver.weaves(track)

    async def _select(self, media: Media, wanted: str) -> tuple[str, ...]:
        selections = await self._selector.select(media, wanted)
        if not selections:
            raise FormatNotFound("The page has no format that fits the selector.")
        return selections[0]


async def _hold(reservation: Reservation, nbytes: int) -> None:
    """Just as much as the body that is opened next may hold."""
    if reservation.nbytes > nbytes:
        reservation.shrink(reservation.nbytes - nbytes)
    await reservation.grow(nbytes - reservation.nbytes)


def _is_already(choice: Choice, to: str) -> bool:
    """Whether the bytes of `choice` are what `to` asks for: a woven pair is an MP4, a plain file what its name says."""
    return to == "mp4" if len(choice) == 2 else choice[0].ext == to and is_seekable(choice[0])


def _may_be_live(media: Media) -> bool:
    """Whether one may say where to begin: of HLS, its list alone tells."""
    return any(track.protocol in HLS_PROTOCOLS for track in media.tracks)


def _too_large() -> TooLarge:
    return TooLarge("The media is larger than this server allows.")


def _checked(request: StreamRequest) -> StreamRequest:
    """Refuse what this server cannot do before anything is reserved."""
    if request.to not in ("source", *AS_THEY_ARE):
        raise UnsupportedConversion(f"Turning media into {request.to} is not available: leave out `to`.")
    if request.end is not None:
        raise InvalidParameter(UNCUT)
    if request.start is not None and not math.isfinite(request.start):
        raise InvalidParameter("`start` is a number of seconds.")
    if request.item is not None and request.item < 1:
        raise InvalidParameter("`item` counts from 1.")
    return replace(request, url=check_url(request.url))
