"""Pytest fixtures: the web page that plays a stream, and the browsers that load it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:
        """Log no requests, because pytest would show the log as output of a test."""


@pytest.fixture(scope="module")
def player() -> Iterator[str]:
    """Serve the web page from a separate server, so that the page and the media have different origins. Yields the
    page's address."""
    # several threads, because Chromium opens connections on which it sends no request
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, name="player")
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}/"
        finally:
            httpd.shutdown()
            thread.join()


@pytest.fixture(scope="package", params=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    with chromium.chromium() if request.param == "chromium" else firefox.firefox() as running:
        yield running
