"""Pytest fixtures: the web page that plays a stream, and the browsers that load it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.players import chromium, firefox

Browser = chromium.Browser | firefox.Browser
Page = chromium.Page | firefox.Page

PAGE = b"""<!DOCTYPE html>
<title>A film</title>
<video muted></video>
<script>
const video = document.querySelector("video");
const until = (event, holds = () => true) => new Promise((done, failed) => {
  const look = () => holds() && done();
  video.addEventListener(event, look);
  video.addEventListener("error", () => failed(new Error(video.error.message)));
});
const load = async (address) => {
  const loaded = until("loadeddata");
  video.src = address;
  await loaded;
  return {duration: video.duration, width: video.videoWidth, height: video.videoHeight};
};
const seek = async (seconds) => {
  const sought = until("seeked");
  video.currentTime = seconds;
  await sought;
  return video.currentTime;
};
const play = async (seconds) => {
  const [begin, frames] = [video.currentTime, video.getVideoPlaybackQuality().totalVideoFrames];
  const played = until("timeupdate", () => video.currentTime >= begin + seconds);
  await video.play();
  await played;
  video.pause();
  return {
    seconds: video.currentTime - begin,
    frames: video.getVideoPlaybackQuality().totalVideoFrames - frames,
    hasAudio: video.mozHasAudio ?? video.webkitAudioDecodedByteCount > 0,
    error: video.error && video.error.message,
  };
};
</script>
"""


@contextlib.contextmanager
def origin(status: int, fields: Mapping[str, str], body: bytes = b"") -> Iterator[str]:
    """Run a web server that sends the same response to every GET request. Yields the server's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in {**fields, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log no requests, because pytest would show the log as output of a test."""

    # several threads, because Chromium opens connections on which it sends no request
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, name="origin")
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}/"
        finally:
            httpd.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def player() -> Iterator[str]:
    """Serve the web page from a separate server, so that the page and the media have different origins. Yields the
    page's address."""
    with origin(200, {"Content-Type": "text/html"}, PAGE) as address:
        yield address


@pytest.fixture(scope="package", params=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    with chromium.chromium() if request.param == "chromium" else firefox.firefox() as running:
        yield running
