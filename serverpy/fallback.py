"""The rules for a plan (a way to open the media) that fails before its first byte: whether to try another plan, and
which plan to try first for later requests. The functions are pure; only `Hosts` reads a clock.

    plans ─▶ plans_around() ─▶ plan fails ─▶ plans_after() ─▶ next plan …

A media server that refuses the relay's HTTP client may accept yt-dlp's client, so `auto` tries the same track by the
method `embedded`. If that works, `Hosts` remembers the media server, and for some minutes requests for a whole file
begin with `embedded`: a *detour*.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
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
from serverpy.plan import After, Plan, StreamRequest

HOST_SECONDS = 600.0
"""Number of seconds for which `Hosts` remembers a media server."""
MAX_HOSTS = 256
"""Maximum number of media servers that `Hosts` remembers."""
MAX_HOST_CHARACTERS = 253
"""Maximum length of a host name, in characters (RFC 1035 §2.3.4)."""
_PORTS = {"http": 80, "https": 443}

_UNOPENABLE = (UnsupportedConversion, DrmProtected, NotMedia, TooLarge)
"""Errors that show that a video and an audio file are not two MP4s that can be merged without a muxer."""
_MISSED = (Busy, UpstreamFailed, UpstreamTimeout)


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
