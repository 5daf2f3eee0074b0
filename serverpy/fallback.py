"""The rules for a plan that fails before its first byte: whether to try another plan, and which plan to try first for
later requests. Pure, except for the clock in `Hosts`.

    plans ─▶ plans_around() ─▶ plan fails ─▶ plans_after() ─▶ next plan …

A media server that refuses the relay's HTTP client may accept yt-dlp's client, so `auto` tries the same track by
`embedded`. If that works, `Hosts` remembers the media server, and for some minutes requests for a whole file begin with
`embedded`: a *detour*.
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
"""Seconds for which a media server is remembered."""
MAX_HOSTS = 256
"""Maximum number of media servers that are remembered."""
MAX_HOST_CHARACTERS = 253
"""Maximum length of a host name (RFC 1035 §2.3.4)."""
_PORTS = {"http": 80, "https": 443}

_UNOPENABLE = (UnsupportedConversion, DrmProtected, NotMedia, TooLarge)
"""Errors of a pair whose files turn out not to be two MP4s that can be merged."""
_MISSED = (Busy, UpstreamFailed, UpstreamTimeout)


def plans_after(error: ServerPYError, rest: tuple[Plan, ...]) -> tuple[Plan, ...]:
    """Return the plans in `rest` that are worth trying after a plan failed with `error`. Returns () if `error` is
    final: a fact about the media, a forbidden address, a full or stopping server."""
    return tuple(dropwhile(lambda plan: not _leads_to(plan, error), rest))


def _leads_to(plan: Plan, error: ServerPYError) -> bool:
    match plan.after:
        case After.UNOPENABLE:
            return isinstance(error, _UNOPENABLE)
        case After.TRANSPORT:
            return isinstance(error, SourceError) and error.of_transport
        case After.DETOUR:
            return isinstance(error, _MISSED)


def plans_around(plans: tuple[Plan, ...], request: StreamRequest, hosts: Hosts) -> tuple[Plan, ...]:
    """Return `plans`, beginning with the fallback if the media server is remembered and `request` has no Range."""
    if request.range is not None or len(plans) != 2 or plans[1].after is not After.TRANSPORT:
        return plans
    usual, fallback = plans
    if not hosts.has(usual):
        return plans
    return replace(fallback, after=After.UNOPENABLE), replace(usual, after=After.DETOUR)


class Hosts:
    """The media servers (host and port) whose media only the fallback could open: at most MAX_HOSTS, each for
    HOST_SECONDS. A new server replaces the oldest one. The servers of a pair are not remembered, because either may
    have failed."""

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
    """Return host and port of the plan's track. Returns "" for a pair or an invalid URL."""
    if len(plan.tracks) != 1:
        return ""
    try:
        parts = urlsplit(plan.tracks[0].url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return ""
    return f"{host}:{port}" if 0 < len(host) <= MAX_HOST_CHARACTERS else ""
