"""Faults of the sample site on request: the parser of the specification between `/fault/` and `/media/` in a URL, and
the code that makes a response misbehave. For instance, `cut=1000,norange` means: send FIN after 1,000 bytes of each
body, and do not support ranges.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

from serverpy.sample.content import PIECE_BYTES
from serverpy.sample.failures import Failure
from serverpy.sample.wire import Exchange, Framing

THROTTLE_STEPS_PER_SECOND = 20


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of a response; by default there are none. Numbers count bytes of one body unless stated otherwise."""

    throttle: int | None = None
    """Limit the speed of the body to this number of bytes per second."""
    cut: int | None = None
    """Send FIN after this number of bytes of the body."""
    rst: int | None = None
    """Send RST after this number of bytes of the body, once the client's kernel has all of them."""
    stall: int | None = None
    """Send nothing more after this number of bytes of the body, but keep the connection open."""
    ignores_range: bool = False
    """Respond with 200, the whole content and no Accept-Ranges, even if the client requests a range."""
    partial_from_zero: bool = False
    """Respond to a range request with a 206 of the whole content: the bytes begin at offset 0, as its Content-Range
    says."""
    framing: Framing = Framing.LENGTH
    status: int | None = None
    """Respond with this status and a short text as the body."""
    malformed: bool = False
    """Respond with a line that is not HTTP, and close the connection."""
    spares_alpn: bool = False
    """Misbehave only on https connections whose client offers no protocol by ALPN (RFC 7301). Some real servers
    likewise recognise clients by the TLS handshake."""
    delay: float = 0.0
    """Seconds to wait before the response headers."""
    fresh_etag: bool = False
    """Send a different ETag with each response, although the bytes are the same."""
    expire: int | None = None
    """Number of body bytes that one token grants, summed over all responses."""
    times: int | None = None
    """Number of requests to the URL that misbehave, counted from the first request; None for all requests."""
    retry_after: int | None = None
    """Number of seconds that the response with the status in `status` states as `Retry-After`."""
    changes: Literal["", "told", "silent"] = ""
    """From the second request to the URL on, send different bytes of the same length: with a new ETag and Last-Modified
    date ("told"), or with the old ones ("silent")."""
    fields: int = 0
    """Add this number of header fields to the response."""
    surplus: int = 0
    """Send this number of bytes after the end of each body, which its Content-Length does not count."""
    fails: Failure | None = None
    """Fail at one offset of the file, and for each later request that continues near that offset."""
    id: str = ""
    """Name that makes the URL unique, so that the site counts its requests separately. It changes nothing in the
    response."""


def _setting(name: str, convert: Callable[[str], object]) -> Callable[[Faults, str], Faults]:
    # `dataclasses.replace` takes each field as a keyword, which type checkers cannot check if the name is in a
    # variable.
    return lambda faults, value: replace(faults, **{name: convert(value)})  # type: ignore[arg-type]


def _flag(**changes: object) -> Callable[[Faults, str], Faults]:
    return lambda faults, _value: replace(faults, **changes)  # type: ignore[arg-type]  # `_setting` says why


def _status(text: str) -> int:
    status = _count(text)
    if not 400 <= status <= 599:
        raise ValueError(f"status must be an HTTP error status (400 to 599): {text!r}")
    return status


def _choice(name: str, **choices: object) -> Callable[[Faults, str], Faults]:
    def read(faults: Faults, value: str) -> Faults:
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}: {value!r}")
        return replace(faults, **{name: choices[value]})  # type: ignore[arg-type]  # `_setting` says why

    return read


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise ValueError(f"the number must be a non-negative integer: {text!r}")
    return int(text)


_READERS: dict[str, Callable[[Faults, str], Faults]] = {
    **{
        name: _setting(name, _count)
        for name in ("throttle", "cut", "rst", "stall", "expire", "times", "fields", "surplus")
    },
    "status": _setting("status", _status),
    "retry": _setting("retry_after", _count),
    "fails": _setting("fails", Failure.parse),
    "id": _setting("id", str),
    "delay": _setting("delay", float),
    "norange": _flag(ignores_range=True),
    "norange206": _flag(partial_from_zero=True),
    "malformed": _flag(malformed=True),
    "noalpn": _flag(spares_alpn=True),
    "nolength": _flag(framing=Framing.CHUNKED),
    "closelength": _flag(framing=Framing.CLOSE),
    "etag": _choice("fresh_etag", flip=True),
    "changes": _choice("changes", told="told", silent="silent"),
}

FAULTS = tuple(_READERS)
"""Every name of a fault that a specification may use."""


def parse_faults(spec: str) -> Faults:
    """Parse a comma-separated specification. Raises ValueError if a fault is unknown or its value is invalid."""
    faults = Faults()
    for part in spec.split(","):
        name, _, value = part.partition("=")
        if name not in _READERS:
            raise ValueError(f"unknown fault {part!r}: choose from {', '.join(FAULTS)}")
        faults = _READERS[name](faults, value)
    return faults


class Tokens:
    """Tokens in URLs, each of which grants a limited number of body bytes. They are valid until the site stops."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}

    def issue(self, limit: int) -> str:
        token = secrets.token_urlsafe(12)
        self._left[token] = limit
        return token

    def left(self, token: str) -> int:
        """Return how many bytes the token still grants. Returns 0 if it was never issued."""
        return self._left.get(token, 0)

    def spend(self, token: str, count: int) -> None:
        self._left[token] -= count


async def pour(exchange: Exchange, pieces: Generator[bytes], faults: Faults, purse: tuple[Tokens, str] | None) -> None:
    """Send the body of a response with its faults, after the caller has sent the head. Closes `pieces`. Returns early
    if the client disconnects."""
    sent = 0
    begin = asyncio.get_running_loop().time()
    with closing(pieces):
        for piece in _sliced(pieces, faults.throttle):
            part = piece[: _room(faults, purse, sent)]
            sent += len(part)
            # count the bytes before the write, because other responses may spend the same token during the write
            if purse:
                purse[0].spend(purse[1], len(part))
            if part:
                await exchange.write(part)
            if exchange.gone:
                return
            if len(part) < len(piece):
                await _break_off(exchange, faults, sent)
                return
            if faults.throttle:
                await exchange.connection.pause(begin + sent / faults.throttle - asyncio.get_running_loop().time())
    await exchange.finish()
    if faults.surplus and not exchange.gone:
        exchange.connection.transport.write(secrets.token_bytes(faults.surplus))


def _sliced(pieces: Generator[bytes], throttle: int | None) -> Generator[bytes]:
    if not throttle:
        yield from pieces
        return
    step = min(max(throttle // THROTTLE_STEPS_PER_SECOND, 1), PIECE_BYTES)
    for piece in pieces:
        for start in range(0, len(piece), step):
            yield piece[start : start + step]


def _room(faults: Faults, purse: tuple[Tokens, str] | None, sent: int) -> int | None:
    """Return how many more bytes to send before a fault truncates the body. Returns None if no fault truncates it."""
    limits = [limit - sent for limit in (faults.cut, faults.rst, faults.stall) if limit is not None]
    if purse:
        limits.append(purse[0].left(purse[1]))
    return max(min(limits), 0) if limits else None


async def _break_off(exchange: Exchange, faults: Faults, sent: int) -> None:
    if faults.stall == sent:
        await exchange.connection.closed.wait()
    elif faults.rst == sent:
        await exchange.connection.reset()
    else:
        await exchange.connection.cut()
