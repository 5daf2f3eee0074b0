"""Chromium plays woven films from `/stream`, and seeks in them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import pytest

from serverpy.sample.site import SampleSite
from tests.players.chromium import Browser, Page, chromium
from tests.players.films import FILMS, sources
from tests.server import Server, serving

PAGE = b"""<!DOCTYPE html>
<title>A film</title>
<video></video>
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
    audioBytes: video.webkitAudioDecodedByteCount,
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
        """Log nothing."""


@pytest.fixture(scope="module")
def player() -> Iterator[str]:
    """The address of the page. It is on a server of its own, so that its origin is not the film's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:  # Chromium opens connections that it does not use
        thread = threading.Thread(target=httpd.serve_forever, name="player")
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}/"
        finally:
            httpd.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@dataclass(frozen=True)
class Film:
    """The properties of a film, read from its sources."""

    seconds: float
    width: int
    height: int


def film_of(name: str) -> Film:
    video, audio = sources(name)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        width, height = stream.width, stream.height
    return Film(max(end_of(video), end_of(audio)), width, height)


def end_of(file: Path) -> float:
    """Return the time at which the last packet of `file` ends."""
    with av.open(str(file)) as container:
        (stream,) = container.streams
        assert stream.time_base is not None
        packets = ((packet.pts, packet.duration) for packet in container.demux(stream))
        return float(max(pts + (length or 0) for pts, length in packets if pts is not None) * stream.time_base)


def loaded(page: Page, server: Server, player: str, film: str) -> dict[str, float]:
    page.go(player)
    address = f"{server.url}{server.target(f'/tube/watch/{film}')}"
    found: dict[str, float] = page.run(f"load({json.dumps(address)})")
    return found


@pytest.mark.parametrize("name", FILMS)
def test_chromium_plays_a_woven_film_and_seeks_in_it(server: Server, browser: Browser, player: str, name: str) -> None:
    film = film_of(name)
    with browser.page() as page:
        found = loaded(page, server, player, name)
        assert (found["width"], found["height"]) == (film.width, film.height)
        assert found["duration"] == pytest.approx(film.seconds, abs=0.1)
        place = film.seconds * 2 / 3
        assert page.run(f"seek({place})") == pytest.approx(place, abs=0.01)
        played = page.run("play(0.5)")
        assert played["error"] is None
        assert played["seconds"] >= 0.5
        assert played["frames"] > 0
        assert played["audioBytes"] > 0


TAB = """new Promise((done, failed) => {
  const video = document.querySelector("video, audio");
  const look = () => video.currentTime > 0.2 && done(video.duration);
  video.addEventListener("timeupdate", look);
  video.addEventListener("error", () => failed(new Error(video.error.message)));
  if (video.error) failed(new Error(video.error.message));
  video.play().then(look, failed);
})"""


@pytest.mark.parametrize("page_url", ["/media/prog-180.mp4", "/page/webm", "/page/mp3", "/tube/watch/pair"])
def test_chromium_plays_in_a_tab(server: Server, browser: Browser, page_url: str) -> None:
    """Relayed MP4, WebM and MP3, and a woven film."""
    with browser.page() as page:
        page.go(f"{server.url}{server.target(page_url)}")
        assert page.run(TAB) > 1


def test_only_pages_of_allowed_sites_may_embed_media(
    server: Server, site: SampleSite, browser: Browser, player: str
) -> None:
    """`localhost` is another site than 127.0.0.1. A media element without `crossorigin` sends no Origin."""
    elsewhere = player.replace("127.0.0.1", "localhost")
    with browser.page() as page:
        with pytest.raises(AssertionError):
            loaded(page, server, elsewhere, "pair")
        with serving(site, cors_origins=elsewhere.rstrip("/")) as permissive:
            assert loaded(page, permissive, elsewhere, "pair")["duration"] > 1


SEND = """new Promise((done, failed) => {
  const section = [...document.querySelectorAll("section")].find(each => each.textContent.startsWith("GET /ready"));
  const shown = section.querySelector("pre");
  new MutationObserver(() => shown.textContent.includes("HTTP") && done(shown.textContent))
    .observe(shown, {childList: true});
  section.querySelector("button").click();
})"""


def test_the_page_of_the_api_needs_no_other_server(server: Server, browser: Browser) -> None:
    with browser.page() as page:
        page.go(f"{server.url}/docs")
        page.run("""new Promise(done => setInterval(() => document.querySelector("section") && done(), 20))""")
        text = page.run("document.body.textContent")
        for word in ("GET /stream", "HEAD /stream", "GET /info", "If-None-Match", "precondition_failed", "video/mp2t"):
            assert word in text
        answer = page.run(SEND)
        assert answer.startswith(f"curl -i '{server.url}/ready'")
        assert "HTTP 200" in answer
        assert '{"status":"ok"}' in answer
        asked = page.run("performance.getEntriesByType('resource').map(each => new URL(each.name).origin)")
        assert set(asked) == {server.url}
