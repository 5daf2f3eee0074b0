"""The rules for a plan (a way to open the media) that fails before its first byte: whether to try another plan, and
which plan to try first for later requests. The functions are pure; only `Hosts` and `Pairs` read a clock.

    plans ─▶ plans_around() ─▶ plan fails ─▶ plans_after() ─▶ next plan …

A media server that refuses the relay's HTTP client may accept yt-dlp's client, so `auto` tries the same track by the
method `embedded`. If that works, `Hosts` remembers the media server, and for some minutes requests for a whole file
begin with `embedded`: a *detour*.

Whether a pair in HLS can be merged depends on the format of its segments: fragmented MP4 can be merged, MPEG-TS cannot.
Only the segments themselves show their format. `Pairs` remembers the result of each attempt, so that later requests
begin with a plan that can be opened.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from itertools import dropwhile
from urllib.parse import urlsplit

from serverpy.errors import (
    Busy,
    DrmProtected,
    NotMedia,
    ServerPYError,
    SourceError,
    TooLarge,
    UnsupportedConversion,
    UpstreamFailed,
    UpstreamTimeout,
)
from serverpy.extraction.values import HLS_PROTOCOLS
from serverpy.plan import After, Plan, StreamRequest

HOST_SECONDS = 600.0
"""Number of seconds for which `Hosts` remembers a media server, and `Pairs` a pair of tracks."""
REST_SECONDS = 60.0
"""Number of seconds after a failed attempt to open a pair in HLS in which `/info` makes no further attempt."""
MAX_HOSTS = 256
"""Maximum number of media servers that `Hosts` remembers."""
MAX_HOST_CHARACTERS = 253
"""Maximum length of a host name, in characters (RFC 1035 §2.3.4)."""
_PORTS = {"http": 80, "https": 443}

_PERMANENT = (UnsupportedConversion, DrmProtected, TooLarge)
"""Errors that another attempt to open the same tracks would also raise."""
_UNOPENABLE = (UnsupportedConversion, DrmProtected, NotMedia, TooLarge)
"""Errors that show that a video and an audio file are not two MP4s that can be merged without a muxer."""
_MISSED = (Busy, UpstreamFailed, UpstreamTimeout)
MAX_PAIRS = 256
"""Maximum number of pairs of tracks that `Pairs` remembers."""
_DIGEST_BYTES = 16


def plans_after(error: ServerPYError, rest: tuple[Plan, ...]) -> tuple[Plan, ...]:
    """Return the plans in `rest` that are worth trying after a plan failed with `error`. Returns () if no other plan
    can help, because `error` is about the media itself, about a forbidden address, or about a full or stopping
    server."""
    return tuple(dropwhile(lambda plan: not _leads_to(plan, error), rest))


def _leads_to(plan: Plan, error: ServerPYError) -> bool:
    match plan.after:
        case After.UNOPENABLE:
            return isinstance(error, _UNOPENABLE)
        case After.UNMERGEABLE:
            return isinstance(error, UnsupportedConversion)
        case After.TRANSPORT:
            return isinstance(error, SourceError) and error.of_transport
        case After.DETOUR:
            return isinstance(error, _MISSED)


def plans_around(plans: tuple[Plan, ...], request: StreamRequest, hosts: Hosts) -> tuple[Plan, ...]:
    """Return `plans`, with the fallback plan first if `hosts` remembers the media server and `request` has no Range
    header."""
    if request.range is not None or len(plans) != 2 or plans[1].after is not After.TRANSPORT:
        return plans
    usual, fallback = plans
    if not hosts.has(usual):
        return plans
    return replace(fallback, after=After.UNOPENABLE), replace(usual, after=After.DETOUR)


class Pairs:
    """A record of the pairs in HLS that were opened last, and of whether each of them could be merged. `Pairs`
    remembers at most MAX_PAIRS pairs, each for HOST_SECONDS; a new pair replaces the oldest. A pair is identified by
    the ids and URLs of its tracks. Pairs that are not in HLS are not remembered: whether two files can be
    merged also depends on whether their media servers support ranges at the moment."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found: dict[bytes, tuple[float, type[ServerPYError] | None]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, plan: Plan, error: ServerPYError | None = None) -> None:
        """Remember that the pair of `plan` was opened or, if `error` is not None, that `error` was raised. Has no
        effect if `plan` has no pair in HLS, or if `error` does not show that the pair cannot be merged."""
        if not _is_in_hls(plan) or not (error is None or type(error) in _PERMANENT):
            return
        self._remember(plan, HOST_SECONDS, None if error is None else type(error))

    def rest(self, plan: Plan) -> None:
        """If it is not known whether the pair of `plan` can be merged, assume for REST_SECONDS that it can."""
        if self._known(plan) is None:
            self._remember(plan, REST_SECONDS, None)

    def openable(self, plans: tuple[Plan, ...]) -> tuple[Plan, ...]:
        """Return `plans` without the plans at the beginning whose pairs are known to be impossible to merge, and
        without the plans that `plans_after` would skip after these. Returns `plans` unchanged if no plan would be
        left."""
        left = plans
        while left and (error := self._error_of(left[0])) is not None:
            left = plans_after(error, left[1:])
        return left or plans

    def are_uncertain(self, plans: tuple[Plan, ...]) -> bool:
        """Return whether only an attempt to open `plans` shows which of them can be opened. This is so if the first
        plan is for a pair in HLS that `Pairs` does not remember, and if a later plan would be tried after it."""
        first, *rest = plans
        is_unknown = _is_in_hls(first) and self._known(first) is None
        return is_unknown and bool(plans_after(UnsupportedConversion(), tuple(rest)))

    def _remember(self, plan: Plan, seconds: float, error: type[ServerPYError] | None) -> None:
        key = pair_key(plan)
        self._found.pop(key, None)
        self._found[key] = self._clock() + seconds, error
        if len(self._found) > MAX_PAIRS:
            del self._found[next(iter(self._found))]

    def _error_of(self, plan: Plan) -> ServerPYError | None:
        known = self._known(plan)
        return None if known is None or known[1] is None else known[1]()

    def _known(self, plan: Plan) -> tuple[float, type[ServerPYError] | None] | None:
        known = self._found.get(pair_key(plan)) if _is_in_hls(plan) else None
        return known if known is not None and known[0] > self._clock() else None


