"""Heads of HTTP/1 messages in a forward proxy. This module parses request heads strictly and response heads leniently
(`response_head.py`), and rewrites them for the next hop (RFC 9112 §3.2, RFC 9110 §7.6.1). The module does no I/O and
does not handle bodies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from serverpy.net.response_head import END, BadResponse, ResponseHead, codings_of, parse_response

MAX_HEAD_BYTES = 65536
REFUSED_HEADER = "X-ServerPY-Refused"
FORBIDDEN_REASON = "Forbidden Target"
"""The reason phrase of the proxy's 403 for a forbidden address. By this phrase, a program that reports only the phrase
of a response still distinguishes this 403 from a 403 of a site."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%s) ([\x21-\x7e]+) (HTTP/1\.[01])" % _TOKEN)
_FIELD = re.compile(rb"(%s):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)" % _TOKEN)
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:/?#@\\]+)(?::([0-9]{1,5}))?")
_BARE_LITERAL = re.compile(rb"([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*):([0-9]{1,5})")

# Hop-by-hop fields (RFC 9110 §7.6.1). Transfer-Encoding is not among them, because the proxy forwards bodies in the
# transfer coding in which they arrived.
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization"}
    | {b"proxy-connection", b"te", b"upgrade"}
)
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OURS = frozenset({REFUSED_HEADER.lower().encode()})


Field = tuple[bytes, bytes]


class BadHead(Exception):
    """Error: the proxy does not forward a head, because it is malformed or not allowed. The message is a sentence that
    quotes no part of the head."""


class ForbiddenScheme(BadHead):
    """Error: a well-formed request in absolute form requests a URL whose scheme is not http."""


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """A request to the proxy. `authority` is the host and port as written in the absolute URL of the request. `forward`
    is the head to send to the origin server. For CONNECT, `authority` is empty and `forward` is None."""

    host: str
    port: int
    authorization: bytes
    forward: bytes | None
    authority: bytes = b""

    def absolute(self, headers: Iterable[tuple[str, str]]) -> bytes:
        """Return the head `forward` in absolute form, with the additional `headers` for the next proxy (RFC 9112
        §3.2.2)."""
        assert self.forward is not None
        method, rest = self.forward.removesuffix(b"\r\n").split(b" ", 1)
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers).encode("ascii")
        return b"%s http://%s%s%s\r\n" % (method, self.authority, rest, extra)


def find_end(data: bytearray, searched: int) -> int | None:
    """Return the length, in bytes, of the head with which `data` begins. The caller has already searched the first
    `searched` bytes for the end of the head. Returns None if the head is incomplete."""
    match = END.search(data, max(0, searched - 3))
    return match.end() if match else None


def parse_request(head: bytes) -> ProxyRequest:
    """Parse the head of a request to the proxy: CONNECT, or a request in absolute form. Raises BadHead if the head is
    malformed."""
    line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise BadHead("Malformed request line.")
    method, target, version = match.groups()
    fields = [_parse_field(text) for text in lines]
    authorization = next((value for name, value in fields if name.lower() == b"proxy-authorization"), b"")
    if method == b"CONNECT":
        bare = _BARE_LITERAL.fullmatch(target)  # http.client before Python 3.12 sends IPv6 without brackets
        host, port = _split_authority(b"[%s]:%s" % bare.groups() if bare else target, default_port=None)
        return ProxyRequest(host, port, authorization, None)
    authority, path = _split_target(target)
    host, port = _split_authority(authority, default_port=80)
    forward = _join(b"%s %s %s" % (method, path, version), [(b"Host", authority), *_origin_fields(fields)])
    return ProxyRequest(host, port, authorization, forward, authority)


def _parse_field(text: bytes) -> Field:
    match = _FIELD.fullmatch(text)
    if match is None:
        raise BadHead("Malformed header field.")
    return match[1], match[2].rstrip(b" \t")


