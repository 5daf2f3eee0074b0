"""The response of the sample site to a request for a media file, with ranges, validators and faults."""

from __future__ import annotations

import secrets
from email.utils import formatdate
from hashlib import sha256

from serverpy.sample.content import Content
from serverpy.sample.failures import pour_until, refuse
from serverpy.sample.faults import Faults, Tokens, pour
from serverpy.sample.ranges import Span, asked_span, still_valid
from serverpy.sample.wire import Exchange

NO_FAULTS = Faults()


async def serve(exchange: Exchange, content: Content, faults: Faults = NO_FAULTS, tokens: Tokens | None = None) -> None:
    """Respond to a GET or HEAD of `content`. Checks the token of the request if the faults let tokens expire."""
    if faults.spares_alpn and exchange.connection.protocol is not None:
        faults = NO_FAULTS
    if faults.malformed:
        await exchange.connection.babble()
        return
    if faults.delay:
        await exchange.connection.pause(faults.delay)
    if faults.status is not None:
        await exchange.refuse(faults.status, "status set by the fault in the address", _retry_after(faults))
        return
    purse = None
    if faults.expire is not None and tokens is not None:
        purse = (tokens, exchange.request.query.get("token", ""))
        if not tokens.left(purse[1]):
            await exchange.refuse(403, "the token is unknown or used up")
            return
    etag = f'"{secrets.token_hex(8)}"' if faults.fresh_etag else etag_of(content)
    last_modified = formatdate(content.modified, usegmt=True)
    headers = {"Content-Type": content.type, "ETag": etag, "Last-Modified": last_modified}
    headers |= {f"X-Field-{number}": "more" for number in range(faults.fields)}
    if not faults.ignores_range:
        headers["Accept-Ranges"] = "bytes"
    span = _span(exchange, content.size, etag, last_modified, faults)
    if span and not span.length:
        await exchange.reply(416, headers={"Content-Range": f"bytes */{content.size}"})
        return
    whole = Span(0, content.size)
    if faults.fails and faults.fails.refuses(span or whole, content.size):
        await refuse(exchange, faults.fails)
        return
    if span:
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{content.size}"
    await _answer(exchange, 206 if span else 200, headers, span or whole, content, faults, purse)


def _retry_after(faults: Faults) -> dict[str, str]:
    return {} if faults.retry_after is None else {"Retry-After": str(faults.retry_after)}


def etag_of(content: Content) -> str:
    """Return a strong ETag for `content`, made of its size, date and type. The bytes of sample media change only
    together with one of these values."""
    return f'"{sha256(f"{content.size} {content.modified} {content.type}".encode()).hexdigest()[:16]}"'


def _span(exchange: Exchange, size: int, etag: str, last_modified: str, faults: Faults) -> Span | None:
    request = exchange.request
    if request.method != "GET" or faults.ignores_range:
        return None
    if not still_valid(request.headers.get("if-range"), etag, last_modified):
        return None
    span = asked_span(request.headers.get("range"), size)
    return Span(0, size) if span and faults.partial_from_zero else span


async def _answer(
    exchange: Exchange,
    status: int,
    headers: dict[str, str],
    span: Span,
    content: Content,
    faults: Faults,
    purse: tuple[Tokens, str] | None,
) -> None:
    framing = faults.fails.framing if faults.fails else faults.framing
    await exchange.start(status, headers, span.length, framing)
    if exchange.request.method == "HEAD":
        await exchange.finish()
        return
    pieces = content.pieces(span.start, span.stop)
    if faults.fails:
        await pour_until(exchange, pieces, span, faults.fails.offset(content.size), faults.fails)
    else:
        await pour(exchange, pieces, faults, purse)
