"""The head of an HTTP/1 response, read as leniently as curl and browsers read it, and its framing, read in the one safe
way (RFC 9112 §6.3). Pure: bytes in, values out. Never used for requests.

Accepted: LF for CRLF, folded lines, blanks before a colon, control characters in a value, lines that are not fields
(which are dropped), `ICY 200 OK`. A head that states the length of its body in several ways is read by the rules of RFC
9112, and its connection serves no other request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serverpy.ranges import parse_length

MAX_FIELDS = 200
"""Maximum number of fields: each field is held as an object, which takes far more memory than its bytes. Media servers
send fewer than 40."""
LONGEST_BODY = 10**15
"""Maximum valid length of a body in bytes. Internet radio claims 2^63-1 or 2^64-1 bytes to mean that the length is
unknown."""
END = re.compile(rb"\r?\n\r?\n")
REAL_CODINGS = frozenset(
    {"aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "pack200-gzip", "zstd"}
)
"""The codings of IANA's registry that change the bytes (`x-gzip` and `x-compress` are written without `x-`)."""

_STATUS_LINE = re.compile(r"[\t ]*(?:HTTP/(1)(?:\.([0-9]))?|ICY)[\t ]+([1-9][0-9]{2})(?![0-9])(.*)", re.IGNORECASE)
_FIELD = re.compile(r"^[\t ]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[\t ]*:(.*)$", re.MULTILINE)
_FOLD = re.compile(rb"\r?\n[ \t]+")
_BLANKED = bytes(byte if byte in b"\t\n" or (byte >= 32 and byte != 127) else 32 for byte in range(256))
"""Translation of control characters to blanks: parsers that read the head later treat some control characters as the
end of a line."""
_ENDLESS = re.compile(r"\s*bytes\s+0-[0-9]{16,}/[0-9*]+\s*", re.IGNORECASE)  # LONGEST_BODY bytes or more
_LENGTH, _CODING, _CONNECTION = "content-length", "transfer-encoding", "connection"

Field = tuple[str, str]


class BadResponse(Exception):
    """A response that cannot be read. The message is a sentence that quotes no part of the response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """The head of a response, decoded as Latin-1. `fields` has at most one field for the framing, which is the field
    that determines the framing.

    `length` is that of the body; None if the head does not state it. A body that is neither chunked nor has a length
    ends with its connection. `reusable` is whether another request may follow on the connection."""

    status: int
    line: str
    fields: Sequence[Field]
    chunked: bool
    length: int | None
    reusable: bool


def parse_response(head: bytes) -> ResponseHead:
    """Parse a head, with or without the empty line at its end. Raises BadResponse if it is malformed."""
    if head.count(b"\n") > MAX_FIELDS + 2:
        raise BadResponse("The media server sent too many header fields.")
    if b"\n " in head or b"\n\t" in head:
        head = _FOLD.sub(b" ", head)
    line, _, lines = head.translate(_BLANKED).decode("latin-1").partition("\n")
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadResponse("The media server sent a malformed HTTP response.")
    # A line that is not a field is dropped, as browsers do.
    fields = [(name, value.strip(" \t")) for name, value in _FIELD.findall(lines)]
    special: dict[str, list[str]] = {_LENGTH: [], _CODING: [], _CONNECTION: []}
    for name, value in fields:
        if (values := special.get(name.lower())) is not None:
            values.append(value)
    version, status = f"{match[1] or 1}.{match[2] or 0}", int(match[3])
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
        reusable=plain and (chunked or length is not None) and _stays_open(version, special[_CONNECTION]),
    )


def tokens(values: Iterable[str]) -> list[str]:
    """Return the members of a list-valued field, in lower case and without parameters (RFC 9110 §5.6.1)."""
    members = (member.partition(";")[0].strip().lower() for value in values for member in value.split(","))
    return [member for member in members if member]


def is_endless(content_range: str | None, content_length: str | None) -> bool:
    """Return whether a partial response without a length claims more bytes than any body has (`bytes
    0-18446744073709551614/*`), which means that it carries a whole Internet radio stream."""
    return content_length is None and _ENDLESS.fullmatch(content_range or "") is not None


def _framing(codings: list[str], lengths: list[str]) -> tuple[bool, int | None]:
    """Return whether the body is chunked, and its length if it is not (RFC 9112 §6.3). Ignores `identity` and words
    that are not codings. Returns None for a length that is not a number, or too large for any body. Raises BadResponse
    if the body has a coding that was not requested, or if there are different lengths: each of them might cut the body
    short."""
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
    """Return whether the head states the framing once, and in the usual way. Otherwise another parser on the path might
    see another end of the body, and treat the following bytes as the next response (RFC 9112 §11.1, §11.2)."""
    if codings:
        return not lengths and len(codings) == 1 and codings[0].lower() == "chunked"
    return not lengths or lengths == [str(length)]


def _with_one_framing(fields: Iterable[Field], chunked: bool, length: int | None) -> list[Field]:
    """Return the fields, with only the first field for the framing that counts."""
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
    """Return whether the server keeps the connection (RFC 9112 §9.3)."""
    options = tokens(connection)
    return "close" not in options and (version > "1.0" or "keep-alive" in options)
