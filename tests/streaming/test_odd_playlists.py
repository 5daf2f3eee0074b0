"""Tests that the server streams unusual playlists that players accept. yt-dlp extracts the page with the playlist
before the server reads the playlist."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from serverpy.sample.cut import aes_128
from serverpy.sample.site import SampleSite
from tests.server import Server, serving
from tests.streaming.segments.shelf import Shelf
from tests.written import as_relayed

KEY = b"0123456789abcdef"
HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n"
END = "#EXT-X-ENDLIST\n"
MAP = '#EXT-X-MAP:URI="{}.mp4"\n'
VARIANT = "#EXT-X-STREAM-INF:BANDWIDTH=200000"
CODECS = 'CODECS="avc1.4d401e,mp4a.40.2"'
MANY = "".join(f"#EXT-X-STREAM-INF:BANDWIDTH={n},RESOLUTION=320x180\none.m3u8?{n}\n" for n in range(1000, 3000))

PLAYLISTS: dict[str, tuple[str, str]] = {
    "no target duration": ("#EXTM3U\n#EXTINF:2,\n0.ts\n#EXTINF:2,\n1.ts\n" + END, "0.ts 1.ts"),
    "an empty duration": (HEAD + "#EXTINF:\n0.ts\n#EXTINF:2,\n1.ts\n" + END, "0.ts 1.ts"),
    "a byte order mark": ("\ufeff" + HEAD + "#EXTINF:2,\n0.ts\n" + END, "0.ts"),
    "a blank line first": ("\n" + HEAD + "#EXTINF:2,\n0.ts\n" + END, "0.ts"),
    "a guide for channels": (HEAD.replace("M3U", 'M3U url-tvg="x"') + "#EXTINF:2,\n0.ts\n" + END, "0.ts"),
    "a gap": (HEAD + "#EXTINF:2,\n0.ts\n#EXT-X-GAP\n#EXTINF:2,\ngone.ts\n#EXTINF:2,\n1.ts\n" + END, "0.ts 1.ts"),
    "an empty segment": (HEAD + "#EXTINF:2,\n0.ts\n#EXTINF:2,\nempty.ts\n#EXTINF:2,\n1.ts\n" + END, "0.ts 1.ts"),
    "another map": (HEAD + MAP.format("low") + "#EXTINF:2,\nlow.m4s\n#EXT-X-DISCONTINUITY\n" + MAP.format("high")
                    + "#EXTINF:2,\nhigh.m4s\n" + END, "low.mp4 low.m4s high.mp4 high.m4s"),
    "a map before the key": (HEAD + MAP.format("low") + '#EXT-X-KEY:METHOD=AES-128,URI="key"\n#EXTINF:2,\nsecret.m4s\n'
                             + END, "low.mp4 low.m4s"),
    "variables": ('#EXTM3U\n#EXT-X-DEFINE:NAME="x",VALUE="one"\n' + VARIANT + "\n{$x}.m3u8\n"
                  "#EXT-X-STREAM-INF:BANDWIDTH=100\n{$y}.m3u8\n", "0.ts"),
    "a variant of audio alone": ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1280000\none.m3u8\n"
                                 '#EXT-X-STREAM-INF:BANDWIDTH=65000,CODECS="mp4a.40.5"\ntwo.m3u8\n', "0.ts"),
    "two thousand variants": ("#EXTM3U\n" + MANY, "0.ts"),
    "a rendition without a name": (f'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",LANGUAGE="eng",URI="two.m3u8"\n'
                                   f'{VARIANT},{CODECS},AUDIO="a"\none.m3u8\n', "1.ts"),  # TS segments are not merged
}  # fmt: skip
REFUSED: dict[str, tuple[str, int, str]] = {
    "SAMPLE-AES": (HEAD + '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="key"\n#EXTINF:2,\n0.ts\n' + END, 403, "drm_protected"),
    "AES-256": (HEAD + '#EXT-X-KEY:METHOD=AES-256,URI="key"\n#EXTINF:2,\n0.ts\n' + END, 422, "unsupported_conversion"),
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """A running server, and the media server that serves the playlists of these tests."""

    server: Server
    shelf: Shelf

    def path(self, name: str) -> str:
        return f"{self.shelf.url}/{name.replace(' ', '-')}.m3u8"


@pytest.fixture(scope="module")
def stage(site: SampleSite) -> Iterator[Stage]:
    files = {f"/{number}.ts": site.path(f"hls/ts/low-{number}.ts").read_bytes() for number in (0, 1)}
    for name in ("low", "high"):
        files[f"/{name}.mp4"] = site.path(f"hls/fmp4/{name}-init.mp4").read_bytes()
        files[f"/{name}.m4s"] = site.path(f"hls/fmp4/{name}-0.m4s").read_bytes()
    files |= {"/empty.ts": b"", "/key": KEY, "/secret.m4s": aes_128(files["/low.m4s"], KEY, bytes(16))}
    texts = {name: text for name, (text, _) in PLAYLISTS.items()} | {name: row[0] for name, row in REFUSED.items()}
    texts |= {"one": HEAD + "#EXTINF:2,\n0.ts\n" + END, "two": HEAD + "#EXTINF:2,\n1.ts\n" + END}
    playlists = {f"/{name.replace(' ', '-')}.m3u8": text.encode() for name, text in texts.items()}
    headers = {path: {"Content-Type": "application/vnd.apple.mpegurl"} for path in playlists}
    with (
        Shelf({**files, **playlists}, headers=headers) as shelf,
        serving(site, allow_networks=shelf.url.removeprefix("http://"), wait_seconds=30) as server,
    ):
        yield Stage(server, shelf)


@pytest.mark.parametrize("name", PLAYLISTS)
def test_the_server_streams_an_unusual_playlist_that_players_accept(stage: Stage, name: str) -> None:
    answer = stage.server.get(stage.path(name))
    expected = b"".join(stage.shelf.files[f"/{file}"] for file in PLAYLISTS[name][1].split())  # type: ignore[misc]
    assert (answer.status, answer.complete, answer.headers["x-serverpy-method"]) == (200, True, "relay")
    assert answer.body == as_relayed(expected, has_length=False, seconds=float(answer.headers.get("x-duration", 0)))


@pytest.mark.parametrize("name", REFUSED)
def test_the_error_for_an_unsupported_playlist_states_the_reason(stage: Stage, name: str) -> None:
    answer = stage.server.get(stage.path(name))
    assert (answer.status, answer.code) == REFUSED[name][1:]


def test_embedded_and_relay_stream_the_same_bytes_if_ext_x_map_precedes_ext_x_key(stage: Stage) -> None:
    name = "a map before the key"
    by_relay, embedded = (stage.server.get(stage.path(name), method=method).body for method in ("relay", "embedded"))
    assert by_relay == as_relayed(embedded, has_length=False, seconds=2)
