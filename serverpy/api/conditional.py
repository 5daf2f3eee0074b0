"""Conditional and ranged requests for `/stream`, in the order of RFC 9110 §13.2.2: preconditions, If-Range, Range.

ServerPY knows the validators of a stream only after it has opened the stream. So it first opens the stream for the
range, and then evaluates the preconditions against the validators of that stream. If the range cannot be satisfied,
ServerPY opens the stream again without the range, because the 416 response of a media server has no validators, and
sometimes lacks the length of the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from serverpy.access.grant import Grant
from serverpy.body import Head
from serverpy.delivery import Delivery, Stream
from serverpy.errors import RangeNotSatisfiable
from serverpy.plan import StreamRequest
from serverpy.preconditions import Outcome, Preconditions, conditional_fields, evaluate
from serverpy.ranges import ByteRange, parse_range, resolve_range
from serverpy.running import Record
from serverpy.validators import same_validator

_EMPTY = ByteRange(None, 0)


def validators(head: Head) -> tuple[str | None, str | None]:
    """Return the ETag and Last-Modified of a response. Returns None for both if no range of the response's bytes can be
    requested, because the bytes may then differ at each request."""
    return (head.etag, head.last_modified) if head.seekable else (None, None)


@dataclass(frozen=True, slots=True)
class Conditional:
    """The preconditions, the If-Range value and the range in the header fields of a request."""

    preconditions: Preconditions
    range: ByteRange | None
    if_range: str | None

    @classmethod
    def of(cls, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Conditional:
        fields = conditional_fields(headers)
        if_range = fields.pop("if_range", None)
        known = {name: value for name, value in fields.items() if name in Preconditions.__slots__}
        # RFC 9110 §14.2 defines Range only for GET; a request with two Range fields is invalid, so the server ignores
        # them
        ranges = [value for name, value in headers if name == b"range"] if method == "GET" else []
        asked = parse_range(ranges[0].decode("latin-1")) if len(ranges) == 1 else None
        return cls(Preconditions(**known), asked, if_range)

    def outcome(self, head: Head) -> Outcome:
        """Evaluate the preconditions against the validators of the response with this `head`."""
        return evaluate(self.preconditions, *validators(head))

    async def open(self, delivery: Delivery, request: StreamRequest, record: Record, grant: Grant) -> Stream:
        """Open the stream of the range in `request`, or of the whole file if the range is ignored. Raises
        `RangeNotSatisfiable`, with the length, if the range is out of bounds, or another `ServerPYError` if the stream
        cannot be opened."""
        # few media servers support the empty suffix range `bytes=-0`, so ServerPY requests the whole file
        if self.range == _EMPTY:
            return await self._open_whole(delivery, request, record, grant)
        try:
            return await delivery.open(request, record, grant)
        except RangeNotSatisfiable as error:
            if self.if_range is None and not self.preconditions.any and error.size is not None:
                # this call raises unless the media server has refused a valid range
                resolve_range(self.range, error.size)
            return await self._open_whole(delivery, request, record, grant)

    async def _open_whole(self, delivery: Delivery, request: StreamRequest, record: Record, grant: Grant) -> Stream:
        """Open the whole file, to evaluate the conditions that precede the range. Raises `RangeNotSatisfiable` if the
        preconditions and If-Range let the range apply."""
        stream = await delivery.open(replace(request, range=None, if_range=None), record, grant)
        try:
            head = stream.head
            if head.seekable and head.total is not None and self.outcome(head) is Outcome.PROCEED and self._holds(head):
                resolve_range(self.range, head.total)
        except BaseException:
            await stream.aclose()
            raise
        return stream

    def _holds(self, head: Head) -> bool:
        return self.if_range is None or same_validator(self.if_range, head.etag, head.last_modified)
