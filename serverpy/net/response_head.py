"""The head of an HTTP/1 response, read as leniently as curl and browsers read it, and its framing, read in the one safe
way (RFC 9112 §6.3). Pure: bytes in, values out. Never used for requests.

Accepted: LF for CRLF, folded lines, blanks before a colon, control characters in a value, lines that are no field
(which are dropped), `ICY 200 OK`. A head that tells the length of its body in several ways is read by the rules of
RFC 9112, and its connection serves no other request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from serverpy.ranges import parse_length

MAX_FIELDS = 200
"""Each field is held as an object, which takes far more memory than its bytes. Media servers send fewer than 40."""
LONGEST_BODY = 10**15
"""A longer body is none: Internet radio claims 2^63-1 or 2^64-1 bytes, and means that the length is unknown."""
END = re.compile(rb"\r?\n\r?\n")
REAL_CODINGS = frozenset(
    {"aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "pack200-gzip", "zstd"}
)
"""The codings of IANA's registry that change the bytes (`x-gzip` and `x-compress` are written without `x-`)."""

_STATUS_LINE = re.compile(rb"(?:HTTP/(1)(?:\.([0-9]))?|ICY)[ \t]+([1-9][0-9]{2})(?![0-9])(.*)", re.DOTALL | re.I)
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_LINE_END = re.compile(rb"\r?\n")
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_BLANKED = bytes(32 if byte < 32 or byte == 127 else byte for byte in range(256))
"""Translation of control characters to blanks: parsers behind us take some of them for the end of a line."""

Field = tuple[bytes, bytes]


class BadResponse(Exception):
    """A response that cannot be read. The message is a sentence without anything of the response in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """The head of a response. `fields` has at most one field for the framing, the one that counts.

    `length` is that of the body, None if the head does not tell. A body that is neither chunked nor has a length ends
    with its connection. `reusable` tells whether another request may follow on the connection."""

    status: int
    line: bytes
    fields: tuple[Field, ...]
    chunked: bool
    length: int | None
    reusable: bool


def parse_response(head: bytes) -> ResponseHead:
    """Parse a head, with or without the empty line at its end. Raises BadResponse."""
    line, *lines = _LINE_END.split(_FOLD.sub(b" ", END.sub(b"", head)), MAX_FIELDS + 1)
    match = _STATUS_LINE.fullmatch(line.translate(_BLANKED))
    if match is None:
        raise BadResponse("The media server sent a malformed HTTP response.")
    if len(lines) > MAX_FIELDS:
        raise BadResponse("The media server sent too many header fields.")
    version = (match[1] or b"1") + b"." + (match[2] or b"0")
    fields = tuple(_fields(lines))
    status, codings = int(match[3]), transfer_codings(fields)
    chunked, lengths = "chunked" in codings, _lengths(fields)
    length = next(iter(lengths)) if lengths and not chunked else None
    if status in (204, 304) or status < 200:
        chunked, length = False, 0
    return ResponseHead(
        status=status,
        line=b"HTTP/%s %s%s" % (version, match[3], match[4].rstrip()),
        fields=tuple(_with_one_framing(fields, chunked, length)),
        chunked=chunked,
        length=length,
        reusable=(chunked or length is not None) and _stays_open(version, fields) and _is_plain(fields, chunked),
    )


def _fields(lines: Iterable[bytes]) -> Iterator[Field]:
    """Yield the fields. A line without a colon or with an invalid name is dropped, as browsers do."""
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.strip()
        if colon and _NAME.fullmatch(name):
            yield name, value.translate(_BLANKED).strip()


def tokens(values: Iterable[str]) -> list[str]:
    """Return the members of a list-valued field, in lower case and without parameters (RFC 9110 §5.6.1)."""
    members = (member.partition(";")[0].strip().lower() for value in values for member in value.split(","))
    return [member for member in members if member]


def _values(fields: Iterable[Field], name: bytes) -> list[str]:
    return [value.decode("latin-1") for field, value in fields if field.lower() == name]


def transfer_codings(fields: Iterable[Field]) -> list[str]:
    """Return the transfer codings that count: `chunked` or none. `identity` and words that are no coding are ignored.
    Raises BadResponse if the body has another coding, or if `chunked` is not the last (RFC 9112 §6.1)."""
    found = [token.removeprefix("x-") for token in tokens(_values(fields, b"transfer-encoding"))]
    codings = [token for token in found if token == "chunked" or token in REAL_CODINGS]
    if any(coding != "chunked" for coding in codings):
        raise BadResponse("The media server sent a transfer coding that was not requested.")
    return codings


def _lengths(fields: Iterable[Field]) -> set[int | None]:
    """Return the lengths that Content-Length gives: one, or (if there is no such field) none. A length that is no
    number, or too large for any file, is None: the body then ends with the connection. Raises BadResponse if there are
    different ones: each of them might cut the body short."""
    lengths = {parse_length(member) for member in tokens(_values(fields, b"content-length"))}
    if len(lengths) > 1:
        raise BadResponse("The media server sent several lengths for one body.")
    return {None if length is None or length > LONGEST_BODY else length for length in lengths}


def _with_one_framing(fields: Iterable[Field], chunked: bool, length: int | None) -> Iterator[Field]:
    """Yield the fields, of those for the framing only the first that counts."""
    counts, value = (b"transfer-encoding", b"chunked") if chunked else (b"content-length", b"%d" % (length or 0))
    wanted = chunked or length is not None
    for field in fields:
        name = field[0].lower()
        if name not in _FRAMING:
            yield field
        elif wanted and name == counts:
            yield field[0], value
            wanted = False


def _is_plain(fields: Iterable[Field], chunked: bool) -> bool:
    """Return whether the framing is given once and in one way: otherwise another parser on the path might see another
    end, and take what follows for the next response (RFC 9112 §11.1, §11.2)."""
    framing = [(name.lower(), value.lower()) for name, value in fields if name.lower() in _FRAMING]
    return not framing or (len(framing) == 1 and (not chunked or framing[0] == (b"transfer-encoding", b"chunked")))


def _stays_open(version: bytes, fields: Iterable[Field]) -> bool:
    """Return whether the server keeps the connection (RFC 9112 §9.3)."""
    options = tokens(_values(fields, b"connection"))
    return "close" not in options and (version > b"1.0" or "keep-alive" in options)
