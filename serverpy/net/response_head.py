"""The parser of the head of an HTTP/1 response. The parser accepts malformed fields like curl and browsers, but
determines the length of the body strictly by RFC 9112 §6.3. The module does no I/O, and never parses requests.

The parser accepts LF instead of CRLF, folded lines, spaces before a colon, control characters in a value, lines that
are not fields (which it drops), `ICY 200 OK`, and the versions 2 and 3 in a status line. If a head states the length of
its body in several ways, the rules of RFC 9112 decide, and the connection is not reused for another request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serverpy.net.bounds import Bound
from serverpy.ranges import parse_length

MAX_FIELDS = 100
"""Maximum number of header fields of a response, as in Python's http.client. Each field is an object, which takes far
more memory than its bytes. Media servers send fewer than 40 fields."""
MAX_INTERIM = 16
"""Maximum number of interim responses (status 1xx) before a final response. This HTTP client needs far more time to
parse an interim response than the media server needs to send it."""
LONGEST_BODY = 10**15
"""Maximum valid length of a body in bytes. Internet radio servers state a length of 2^63-1 or 2^64-1 bytes if they do
not know the length."""
END = re.compile(rb"\n\r?\n")
"""The end of a head. The pattern begins with a literal, because the search for a pattern that begins with an optional
character takes seven times as long."""
REAL_CODINGS = frozenset(
    {"aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "pack200-gzip", "zstd"}
)
"""The content and transfer codings of IANA's registry that change the bytes. `x-gzip` and `x-compress` occur in this
set without the prefix `x-`."""

_STATUS_LINE = re.compile(r"[\t ]*(?:HTTP/([1-3])(?:\.([0-9]))?|ICY)[\t ]+([1-9][0-9]{2})(?![0-9])(.*)", re.IGNORECASE)
_FIELD = re.compile(r"^[\t ]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[\t ]*:(.*)$", re.MULTILINE)
_FOLD = re.compile(rb"\r?\n[ \t]+")
_BLANKED = bytes(byte if byte in b"\t\n" or (byte >= 32 and byte != 127) else 32 for byte in range(256))
"""Table that replaces control characters by spaces, because some clients of the filtering proxy treat control
characters as the end of a line."""
_ENDLESS = re.compile(r"\s*bytes\s+0-[0-9]{16,}/[0-9*]+\s*", re.IGNORECASE)  # from byte 0 to LONGEST_BODY or beyond
_AROUND = " \t\"'"
_LENGTH, _CODING, _CONNECTION = "content-length", "transfer-encoding", "connection"

Field = tuple[str, str]


class BadResponse(Exception):
    """Error: the head of a response cannot be parsed. The message is a sentence that quotes no part of the response.
    `bound` is the bound that the response exceeds, or None if the response is malformed."""

    def __init__(self, message: str, bound: Bound | None = None) -> None:
        super().__init__(message)
        self.bound = bound


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """The head of a response, decoded as Latin-1. Of the fields that state the length of the body, `fields` contains
    only the field that decides. `length` is the length of the body in bytes, or None if the head does not state it. If
    the body is not chunked and `length` is None, the body ends when the connection ends. `reusable` states whether
    another request may follow on the connection."""

    status: int
    line: str
    fields: Sequence[Field]
    chunked: bool
    length: int | None
    reusable: bool


def parse_response(head: bytes) -> ResponseHead:
    """Parse a head, with or without the empty line at its end. Raises BadResponse if the head is malformed."""
    _limit_fields(head.rstrip(b"\r\n").count(b"\n"))
    if b"\n " in head or b"\n\t" in head:
        head = _FOLD.sub(b" ", head)
    line, _, lines = head.translate(_BLANKED).decode("latin-1").partition("\n")
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadResponse("The media server sent a malformed HTTP response.")
    # drop a line that is not a field, as browsers do
    fields = [(name, value.strip(" \t")) for name, value in _FIELD.findall(lines)]
    special: dict[str, list[str]] = {_LENGTH: [], _CODING: [], _CONNECTION: []}
    for name, value in fields:
        if (values := special.get(name.lower())) is not None:
            values.append(value)
    is_later = match[1] in ("2", "3")  # some server scripts write such a status line before a response in HTTP/1.1
    version, status = "1.1" if is_later else f"1.{match[2] or 0}", int(match[3])
    chunked, length = _framing(special[_CODING], special[_LENGTH])
    plain = _is_plain(special[_CODING], special[_LENGTH], length)
    if status in (204, 304) or status < 200:
        chunked, length = False, 0
    return ResponseHead(
        status=status,
        line=f"HTTP/{version} {match[3]}{match[4].rstrip()}",
        fields=fields if plain else _with_one_framing(fields, chunked, length),
        chunked=chunked,
        length=length,
        reusable=plain
        and (chunked or length is not None)
        and not is_later
        and _stays_open(version, special[_CONNECTION]),
    )


def check_incomplete(head: bytes) -> None:
    """Raise BadResponse if `head`, whose end has not arrived yet, already has too many header fields."""
    _limit_fields(head.count(b"\n") - 1)  # the first line is the status line


def _limit_fields(number: int) -> None:
    if number > MAX_FIELDS:
        raise BadResponse("The media server sent too many header fields.", "fields")


def tokens(values: Iterable[str]) -> list[str]:
    """Return the members of a list-valued field, in lower case and without parameters (RFC 9110 §5.6.1). Drops quotes
    around a member, because a body with the coding `"gzip"`, in quotes, is compressed, too."""
    members = (member.partition(";")[0].strip(_AROUND).lower() for value in values for member in value.split(","))
    return [member for member in members if member]


def codings_of(values: Iterable[str]) -> tuple[str, ...]:
    """Return the content codings of a body, in the order in which the media server applied them (RFC 9110 §8.4).
    Ignores words that are not codings (`none`, `UTF-8`, `aws-chunked`), as browsers do."""
    return tuple(name for name in (token.removeprefix("x-") for token in tokens(values)) if name in REAL_CODINGS)


def is_endless(content_range: str | None, content_length: str | None) -> bool:
    """Return whether a 206 without a Content-Length claims more bytes than any body has (`bytes
    0-18446744073709551614/*`). The body of such a response is a whole internet radio stream."""
    return content_length is None and _ENDLESS.fullmatch(content_range or "") is not None


def _framing(codings: list[str], lengths: list[str]) -> tuple[bool, int | None]:
    """Return whether the body is chunked, and the length of the body in bytes (RFC 9112 §6.3). The length is None if
    the body is chunked, or if the head states no length, no number, or more than LONGEST_BODY. Ignores `identity` and
    words that are not codings. Raises BadResponse if the body has a transfer coding that was not requested, or if the
    head states different lengths, because either length might truncate the body."""
    found = [token.removeprefix("x-") for token in tokens(codings)]
    if any(coding in REAL_CODINGS for coding in found):
        raise BadResponse("The media server sent a transfer coding that was not requested.")
    different = {parse_length(member) for member in tokens(lengths)}
    if len(different) > 1:
        raise BadResponse("The media server sent several lengths for one body.")
    length = next(iter(different), None)
    is_chunked = "chunked" in found
    return is_chunked, None if is_chunked or length is None or length > LONGEST_BODY else length


def _is_plain(codings: list[str], lengths: list[str], length: int | None) -> bool:
    """Return whether the head states the length of the body once, and in the usual way. Otherwise another parser on the
    path might find a different end of the body, and treat the bytes after that end as the next response (RFC 9112
    §11.1, §11.2)."""
    if codings:
        return not lengths and len(codings) == 1 and codings[0].lower() == "chunked"
    return not lengths or lengths == [str(length)]


def _with_one_framing(fields: Iterable[Field], chunked: bool, length: int | None) -> list[Field]:
    """Return `fields` with at most one field that states the length of the body: if `chunked` is true, the first
    Transfer-Encoding field, with the value `chunked`; otherwise the first Content-Length field, with the value
    `length`. No such field remains if the length is unknown."""
    counts, value = (_CODING, "chunked") if chunked else (_LENGTH, str(length))
    missing = chunked or length is not None
    kept: list[Field] = []
    for field in fields:
        name = field[0].lower()
        if name not in (_LENGTH, _CODING):
            kept.append(field)
        elif missing and name == counts:
            kept.append((field[0], value))
            missing = False
    return kept


def _stays_open(version: str, connection: list[str]) -> bool:
    """Return whether the media server keeps the connection open after this response (RFC 9112 §9.3)."""
    options = tokens(connection)
    return "close" not in options and (version > "1.0" or "keep-alive" in options)
