"""Failures of a media file at one offset: every response that reaches that offset fails there, and each later request
that continues near the offset also fails. So no client can get the byte at that offset, however often it requests it.

A specification names such a failure as `fails=<how>@<where>`, for instance `fails=reset@middle`.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

from serverpy.sample.ranges import Span
from serverpy.sample.wire import Exchange, Framing

NEAR_BYTES = 64 * 1024
"""A request counts as the continuation of a failed body if its range begins at most this number of bytes before the
offset of the failure. Clients request some bytes again, to compare them with those of the failed body."""
DRIP_BYTES = 16 * 1024
DRIP_STEP_BYTES = 512
DRIP_SECONDS = 0.1

PLACES = ("first", "middle", "last")
IN_THE_BODY = ("reset", "stall", "short", "garbage", "tls", "drip")
INSTEAD_OF_A_RESPONSE = ("refuse", "silent", "loop")
"""Failures of requests that continue a body. The site closes the connection of the first body when it reaches the
offset of the failure. With the place `first`, every request fails in this way. A failure whose name is an error status
(such as `503@middle`) affects the same requests."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure of a media file. `how` is a name in IN_THE_BODY or INSTEAD_OF_A_RESPONSE, or an error status; `where`
    is a name in PLACES."""

    how: str
    where: str

    @classmethod
    def parse(cls, text: str) -> Failure:
        """Parse `<how>@<where>`. Raises ValueError if `how` or `where` is unknown."""
        how, _, where = text.partition("@")
        is_status = how.isascii() and how.isdecimal() and 400 <= int(how) <= 599
        if not (is_status or how in IN_THE_BODY + INSTEAD_OF_A_RESPONSE) or where not in PLACES:
            raise ValueError(f"unknown failure {text!r}: write <how>@<where>, <where> is one of {', '.join(PLACES)}")
        return cls(how, where)

    @property
    def framing(self) -> Framing:
        return Framing.CHUNKED if self.how == "garbage" else Framing.LENGTH

    def offset(self, size: int) -> int:
        """Return the offset of the byte that no response contains."""
        return {"first": 0, "middle": size // 2, "last": max(size - 1, 0)}[self.where]

    def refuses(self, span: Span, size: int) -> bool:
        """Return whether the site fails a request for `span` before the body, instead of sending a regular response."""
        place = self.offset(size)
        begins_near = span.start >= place - NEAR_BYTES and (span.start > 0 or place == 0)
        return self.how not in IN_THE_BODY and begins_near


async def refuse(exchange: Exchange, failure: Failure) -> None:
    """Fail a request for which `failure.refuses` returns true."""
    if failure.how == "refuse":
        await exchange.connection.reset()
    elif failure.how == "silent":
        await exchange.connection.closed.wait()
    elif failure.how == "loop":
        await exchange.reply(302, headers={"Location": exchange.request.origin + exchange.request.path})
    else:
        await exchange.refuse(int(failure.how), "status set by the failure in the address")


async def pour_until(exchange: Exchange, pieces: Generator[bytes], span: Span, place: int, failure: Failure) -> None:
    """Send the body of `span` up to the offset `place` of the file, and fail there. Closes `pieces`, which begin at
    `span.start`. Returns early if the client disconnects."""
    at = span.start
    with closing(pieces):
        for piece in pieces:
            good = piece[: max(place - at, 0)]
            at += len(piece)
            if good:
                await exchange.write(good)
            if exchange.gone:
                return
            if len(good) < len(piece):
                if failure.how != "drip":
                    await _fail(exchange, failure)
                    return
                await _drip(exchange, piece[len(good) :])
                place = span.stop  # nothing more fails: send the rest at full speed
    await exchange.finish()


async def _fail(exchange: Exchange, failure: Failure) -> None:
    connection = exchange.connection
    if failure.how == "reset":
        await connection.reset()
    elif failure.how == "stall":
        await connection.closed.wait()
    elif failure.how == "garbage":
        connection.transport.write(b"\x7f\x00 no chunk \r\n" + os.urandom(2000))
        await connection.cut()
    elif failure.how == "tls":
        await connection.spoil_tls()
    else:
        await connection.cut()


async def _drip(exchange: Exchange, data: bytes) -> None:
    """Send the first DRIP_BYTES of `data` slowly, and the rest at full speed."""
    for start in range(0, min(DRIP_BYTES, len(data)), DRIP_STEP_BYTES):
        await exchange.write(data[start : min(start + DRIP_STEP_BYTES, DRIP_BYTES)])
        await exchange.connection.pause(DRIP_SECONDS)
    if rest := data[DRIP_BYTES:]:
        await exchange.write(rest)
