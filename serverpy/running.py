"""The running streams: one record for each, which the log line, `/health` and the metrics read. A record is listed from
the request to the end of its response. `api/responses.py` creates and owns it; `delivery.py` fills it in, and marks it
as admitted once the budget has reserved its bytes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from serverpy.access.key import Key
from serverpy.plan import Plan


class Record:
    """One stream. `client` is the client's address, `host` that of the page with its port, `site` the extractor's name.
    `key` is the API key of the request, if it has one. `cancel` ends the stream: its body is closed, and its connection
    is cut so that the client notices. Its argument becomes `end`."""

    def __init__(self, id: str, client: str, cancel: Callable[[str], None], key: Key | None = None) -> None:
        self.id = id
        self.client = client
        self.key = key
        self.cancel = cancel
        self.host: str | None = None
        self.site: str | None = None
        self.plan: Plan | None = None
        """The plan that is open, or that was tried last, without segment lists."""
        self.status: int | None = None
        """The status of the response; None before the response."""
        self.sent_bytes = 0
        self.is_admitted = False
        """Whether the stream runs or is being opened. If not, the request waits for a slot."""
        self.end: str | None = None
        """The end of the stream: `complete`, `left`, `cancelled`, `revoked` (with its key), `stalled`, `shutdown`, or
        the code of an error."""
        self._started = time.monotonic()

    @property
    def method(self) -> str | None:
        """The method of the plan; None before there is one."""
        return None if self.plan is None else self.plan.method

    @property
    def seconds(self) -> float:
        """Seconds since the request began."""
        return time.monotonic() - self._started


def unlisted() -> Record:
    """Make a record for a caller that does not observe the stream."""
    return Record("", "", lambda _end: None)


class Running:
    """The registry of the running streams of one serving process."""

    def __init__(self) -> None:
        self._records: dict[Record, None] = {}
        self.ends: Counter[str] = Counter()
        """Number of streams that have ended, by `Record.end`."""

    def __iter__(self) -> Iterator[Record]:
        """Yield every record, oldest first."""
        return iter(list(self._records))

    @property
    def streams(self) -> int:
        """Number of streams that run or are being opened."""
        return sum(record.is_admitted for record in self._records)

    def begin(self, id: str, client: str, cancel: Callable[[str], None], key: Key | None = None) -> Record:
        """Add a new record, which is listed until `remove`. `cancel` must end the record's stream."""
        record = Record(id, client, cancel, key)
        self._records[record] = None
        return record

    def remove(self, record: Record) -> None:
        del self._records[record]
        if record.end is not None:
            self.ends[record.end] += 1
