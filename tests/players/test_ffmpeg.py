"""Tests of FFmpeg's command line with merged MP4s over HTTP: FFmpeg decodes them without errors, finds exactly the
packets of their sources, and seeks with few requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from serverpy.sample.site import SampleSite
from tests.links import issue
from tests.players.films import FILMS, sources
from tests.players.tools import said
from tests.server import Server

HASHES = ("-c", "copy", "-f", "streamhash", "-hash", "sha256", "-")
MAX_REQUESTS = 6
"""Maximum number of requests to each source (the video file or the audio file) during one seek: for the index (moov,
sidx or mfra), for the beginning, which a player probes, and for the target of the seek. FFmpeg sends 3 requests for an
MP4 that is not fragmented, and 5 for a fragmented MP4 that has both sidx and mfra."""


def address(server: Server, film: str) -> str:
    return f"{server.url}{server.target(f'/tube/watch/{film}')}"


def hashes(*inputs: tuple[str, str]) -> str:
    """Return the hashes of the packets of the given stream of each input."""
    files = [argument for name, _ in inputs for argument in ("-i", name)]
    maps = [argument for at, (_, kind) in enumerate(inputs) for argument in ("-map", f"{at}:{kind}")]
    return said("ffmpeg", "-v", "error", *files, *maps, *HASHES)


@pytest.mark.parametrize("film", FILMS)
def test_ffmpeg_decodes_a_merged_mp4_without_errors_and_finds_the_packets_of_its_sources(
    server: Server, film: str
) -> None:
    decode = ("-map", "0", "-f", "null", "-")
    found = said("ffmpeg", "-v", "error", "-i", address(server, film), *decode, "-map", "0", *HASHES)
    video, audio = sources(film)
    assert found == hashes((str(video), "v"), (str(audio), "a"))
    assert [line.partition("=")[0] for line in found.splitlines()] == ["0,v,SHA256", "1,a,SHA256"]


def landing(media: str | Path, seconds: float) -> tuple[float, str]:
    """Return the time in seconds and the flags of the first video packet that ffprobe reads after a seek."""
    wanted = ("-read_intervals", f"{seconds}%+#1", "-select_streams", "v", "-show_entries", "packet=pts_time,flags")
    time, flags = said("ffprobe", "-v", "error", *wanted, "-of", "csv=p=0", str(media)).strip().split(",")[:2]
    return float(time), flags


def key_frames(media: Path) -> list[float]:
    """Return the times of all key frames of a video, in seconds."""
    wanted = ("-select_streams", "v", "-show_entries", "packet=pts_time,flags")
    rows = said("ffprobe", "-v", "error", *wanted, "-of", "csv=p=0", str(media)).split()
    return [float(time) for time, flags, *_ in (row.split(",") for row in rows) if flags.startswith("K")]


def frame_after_seek(media: str | Path, seconds: float) -> str:
    """Return the time in seconds and the hash of the first video frame that ffmpeg decodes after a seek."""
    seek = ("-copyts", "-seek_timestamp", "1", "-noaccurate_seek", "-ss", str(seconds))
    first = ("-map", "0:v", "-frames:v", "1", "-f", "framemd5", "-")
    return said("ffmpeg", "-v", "error", *seek, "-i", str(media), *first)


@pytest.mark.parametrize("film", ["long", "long-sidx", "pair-cut"])
def test_a_seek_over_http_finds_the_last_key_frame_before_its_target(server: Server, film: str) -> None:
    video, _ = sources(film)
    time, flags = landing(address(server, film), 40)
    assert flags.startswith("K")
    assert time == max(each for each in key_frames(video) if each <= 40)


@pytest.mark.parametrize("film", ["long", "long-sidx", "pair-cut", "pair-late"])
def test_a_seek_in_a_merged_mp4_shows_the_same_frame_as_a_seek_in_its_source(server: Server, film: str) -> None:
    video, _ = sources(film)
    assert frame_after_seek(address(server, film), 40) == frame_after_seek(video, 40)


@pytest.mark.parametrize("film", ["long", "long-sidx"])
def test_a_seek_in_a_merged_mp4_sends_few_requests_to_the_media_server(
    server: Server, site: SampleSite, film: str
) -> None:
    page = f"fault/id=sought-{film}/{film}"
    landing(address(server, page), 40)
    asked = {path: times for path, times in site.counts("/tube/media/").items() if f"sought-{film}/" in path}
    assert len(asked) == 2
    assert max(asked.values()) <= MAX_REQUESTS


@pytest.mark.parametrize("film", ["prog.mp4", "moov-last.mp4", "vp9.webm"])
def test_ffmpeg_decodes_a_signed_link_for_one_use_only_once_but_may_seek_in_it(
    server: Server, site: SampleSite, film: str
) -> None:
    """FFmpeg reads the index at the end of the file, and seeks. All its range requests count as one use of the link."""
    path = issue(server, f"/media/{film}", uses=1)
    seek = ("-ss", "2", "-i", f"{server.url}{path}", "-frames:v", "1", "-f", "framemd5", "-")
    assert said("ffmpeg", "-v", "error", *seek) == said(
        "ffmpeg", "-v", "error", "-ss", "2", "-i", str(site.path(film)), *seek[4:]
    )
    assert server.ask(path).code == "link_invalid"
