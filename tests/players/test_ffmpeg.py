"""FFmpeg's command line reads woven films over HTTP: it decodes them without a complaint, finds the very streams that
they are woven of, and seeks with few requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from serverpy.sample.site import SampleSite
from tests.players.films import FILMS, sources
from tests.players.tools import said
from tests.server import Server

HASHES = ("-c", "copy", "-f", "streamhash", "-hash", "sha256", "-")
MOST_REQUESTS = 6
"""Of one source: for its index; for the begin, where a player looks what it has; for the place sought. FFmpeg
makes 3 of a plain film and 5 of one in fragments with both kinds of index."""


def address(server: Server, film: str) -> str:
    return f"{server.url}{server.target(f'/tube/watch/{film}')}"


def hashes(*inputs: tuple[str, str]) -> str:
    """Of the packets of one stream of each input."""
    files = [argument for name, _ in inputs for argument in ("-i", name)]
    maps = [argument for at, (_, kind) in enumerate(inputs) for argument in ("-map", f"{at}:{kind}")]
    return said("ffmpeg", "-v", "error", *files, *maps, *HASHES)


@pytest.mark.parametrize("film", FILMS)
def test_a_woven_film_decodes_cleanly_into_the_streams_of_its_sources(server: Server, film: str) -> None:
    decode = ("-map", "0", "-f", "null", "-")
    found = said("ffmpeg", "-v", "error", "-i", address(server, film), *decode, "-map", "0", *HASHES)
    picture, sound = sources(film)
    assert found == hashes((str(picture), "v"), (str(sound), "a"))
    assert [line.partition("=")[0] for line in found.splitlines()] == ["0,v,SHA256", "1,a,SHA256"]


def landing(media: str | Path, seconds: float) -> tuple[float, str]:
    """The time and the flags of the first picture's packet that is read after a seek."""
    wanted = ("-read_intervals", f"{seconds}%+#1", "-select_streams", "v", "-show_entries", "packet=pts_time,flags")
    time, flags = said("ffprobe", "-v", "error", *wanted, "-of", "csv=p=0", str(media)).strip().split(",")[:2]
    return float(time), flags


def key_frames(media: Path) -> list[float]:
    """The times of all."""
    wanted = ("-select_streams", "v", "-show_entries", "packet=pts_time,flags")
    rows = said("ffprobe", "-v", "error", *wanted, "-of", "csv=p=0", str(media)).split()
    return [float(time) for time, flags, *_ in (row.split(",") for row in rows) if flags.startswith("K")]


def picture_from(media: str | Path, seconds: float) -> str:
    """The first picture that is decoded after a seek, by its time in the file and its hash."""
    seek = ("-copyts", "-seek_timestamp", "1", "-noaccurate_seek", "-ss", str(seconds))
    first = ("-map", "0:v", "-frames:v", "1", "-f", "framemd5", "-")
    return said("ffmpeg", "-v", "error", *seek, "-i", str(media), *first)


@pytest.mark.parametrize("film", ["long", "long-sidx", "pair-cut"])
def test_a_seek_over_http_lands_on_the_key_frame_before(server: Server, film: str) -> None:
    picture, _ = sources(film)
    time, flags = landing(address(server, film), 40)
    assert flags.startswith("K")
    assert time == max(each for each in key_frames(picture) if each <= 40)


@pytest.mark.parametrize("film", ["long", "long-sidx", "pair-cut", "pair-late"])
def test_a_seek_shows_the_picture_of_the_source(server: Server, film: str) -> None:
    picture, _ = sources(film)
    assert picture_from(address(server, film), 40) == picture_from(picture, 40)


@pytest.mark.parametrize("film", ["long", "long-sidx"])
def test_a_seek_costs_few_requests_upstream(server: Server, site: SampleSite, film: str) -> None:
    page = f"fault/id=sought-{film}/{film}"
    landing(address(server, page), 40)
    asked = {path: times for path, times in site.counts("/tube/media/").items() if f"sought-{film}/" in path}
    assert len(asked) == 2
    assert max(asked.values()) <= MOST_REQUESTS
