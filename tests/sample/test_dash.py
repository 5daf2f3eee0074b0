"""Tests that unmodified yt-dlp downloads each form of DASH manifest that the sample site has."""

from __future__ import annotations

import io
import re
from pathlib import Path

import av
import pytest

from serverpy.sample import SampleSite

from .conftest import YtDlp
from .raw import ask

FRAGMENTS = [f"-{number}.m4s" for number in range(1, 6)]
WHOLE = ["-init.mp4", *FRAGMENTS]
PERIODS = ["-init.mp4", *FRAGMENTS[:3], "-init.mp4", *FRAGMENTS[3:]]


@pytest.mark.parametrize("format", ["bv", "wv", "ba"])
@pytest.mark.parametrize(("page", "suffixes"), [("time", WHOLE), ("bases", WHOLE), ("periods", PERIODS)])
def test_yt_dlp_downloads_the_fragments_of_each_dash_manifest_in_order(
    site: SampleSite, ytdlp: YtDlp, tmp_path: Path, page: str, suffixes: list[str], format: str
) -> None:
    track = {"bv": "video-360", "wv": "video-180", "ba": "audio"}[format]
    expected = b"".join(site.path(f"dash/{track}{suffix}").read_bytes() for suffix in suffixes)
    assert ytdlp.get(f"{site.http}/page/dash-{page}", format, tmp_path) == expected


def test_sampletube_serves_dash_fragments_to_clients_with_its_session(
    site: SampleSite, ytdlp: YtDlp, tmp_path: Path
) -> None:
    expected = b"".join(site.path(f"dash/audio{suffix}").read_bytes() for suffix in PERIODS)
    assert ytdlp.get(f"{site.http}/tube/watch/dash-periods", "ba", tmp_path) == expected


def test_yt_dlp_lists_an_on_demand_dash_manifest_as_plain_files(site: SampleSite, ytdlp: YtDlp) -> None:
    info = ytdlp.info(f"{site.http}/page/dash-on-demand")
    assert [(entry["protocol"], entry["container"], entry["url"]) for entry in info["formats"]] == [
        ("http", "m4a_dash", f"{site.http}/dash/audio.mp4"),
        ("http", "mp4_dash", f"{site.http}/dash/video-180.mp4"),
        ("http", "mp4_dash", f"{site.http}/dash/video-360.mp4"),
    ]


@pytest.mark.parametrize("track", ["video-360", "video-180", "audio"])
def test_the_byte_ranges_in_an_on_demand_manifest_are_those_of_the_initialization_segment_and_the_sidx(
    site: SampleSite, track: str
) -> None:
    text = ask(f"{site.http}/dash/on-demand.mpd").body.decode()
    match = re.search(
        rf'{track}\.mp4</BaseURL><SegmentBase indexRange="(\d+)-(\d+)"><Initialization range="0-(\d+)"/>', text
    )
    assert match
    start, last, head_last = map(int, match.groups())
    film = site.path(f"dash/{track}.mp4").read_bytes()
    assert head_last + 1 == start
    assert film[start + 4 : start + 8] == b"sidx"
    assert int.from_bytes(film[start : start + 4], "big") == last + 1 - start


def test_the_segment_timeline_of_a_manifest_covers_the_whole_duration(site: SampleSite) -> None:
    text = ask(f"{site.http}/dash/time.mpd").body.decode()
    assert len(re.findall(r"<S ", text)) == 1 + 1 + 5
    assert re.search(r'<S t="0" d="\d+" r="4"/>', text)


def test_the_absolute_base_url_of_a_manifest_has_the_host_of_the_request(site: SampleSite) -> None:
    text = ask(f"{site.http}/dash/bases.mpd").body.decode()
    assert re.findall(r"<BaseURL>(.*)</BaseURL>", text)[:3] == [f"{site.http}/", "dash/", "bases/"]


def test_the_concatenated_segments_of_two_dash_periods_form_one_valid_file(site: SampleSite) -> None:
    joined = b"".join(site.path(f"dash/video-180{suffix}").read_bytes() for suffix in PERIODS)
    with av.open(io.BytesIO(joined), "r") as film:
        assert sum(packet.size > 0 for packet in film.demux()) == 250