def _split_target(target: bytes) -> tuple[bytes, bytes]:
    """Split a request target in absolute form into authority and origin form (RFC 9112 §3.2)."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or not re.fullmatch(rb"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise BadHead("A proxy request needs an absolute URL.")
    if scheme.lower() != b"http":
        raise ForbiddenScheme("Only http and https URLs are allowed.")
    authority = re.split(rb"[/?#]", rest, maxsplit=1)[0]
    path = rest[len(authority) :].partition(b"#")[0]
    return authority, path if path.startswith(b"/") else b"/" + path


def _split_authority(authority: bytes, default_port: int | None) -> tuple[str, int]:
    match = _AUTHORITY.fullmatch(authority)
    port = int(match[2]) if match and match[2] else default_port
    if match is None or port is None or not 0 < port < 65536:
        raise BadHead("The request has an invalid host or port.")
    return match[1].decode("ascii").strip("[]"), port


def _origin_fields(fields: list[Field]) -> Iterator[Field]:
    """Return the header fields to send to the origin server. The proxy writes its own Host field (RFC 9112 §3.2.2), and
    refuses a request that states the length of its body in two ways (§6.1)."""
    names = [name.lower() for name, _ in fields]
    if sum(names.count(name) for name in _FRAMING) > 1:
        raise BadHead("The length of the request body is ambiguous: send Content-Length or Transfer-Encoding, once.")
    return (field for field in _end_to_end(fields) if field[0].lower() != b"host")


def _end_to_end(fields: Iterable[Field]) -> Iterator[Field]:
    kept = list(fields)
    named = {
        token.strip().lower() for name, value in kept if name.lower() == b"connection" for token in value.split(b",")
    }
    dropped = _HOP_BY_HOP | (named - _FRAMING)
    return (field for field in kept if field[0].lower() not in dropped)


def rewrite_response(head: bytes) -> tuple[int, bytes]:
    """Return the status of an origin server's response, and the response head for the proxy's client. That head has
    none of the errors that strict parsers reject, states the length of the body in one way, and has no hop-by-hop
    fields. Unless the response is interim, the head has `Connection: close`, because the proxy never reads a second
    request on a connection. The head of a redirect states that there is no body. Raises BadHead if the head is
    malformed."""
    parsed = _parsed(head)
    fields = (field for field in _end_to_end(_encoded(parsed)) if field[0].lower() not in _OURS)
    return parsed.status, _join(parsed.line.encode("latin-1"), fields, closing=parsed.status >= 200)


def repair_response(head: bytes) -> tuple[int, bytes]:
    """Return the status and the head of a response. The returned head states the length of the body in one way, and has
    none of the errors that strict parsers reject. The head of a redirect states that there is no body. Raises BadHead
    if the head is malformed."""
    parsed = _parsed(head)
    return parsed.status, _join(parsed.line.encode("latin-1"), _encoded(parsed), closing=False)


def _encoded(head: ResponseHead) -> list[Field]:
    """Return the fields of a head as bytes. The fields of a redirect state that it has no body and is the last response
    on its connection: HTTP clients read the body of a redirect to its end before they follow the redirect, and the body
    of a hostile redirect may be endless."""
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in _with_plain_codings(head.fields)]
    if head.status not in _REDIRECTS or not any(name.lower() == b"location" for name, _ in fields):
        return fields
    kept = [field for field in fields if field[0].lower() not in (*_FRAMING, b"connection")]
    return [*kept, (b"Content-Length", b"0"), (b"Connection", b"close")]


def _with_plain_codings(fields: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """Return `fields` with at most one Content-Encoding field, which contains only the names of content codings in the
    form that HTTP clients expect: in lower case, without quotes and without the prefix `x-`."""
    given = [value for name, value in fields if name.lower() == "content-encoding"]
    if not given:
        return fields
    codings = codings_of(given)
    kept = [field for field in fields if field[0].lower() != "content-encoding"]
    return [*kept, ("Content-Encoding", ", ".join(codings))] if codings else kept


def _parsed(head: bytes) -> ResponseHead:
    try:
        parsed = parse_response(head)
    except BadResponse as error:
        raise BadHead(str(error)) from error
    if parsed.status == 101:  # a 101 is invalid, because the client requested no upgrade
        raise BadHead("The media server sent a malformed HTTP response.")
    if parsed.status == 300 and any(name.lower() == "location" for name, _ in parsed.fields):
        # curl and ServerPY's own client follow a 300 whose Location names the preferred choice (RFC 9110 §15.4.1), but
        # urllib does not
        return replace(parsed, status=302, line=parsed.line.replace("300", "302", 1))
    return parsed


def _join(line: bytes, fields: Iterable[Field], *, closing: bool = True) -> bytes:
    closed = [(b"Connection", b"close")] if closing else []
    return b"".join([line, b"\r\n", *(b"%s: %s\r\n" % field for field in [*fields, *closed]), b"\r\n"])


def answer(status: int, reason: str, code: str, message: str, *extra: str) -> bytes:
    """Return a complete response of the proxy itself, with `Connection: close`. `code` is the error code in the header
    `X-ServerPY-Refused`."""
    body = f"{message}\n".encode()
    head = (
        f"HTTP/1.1 {status} {reason}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        f"{REFUSED_HEADER}: {code}",
        "Connection: close",
        *extra,
    )
    return "\r\n".join(head).encode("ascii") + b"\r\n\r\n" + body
