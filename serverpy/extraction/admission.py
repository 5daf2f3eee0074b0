"""The limit on simultaneous extractions (MAX_EXTRACTIONS), and the queue of the extractions that exceed it.

An extraction holds one of MAX_EXTRACTIONS places from its start until its end or its timeout, also while it waits for
bytes. The extractions of one client hold at most half of the places, and those of one host at most a quarter. So a busy
client or a slow host cannot occupy all places.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

from serverpy.errors import Busy
from serverpy.extraction.values import OwnAddress

BUSY = "Too many extractions are in progress. Try again later."


@dataclass(frozen=True, slots=True)
class Applicant:
    """The account and the host that an extraction counts against: the account of the client that requests it, and the
    host of the page. The account "" (the operator) has no limit of its own. For an address without a host, which only
    yt-dlp knows, `host` is the address's scheme."""

    client: str
    host: str

    @classmethod
    def of(cls, client: str, url: str) -> Applicant:
        own = OwnAddress.read(url)
        address = urlsplit(url if own is None else own.address)
        return cls(client, (address.hostname or address.scheme).rstrip("."))


class Admission:
    """The places for at most `most` simultaneous extractions, in one event loop. Free places go to waiting extractions
    in the order of their arrival, but extractions whose client or host already holds its maximum of places are passed
    over."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_of_client = max(1, most // 2)
        self._most_of_host = max(1, most // 4)
        self._clients = Counter[str]()
        self._hosts = Counter[str]()
        self._waiting: dict[asyncio.Future[None], Applicant] = {}
        self.taken = 0
        self.refused = 0
        """Number of extractions that were refused because no place became free in time."""

    def __repr__(self) -> str:
        return f"<Admission {self.taken}/{self._most}, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def enter(self, applicant: Applicant, seconds: float) -> None:
        """Take one of the places for simultaneous extractions for `applicant`. The caller must return the place with
        `leave`. Raises `Busy` if no place becomes free within `seconds`."""
        if self._fits(applicant):
            self._take(applicant)
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting[place] = applicant
        try:
            async with asyncio.timeout(seconds):
                await place
        except BaseException as error:
            # the place was assigned in the iteration of the event loop in which the wait ended
            if place.done() and not place.cancelled():
                self.leave(applicant)
            if isinstance(error, TimeoutError):
                self.refused += 1
                raise Busy(BUSY) from None
            raise
        finally:
            self._waiting.pop(place, None)

    def leave(self, applicant: Applicant) -> None:
        """Return a place of `applicant`, and admit waiting extractions to the free places."""
        self.taken -= 1
        for counter, name in ((self._clients, applicant.client), (self._hosts, applicant.host)):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]
        self._admit()

    def _fits(self, applicant: Applicant) -> bool:
        return (
            self.taken < self._most
            and (not applicant.client or self._clients[applicant.client] < self._most_of_client)
            and self._hosts[applicant.host] < self._most_of_host
        )

    def _take(self, applicant: Applicant) -> None:
        self.taken += 1
        self._clients[applicant.client] += 1
        self._hosts[applicant.host] += 1

    def _admit(self) -> None:
        for place, applicant in list(self._waiting.items()):
            if not place.done() and self._fits(applicant):
                del self._waiting[place]
                self._take(applicant)
                place.set_result(None)