def _is_in_hls(plan: Plan) -> bool:
    return len(plan.tracks) == 2 and any(track.protocol in HLS_PROTOCOLS for track in plan.tracks)


def pair_key(plan: Plan) -> bytes:
    """Return a digest of the opener of `plan` and of the ids and URLs of its tracks."""
    key = blake2b(plan.opener.encode(), digest_size=_DIGEST_BYTES)
    for track in plan.tracks:
        key.update(f"\n{track.id}\n{track.url}".encode(errors="surrogatepass"))
    return key.digest()


class Hosts:
    """The media servers (host and port) whose media only the fallback plan could open. `Hosts` remembers at most
    MAX_HOSTS servers, each for HOST_SECONDS; a new server replaces the oldest. It does not remember the servers of a
    pair of tracks, because either server may have failed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def has(self, plan: Plan) -> bool:
        return self._until.get(_host_of(plan), 0.0) > self._clock()

    def add(self, plan: Plan) -> None:
        self.discard(plan)
        if host := _host_of(plan):
            self._until[host] = self._clock() + HOST_SECONDS
        if len(self._until) > MAX_HOSTS:
            del self._until[next(iter(self._until))]

    def discard(self, plan: Plan) -> None:
        self._until.pop(_host_of(plan), None)


def _host_of(plan: Plan) -> str:
    """Return the host and port of the media server of `plan`. Returns "" if `plan` has a pair of tracks, or if the URL
    is invalid."""
    if len(plan.tracks) != 1:
        return ""
    try:
        parts = urlsplit(plan.tracks[0].url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return ""
    return f"{host}:{port}" if 0 < len(host) <= MAX_HOST_CHARACTERS else ""
