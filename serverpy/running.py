"""The running streams: one record for each, which the log line, `/health` and the metrics read. A record is listed from
the request to the end of its response. `api/responses.py` creates and owns it; `delivery.py` fills it in, and marks it
as admitted once the budget has reserved its bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from serverpy.plan import Plan


class Record:
    """One stream. `client` is the client's address, `account` who pays (`Grant.account`), `host` the host of the page
    with its port, `site` the extractor's name.
    `cancel` ends the stream: its body is closed, and its connection is cut so that the client notices."""

    def __init__(self, id: str, client: str, cancel: Callable[[], None]) -> None:
        self.id = id
        self.client = client
        self.cancel = cancel
        self.account = ""
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
        """The end of the stream: `complete`, `left`, `cancelled`, `stalled`, `shutdown`, or the code of an error."""
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
    return Record("", "", lambda: None)


class Running:
    """The registry of the running streams of one serving process."""

    def __init__(self) -> None:
        self._records: dict[Record, None] = {}

    def __iter__(self) -> Iterator[Record]:
        """Yield every record, oldest first."""
        return iter(list(self._records))

    @property
    def streams(self) -> int:
        """Number of streams that run or are being opened."""
        return sum(record.is_admitted for record in self._records)

    def begin(self, id: str, client: str, cancel: Callable[[], None]) -> Record:
        """Add a new record, which is listed until `remove`. `cancel` must end the record's stream."""
        record = Record(id, client, cancel)
        self._records[record] = None
        return record

    def remove(self, record: Record) -> None:
        del self._records[record]
