"""Tests of players with a server that requires a key: the key is sent as the password in the URL, or the player has the
cookie of a session or a signed link. VLC has no option for cookies, but keeps those that a response sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serverpy.access.key import Key
from serverpy.access.key_file import add
from serverpy.access.keys import digest_of, new_secret
from serverpy.sample.site import SampleSite
from tests.links import post
from tests.players.conftest import Browser, origin
from tests.players.test_browsers import IN_A_TAB
from tests.players.tools import codecs_of, play_by_mpv, remux_by_vlc, said
from tests.server import Server, serving

SECRET = new_secret()
FILM = "/media/prog.mp4"
LOGIN = f"""fetch("login", {{
  method: "POST",
  headers: {{"Content-Type": "application/json"}},
  body: JSON.stringify({{key: "{SECRET}"}}),
}}).then(answer => answer.status)"""


@pytest.fixture(scope="module")
def keyed(site: SampleSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    add(path, lambda _keys: Key(name="player", digest=digest_of(SECRET.encode())))
    with serving(site, require_key=True, api_keys_file=path) as server:
        yield server


def address(server: Server) -> str:
    return f"http://x:{SECRET}@127.0.0.1:{server.port}{server.target(FILM)}"


def test_curl_sends_the_key_in_the_url_as_the_password_of_basic_authentication(keyed: Server, tmp_path: Path) -> None:
    said("curl", "-sSf", "-o", str(tmp_path / "film"), address(keyed))
    assert (tmp_path / "film").read_bytes() == keyed.site.path("prog.mp4").read_bytes()


def test_curl_logs_in_and_sends_the_cookie_of_its_session(keyed: Server, tmp_path: Path) -> None:
    jar, film = tmp_path / "jar", tmp_path / "film"
    said("curl", "-sSf", "-c", str(jar), "-d", f"key={SECRET}", f"{keyed.url}/login")
    said("curl", "-sSf", "-b", str(jar), "-o", str(film), f"{keyed.url}{keyed.target(FILM)}")
    assert film.read_bytes() == keyed.site.path("prog.mp4").read_bytes()


def test_curl_gets_a_signed_link_without_a_key(keyed: Server, link: str, tmp_path: Path) -> None:
    said("curl", "-sSf", "-o", str(tmp_path / "film"), link)
    assert (tmp_path / "film").read_bytes() == keyed.site.path("prog.mp4").read_bytes()


def test_ffmpeg_plays_a_stream_with_the_key_in_the_url(keyed: Server) -> None:
    shown = ("-v", "error", "-show_entries", "format=format_name", "-of", "csv=p=0")
    assert said("ffprobe", *shown, address(keyed)).strip() == '"mov,mp4,m4a,3gp,3g2,mj2"'
    said("ffmpeg", "-v", "error", "-i", address(keyed), "-f", "null", "-")


@pytest.fixture
def link(keyed: Server) -> str:
    answer = post(keyed, {"url": f"{keyed.site.http}{FILM}"}, headers={"Authorization": f"Bearer {SECRET}"})
    return str(answer.json()["url"])


def test_mpv_plays_a_stream_with_the_key_in_the_url(keyed: Server) -> None:
    play_by_mpv(address(keyed))


@pytest.fixture
def cookie(keyed: Server) -> str:
    """The Set-Cookie field with which the server answers a login."""
    return post(keyed, {"key": SECRET}, path="/login").headers["set-cookie"]


def test_mpv_plays_a_stream_with_the_cookie_of_a_session(keyed: Server, cookie: str) -> None:
    field = f"Cookie: {cookie.partition(';')[0]}"
    play_by_mpv(f"{keyed.url}{keyed.target(FILM)}", f"--http-header-fields={field}")


def test_mpv_plays_a_signed_link(link: str) -> None:
    play_by_mpv(link)


def test_mpv_plays_nothing_without_a_key(keyed: Server) -> None:
    with pytest.raises(AssertionError, match="401 Unauthorized"):
        play_by_mpv(f"{keyed.url}{keyed.target(FILM)}")


def test_vlc_plays_a_stream_with_the_key_in_the_url(keyed: Server) -> None:
    assert codecs_of(remux_by_vlc(address(keyed))) == ["aac", "h264"]


def test_vlc_plays_a_stream_with_the_cookie_of_a_session(keyed: Server, cookie: str) -> None:
    """VLC gets the cookie from the server that redirects it. Cookies are not separated by port (RFC 6265 §8.5)."""
    with origin(302, {"Location": f"{keyed.url}{keyed.target(FILM)}", "Set-Cookie": cookie}) as login:
        assert codecs_of(remux_by_vlc(login)) == ["aac", "h264"]


def test_vlc_plays_nothing_without_a_key(keyed: Server) -> None:
    with origin(302, {"Location": f"{keyed.url}{keyed.target(FILM)}"}) as elsewhere:
        assert remux_by_vlc(elsewhere) == b""


def test_vlc_plays_a_signed_link(link: str) -> None:
    assert codecs_of(remux_by_vlc(link)) == ["aac", "h264"]


def test_a_browser_plays_a_stream_with_the_key_in_the_url(keyed: Server, browser: Browser) -> None:
    with browser.page() as page:
        # the browser sends the key again to the same host and port, so other tests use another host
        page.go(address(keyed).replace("@127.0.0.1:", "@localhost:"))
        assert page.run(IN_A_TAB) > 0.3


def test_a_browser_plays_a_signed_link_without_a_session(link: str, browser: Browser) -> None:
    with browser.page() as page:
        page.go(link)
        assert page.run(IN_A_TAB) > 0.3


def test_a_browser_plays_a_stream_only_after_login(keyed: Server, browser: Browser) -> None:
    with browser.page() as page:
        page.go(f"{keyed.url}/docs")
        assert page.run(f"fetch({keyed.target(FILM)!r}).then(answer => answer.status)") == 401
        assert page.run(LOGIN) == 204
        assert page.run(f"fetch({keyed.target(FILM)!r}, {{method: 'HEAD'}}).then(answer => answer.status)") == 200
        assert page.run("document.cookie") == ""
        page.go(f"{keyed.url}{keyed.target(FILM)}")
        assert page.run(IN_A_TAB) > 0.3
