"""Tests that Chromium and Firefox play streams of each format in a web page and in a separate tab, and that they
revalidate their cached copies."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from serverpy.sample.site import SampleSite
from tests.links import issue
from tests.players.conftest import Browser, Page
from tests.server import Server, serving

STREAMS = {
    "relay": "/media/prog.mp4",
    "woven": "/tube/watch/pair",
    "webm": "/media/vp9.webm",
    "mp3": "/media/audio.mp3",
}
IN_A_TAB = """new Promise((done, failed) => {
  const video = document.querySelector("video, audio");
  if (!video) failed(new Error(document.documentElement.outerHTML));
  const look = () => video.currentTime > 0.3 && done(video.currentTime);
  const play = () => { video.muted = true; video.play().catch(() => {}); };
  const judge = () => {
    if (video.error.message != "OnMediaSinkAudioError") failed(new Error(video.error.message));
    video.src = location.href;
    play();
  };
  video.addEventListener("timeupdate", look);
  video.addEventListener("error", judge);
  setTimeout(() => failed(new Error("it does not play: " + document.documentElement.outerHTML)), 30000);
  if (video.error) judge();
  else play();
  look();
})"""
"""A script that plays the media of a tab, and returns the time in seconds that has been played. A tab begins to play
unmuted. On a machine without an audio device, Firefox may then fail with OnMediaSinkAudioError; muted media plays."""
SEND = """new Promise((done, failed) => {
  const section = [...document.querySelectorAll("section")].find(each => each.textContent.startsWith("%s"));
  const shown = section.querySelector("pre");
  new MutationObserver(() => shown.textContent.includes("HTTP") && done(shown.textContent))
    .observe(shown, {childList: true});
  section.querySelector("button").click();
})"""
DIGEST = """fetch(%s).then(async answer => {
  const hash = await crypto.subtle.digest("SHA-256", await answer.arrayBuffer());
  return Array.from(new Uint8Array(hash), byte => byte.toString(16).padStart(2, "0")).join("");
})"""


@pytest.mark.parametrize("kind", STREAMS)
def test_a_browser_plays_and_seeks_a_stream_in_a_web_page(
    server: Server, browser: Browser, player: str, kind: str
) -> None:
    address = f"{server.url}{server.target(STREAMS[kind])}"
    with browser.page() as page:
        page.go(player)
        found = page.run(f"load({json.dumps(address)})")
        assert found["duration"] > 1
        assert page.run("seek(1)") == pytest.approx(1, abs=0.05)
        played = page.run("play(0.3)")
        assert (played["error"], played["hasAudio"]) == (None, True)
        assert played["frames"] > 0 or kind == "mp3"


def test_a_browser_plays_a_signed_link_that_allows_one_use_and_seeks_in_it(
    server: Server, browser: Browser, player: str
) -> None:
    path = issue(server, STREAMS["relay"], uses=1, network="client")
    with browser.page() as page:
        page.go(player)
        assert page.run(f"load({json.dumps(server.url + path)})")["duration"] > 1
        assert page.run("seek(video.duration / 2)") > 0
        assert page.run("play(0.3)")["error"] is None
    assert server.ask(path).code == "link_invalid"


@pytest.mark.parametrize("kind", STREAMS)
def test_a_browser_plays_a_stream_opened_in_a_separate_tab(server: Server, browser: Browser, kind: str) -> None:
    with browser.page() as page:
        page.go(f"{server.url}{server.target(STREAMS[kind])}")
        assert page.run(IN_A_TAB) > 0.3


def test_a_browser_fetches_a_file_again_if_the_file_has_changed(
    server: Server, site: SampleSite, browser: Browser
) -> None:
    """The browser revalidates its cached copy of the file, and gets the new bytes."""
    path = f"/page/fault/changes=told,id={type(browser).__module__}/clip.mp4"
    with browser.page() as page:
        page.go(f"{server.url}/docs")
        target = server.target(path, method="relay")
        first = digest(page, target)
        assert first == hashlib.sha256(site.path("clip.mp4").read_bytes()).hexdigest()
        assert digest(page, target) != first


def digest(page: Page, target: str) -> str:
    found: str = page.run(DIGEST % json.dumps(target))
    return found


def load(page: Page, server: Server, player: str) -> Any:
    """Load a merged MP4 in the page `player`. Returns the properties of the MP4 that the script of the page reports."""
    page.go(player)
    return page.run(f"load({json.dumps(server.url + server.target('/tube/watch/pair'))})")


def test_only_pages_of_the_same_site_or_of_an_allowed_origin_may_embed_media(
    server: Server, site: SampleSite, browser: Browser, player: str
) -> None:
    """`localhost` and 127.0.0.1 are different sites. A media element without `crossorigin` sends no Origin header."""
    elsewhere = player.replace("127.0.0.1", "localhost")
    with browser.page() as page:
        with pytest.raises(AssertionError):
            load(page, server, elsewhere)
        with serving(site, cors_origins=elsewhere.rstrip("/")) as permissive:
            assert load(page, permissive, elsewhere)["duration"] > 1


def test_the_api_documentation_loads_nothing_from_other_servers_in_a_browser(server: Server, browser: Browser) -> None:
    with browser.page() as page:
        page.go(f"{server.url}/docs")
        page.run("""new Promise(done => setInterval(() => document.querySelector("section") && done(), 20))""")
        text = page.run("document.body.textContent")
        for word in ("GET /stream", "HEAD /stream", "GET /info", "If-None-Match", "precondition_failed", "video/mp2t"):
            assert word in text
        answer = page.run(SEND % "GET /ready")
        assert answer.startswith(f"curl -i '{server.url}/ready'")
        assert "HTTP 200" in answer
        assert '{"status":"ok"}' in answer
        issued = page.run(SEND % "POST /links")
        assert issued.startswith("curl -i -H 'Content-Type: application/json' -d '{")
        assert f'"url":"{server.url}/s/' in issued
        asked = page.run("performance.getEntriesByType('resource').map(each => new URL(each.name).origin)")
        assert set(asked) == {server.url}
