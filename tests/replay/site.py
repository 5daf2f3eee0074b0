"""The base class of replayed sites: signed media addresses that can expire, and the media behind them."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from serverpy.sample.make import ensure_media
from tests.replay.messages import PLAYLIST, Request, Response, in_range, refusal

_SIGNATURE = re.compile(r"sig(\d+)")
_TYPES = {
    ".mp4": "video/mp4",
    ".m4s": "video/mp4",
    ".ts": "video/mp2t",
    ".mp3": "audio/mpeg",
    ".jpg": "image/jpeg",
    ".m3u8": PLAYLIST,
}


class Site:
    """A site. `pages` maps names for its pages to their URLs, and `hosts` are the hosts for which `answer` returns
    responses.

    The media addresses of most sites contain a signature (`sign`), and each extraction gets a new one, until
    `expire` or `expiring_after` makes them invalid."""

    pages: ClassVar[dict[str, str]]
    hosts: ClassVar[tuple[str, ...]]
    stale_status: ClassVar[int] = 403
    """Status of the response to a media address whose signature has expired."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._issued = 0
        self._expired = 0
        self._left: int | None = None

    def answer(self, request: Request) -> Response | None:
        """Return the response to `request`. None means 404."""
        raise NotImplementedError

    def sign(self) -> str:
        """Return a new signature, which is valid until it expires."""
        with self._lock:
            self._issued += 1
            return f"sig{self._issued}"

    def signature(self, request: Request) -> str:
        """Return the signature in the URL of `request`, for the addresses in a manifest."""
        return match[0] if (match := _SIGNATURE.search(request.url)) else ""

    @property
    def issued(self) -> int:
        """Number of signatures so far, which is the number of extractions of the pages of a site that signs its
        media."""
        with self._lock:
            return self._issued

    def expire(self) -> None:
        """Make all signatures invalid."""
        with self._lock:
            self._expired = self._issued

    @contextmanager
    def expiring_after(self, nbytes: int) -> Iterator[None]:
        """Make all signatures invalid after `nbytes` of media, in the middle of a response, unless the block ends
        before."""
        with self._lock:
            self._left = nbytes
        try:
            yield
        finally:
            with self._lock:
                self._left = None

    def refused(self, request: Request) -> Response | None:
        """Return the refusal of a request whose URL has no valid signature, otherwise None."""
        match = _SIGNATURE.search(request.url)
        with self._lock:
            is_valid = match is not None and int(match[1]) > self._expired
        return None if is_valid else refusal(self.stale_status, "expired")

    def media(self, request: Request, file: str, content_type: str | None = None) -> Response:
        """Return the sample file `file`, or a range of it, if the URL of `request` has a valid signature. The URLs of
        the media must be signed; `open_media` serves media of other sites."""
        return self.refused(request) or self._metered(request, open_media(request, file, content_type))

    def _metered(self, request: Request, response: Response) -> Response:
        with self._lock:
            if self._left is None or request.method != "GET":
                return response
            if self._left > len(response.body):
                self._left -= len(response.body)
                return response
            sent, self._left, self._expired = self._left, None, self._issued
        return Response(response.body, response.status, response.content_type, response.headers, sent)


def open_media(request: Request, file: str, content_type: str | None = None) -> Response:
    """Return the sample file `file`, or a range of it, to a request without a signature."""
    body = read(file)
    return in_range(request, body, content_type or _TYPES[Path(file).suffix], f"{file}-{len(body)}")


@functools.cache
def read(file: str) -> bytes:
    return (ensure_media() / file).read_bytes()
