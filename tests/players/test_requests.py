"""Test that counts the requests with which Chromium opens a merged fragmented MP4 of five minutes, and seeks in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from serverpy.sample.cut import FRAGMENTED
from serverpy.sample.make import HIGH
from serverpy.sample.site import SampleSite
from serverpy.sample.tracks import AUDIO_FRAGMENTS, INDEX
from tests.media.mp4.films import own_boxes
from tests.media.mp4.shapes import EMPTY, NO_INDEX
from tests.players.chromium import chromium
from tests.server import Server, serving
from tests.streaming.segments.shelf import Shelf

MINUTES = 5
MOST_TO_OPEN = 10
MOST_TO_SEEK = 5
SHAPES = {"sidx": ("sidx", "sidx"), "no index": ("none", "none"), "plain with sidx": ("plain", "sidx")}
"""The shapes of video and audio. Without an index, the merged file is not fragmented, and a seek takes 1 to 3 requests.
In a fragmented file it takes 3 to 5, because Chromium reads the video fragment that contains the target, then the audio
fragment, which may lie before it, and then goes on at the video fragment."""
OPTIONS = {
    "sidx": {"movflags": FRAGMENTED + INDEX},
    "none": {"movflags": EMPTY + NO_INDEX, "frag_duration": "4000000"},
    "plain": {"movflags": "+faststart"},
}
CODECS = {"video": "avc1.42c01e", "audio": "mp4a.40.2"}


@pytest.fixture(scope="module")
def films(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make video and audio of five minutes, each in each shape."""
    folder = tmp_path_factory.mktemp("films")
    for kind in ("video", "audio"):
        for shape, options in OPTIONS.items():
            more = AUDIO_FRAGMENTS if (kind, shape) == ("audio", "sidx") else {}
            repeat(media / f"{kind}-only.mp4", folder / f"{kind}-{shape}.mp4", {**options, **more})
    return folder


def repeat(source: Path, target: Path, options: dict[str, str]) -> None:
    """Write a file of MINUTES that repeats the packets of `source`, which lasts ten seconds."""
    with av.open(source) as film, av.open(target, "w", format="mp4", options=options) as out:
        (track,) = film.streams
        copy = out.add_stream_from_template(track)
        packets = [packet for packet in film.demux(track) if packet.dts is not None]
        length = sum(packet.duration or 0 for packet in packets)
        data = [(bytes(packet), packet.pts, packet.dts, packet.duration, packet.is_keyframe) for packet in packets]
        for turn in range(MINUTES * 6):
            for content, pts, dts, duration, is_keyframe in data:
                packet = av.Packet(content)
                assert pts is not None
                packet.pts, packet.dts, packet.duration = pts + turn * length, (dts or 0) + turn * length, duration
                packet.is_keyframe = is_keyframe
                assert track.time_base is not None
                packet.time_base, packet.stream = track.time_base, copy
                out.mux(packet)


@pytest.fixture(scope="module")
def shelf() -> Iterator[Shelf]:
    with Shelf() as shelf:
        yield shelf


@pytest.fixture(scope="module")
def near(site: SampleSite, shelf: Shelf) -> Iterator[Server]:
    """Run a server that may connect to the shelf."""
    with serving(site, allow_networks=shelf.url.removeprefix("http://")) as running:
        yield running


def put(shelf: Shelf, name: str, video: Path, audio: Path) -> str:
    """Put a page with both tracks on the shelf, as a DASH manifest of files. Returns the address of the page."""
    sets = []
    for kind, path in (("video", video), ("audio", audio)):
        film = path.read_bytes()
        shelf.files[f"/{name}/{kind}.mp4"] = film
        shelf.headers[f"/{name}/{kind}.mp4"] = {"ETag": f'"{name}"', "Content-Type": f"{kind}/mp4"}
        end = next(box.start for box in own_boxes(film) if box.kind in (b"sidx", b"moof", b"mdat"))
        size = f' width="{HIGH[0]}" height="{HIGH[1]}"' if kind == "video" else ""
        sets.append(
            f'<AdaptationSet contentType="{kind}"><Representation id="{kind}" bandwidth="1000000" '
            f'mimeType="{kind}/mp4" codecs="{CODECS[kind]}"{size}><BaseURL>{kind}.mp4</BaseURL>'
            f'<SegmentBase><Initialization range="0-{end - 1}"/></SegmentBase></Representation></AdaptationSet>'
        )
    manifest = (
        f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        f'mediaPresentationDuration="PT{60 * MINUTES}S"><Period>{"".join(sets)}</Period></MPD>'
    )
    shelf.files[f"/{name}/film.mpd"] = manifest.encode()
    shelf.headers[f"/{name}/film.mpd"] = {"Content-Type": "application/dash+xml"}
    return f"{shelf.url}/{name}/film.mpd"


def begun(server: Server) -> int:
    """Return the number of streams that the server has begun."""
    counts = re.findall(rb"^serverpy_streams(?:_ended_total\{.*\})? (\S+)$", server.ask("/metrics").body, re.MULTILINE)
    return sum(int(float(count)) for count in counts)


@pytest.mark.soak
@pytest.mark.parametrize("shape", SHAPES)
def test_chromium_opens_a_merged_film_of_five_minutes_with_few_requests_and_seeks_with_few_more(
    near: Server, player: str, shelf: Shelf, films: Path, shape: str
) -> None:
    video, audio = (films / f"{kind}-{each}.mp4" for kind, each in zip(("video", "audio"), SHAPES[shape], strict=True))
    target = near.target(put(shelf, shape.replace(" ", "-"), video, audio))
    with chromium() as browser, browser.page() as page:
        page.go(player)
        before = begun(near)
        found = page.run(f"load({json.dumps(near.url + target)})")
        assert found["duration"] == pytest.approx(
            60 * MINUTES, abs=1
        )  # the audio that is repeated is a little longer than the video
        page.run("play(1)")
        counts = [begun(near) - before]
        for place in (200.3, 42.0, 281.7):
            before = begun(near)
            assert page.run(f"seek({place})") == pytest.approx(place, abs=0.01)
            counts.append(begun(near) - before)
            assert page.run("play(0.5)")["error"] is None
    print(f"{shape}: {counts}")
    assert counts[0] <= MOST_TO_OPEN
    assert max(counts[1:]) <= MOST_TO_SEEK
