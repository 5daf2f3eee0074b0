"""The two ways of embedding yt-dlp that ServerPY's founding document describes, as code: competitors to measure, not to
use.

    seed_shape.py queue    yt-dlp, then `requests` in a pool thread, into a queue of chunks that the event loop drains
    seed_shape.py httpx    yt-dlp in a thread, then `httpx` on the event loop

`GET /stream?url=` sends the bytes of the media. The environment variable MAX_WORKERS (default 20) sets the size of the
thread pool. One httpx client serves all requests, although the document creates one for each. The file imports nothing
from ServerPY, so it runs in any environment that has its libraries.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import uvicorn
import yt_dlp
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

if TYPE_CHECKING:
    import httpx

MAX_WORKERS = int(os.environ.get("MAX_WORKERS", "20"))
QUEUE, CHUNK = 20, 8192

EMPTY_SECONDS = 0.01
"""Seconds between two polls of an empty queue. Polls are needed because a thread cannot wake the event loop through a
queue.Queue."""
FULL_SECONDS = 0.5
"""Seconds for which a thread waits on a full queue before it checks again whether its client is still connected."""
REQUEST_SECONDS = 60

OPTIONS = {
    "quiet": True,
    "no_warnings": True,
    "format": "best",
    # yt-dlp uses the system's certificates, so that SSL_CERT_FILE can add the sample site's certificate.
    "compat_opts": ["no-certifi"],
}

executor = ThreadPoolExecutor(max_workers=MAX_WORKERS, thread_name_prefix="stream")

Chunks = queue.Queue[bytes | BaseException | None]
"""A queue of chunks. Its last item is None, or the exception that ended the stream."""


def extract(url: str) -> tuple[str, dict[str, str]]:
    """Extract a page with yt-dlp, and return the media's URL and request headers."""
    with yt_dlp.YoutubeDL(OPTIONS) as ydl:
        info = ydl.extract_info(url, download=False)
        return info["url"], info.get("http_headers", {})


def download(url: str, chunks: Chunks, left: threading.Event) -> None:
    """Serve one request in a thread of the pool, until the stream ends or the event `left` says that the client has
    disconnected."""
    end: BaseException | None = None
    try:
        address, headers = extract(url)
        for chunk in fetch(address, headers):
            if not put(chunks, chunk, left):
                return
    except Exception as error:  # noqa: BLE001  # the event loop gets the exception and cuts the connection
        end = error
    put(chunks, end, left)


def fetch(address: str, headers: dict[str, str]) -> Iterator[bytes]:
    import requests

    with requests.get(address, headers=headers, stream=True, timeout=REQUEST_SECONDS) as response:
        response.raise_for_status()
        yield from response.iter_content(chunk_size=CHUNK)


def put(chunks: Chunks, item: bytes | BaseException | None, left: threading.Event) -> bool:
    """Put `item` into the queue, waiting while it is full. Returns False if the client has disconnected."""
    while not left.is_set():
        with contextlib.suppress(queue.Full):
            chunks.put(item, timeout=FULL_SECONDS)
            return True
    return False


async def drained(url: str) -> AsyncIterator[bytes]:
    """Stream by the method that the founding document calls current: a thread downloads the media and puts the chunks
    into a queue."""
    chunks: Chunks = queue.Queue(maxsize=QUEUE)
    left = threading.Event()
    executor.submit(download, url, chunks, left)
    try:
        while True:
            try:
                item = chunks.get_nowait()
            except queue.Empty:
                await asyncio.sleep(EMPTY_SECONDS)
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()


async def relayed(url: str) -> AsyncIterator[bytes]:
    """Stream by the founding document's third method, "Extract→Stream": yt-dlp finds the URL, and the event loop
    downloads."""
    address, headers = await asyncio.get_running_loop().run_in_executor(executor, extract, url)
    async with shared_client().stream("GET", address, headers=headers) as response:
        response.raise_for_status()
        async for chunk in response.aiter_bytes():
            yield chunk


@cache
def shared_client() -> httpx.AsyncClient:
    import ssl

    import httpx

    context = ssl.create_default_context()  # unlike httpx's own SSL context, this context obeys SSL_CERT_FILE
    return httpx.AsyncClient(
        verify=context, timeout=REQUEST_SECONDS, follow_redirects=True, limits=httpx.Limits(max_connections=None)
    )


def create_app(body: Callable[[str], AsyncIterator[bytes]]) -> FastAPI:
    app = FastAPI()

    @app.get("/stream")
    async def stream(url: str) -> Any:
        return StreamingResponse(body(url), media_type="application/octet-stream")

    return app


def main(method: str) -> None:
    body = {"queue": drained, "httpx": relayed}[method]
    uvicorn.run(create_app(body), host="127.0.0.1", port=0, access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
