"""The registry of the running streams, with one record for each stream. The log, `/streams`, `/health` and the metrics
show the records. A record is in the registry from the request to the end of the response. `api/responses.py` creates
and removes the record; `delivery.py` fills it in, and marks it as admitted when the budget has reserved memory for the
stream."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from serverpy.access.key import Key
from serverpy.plan import Plan


class Record:
    """The facts about one stream. `client` is the client's address, `account` the account to which the stream counts
    (`Grant.account`), `host` the host of the page with its port, `site` the name of the extractor. `key` is the API key
    of the request, or None. `cancel` ends the stream: its body is closed, and its connection is cut so that the client
    notices. The argument of `cancel` becomes `end`."""

    def __init__(self, id: str, client: str, cancel: Callable[[str], None], key: Key | None = None) -> None:
        self.id = id
        self.client = client
        self.key = key
        self.cancel = cancel
        self.account = ""
        self.host: str | None = None
        self.site: str | None = None
        self.plan: Plan | None = None
        """The plan that was tried last, without the segment lists of its tracks."""
        self.status: int | None = None
        """The status code of the response; None before the response begins."""
        self.sent_bytes = 0
        self.given_bytes = 0
        """Number of bytes of the body that the response has passed to the ASGI server, including the chunk that the
        ASGI server is still sending."""
        self.unsent_bytes: Callable[[], int] = _nothing_unsent
        """Function that returns how many of the `given_bytes` the client has not received yet. Returns 0 if the
        operating system has accepted all of them, so that the server does not wait for the client."""
        self.is_admitted = False
        """Whether the budget has admitted the stream, so that it runs or is being opened. Otherwise the request still
        waits until another stream ends or memory is free."""
        self.end: str | None = None
        """The way the stream ended; None while it runs. The value is `complete`, `left` (the client disconnected),
        `cancelled`, `revoked` (its key is no longer valid), `stalled`, `slow` (its client was too slow while others
        waited), `shutdown`, or the code of an error."""
        self._started = time.monotonic()

    @property
    def method(self) -> str | None:
        """The method of the plan that was tried last; None before the first plan."""
        return None if self.plan is None else self.plan.method

    @property
    def seconds(self) -> float:
        """Number of seconds since the request began."""
        return time.monotonic() - self._started


def _nothing_unsent() -> int:
    return 0


def unlisted() -> Record:
    """Make a record that is in no registry, for a caller that does not observe the stream."""
    return Record("", "", lambda _end: None)


class Running:
    """The registry of the running streams of one server process."""

    def __init__(self) -> None:
        self._records: dict[Record, None] = {}
        self.ends: Counter[str] = Counter()
        """Number of streams that have ended, for each value of `Record.end`."""

    def __iter__(self) -> Iterator[Record]:
        """Return an iterator over all records, oldest first."""
        return iter(list(self._records))

    @property
    def streams(self) -> int:
        """Number of streams that run or are being opened."""
        return sum(record.is_admitted for record in self._records)

    def begin(self, id: str, client: str, cancel: Callable[[str], None], key: Key | None = None) -> Record:
        """Add a new record to the registry, which lists it until `remove` is called. `cancel` must end the stream of
        the record."""
        record = Record(id, client, cancel, key)
        self._records[record] = None
        return record

    def remove(self, record: Record) -> None:
        del self._records[record]
        if record.end is not None:
            self.ends[record.end] += 1
