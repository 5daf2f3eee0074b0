"""Tests of weaving in the real server: one GET request returns the separate video and audio of a page as one seekable
MP4."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from serverpy.sample.catalogue import RENDITIONS
from tests.media.mp4.films import decoded, packets, sought
from tests.server import Server

PAIRS = {
    "pair": ("video", "audio"),
    "pair-last": ("video-last", "audio-last"),
    "pair-chunks": ("video-chunks", "audio-chunks"),
    "pair-wide": ("video-wide", "audio-wide"),
    "pair-chunked": ("video-chunked", "audio-chunked"),
    "pair-uneven": ("video-uneven", "audio"),
    "pair-cut": ("video-cut", "audio-cut"),
    "pair-late": ("video-long", "audio-late"),
    "pair-sidx": ("video-sidx", "audio-sidx"),
    "pair-sidx-chunked": ("video-sidx-chunked", "audio-sidx-chunked"),
    "pair-based": ("video-based", "audio-based"),
    "pair-fragments": ("video-fragments", "audio-fragments"),
    "pair-mixed": ("video-sidx", "audio"),
    "long": ("video-long", "audio-long"),
    "long-sidx": ("video-long-sidx", "audio-long-sidx"),
}
"""Maps each page of the sample site to its best video format and its best audio format."""


@pytest.mark.parametrize("page", PAIRS)
def test_separate_video_and_audio_are_merged_into_one_mp4_of_known_length_that_contains_the_packets_of_both(
    server: Server, media: Path, page: str
) -> None:
    answer = server.get(f"/tube/watch/{page}")
    assert (answer.status, answer.complete) == (200, True)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-serverpy-method"] == "relay"
    for kind, name in zip(("video", "audio"), PAIRS[page], strict=True):
        assert packets(answer.body, kind) == packets((media / RENDITIONS[name].file).read_bytes(), kind)


@pytest.mark.parametrize("page", ["pair", "pair-sidx", "pair-based", "pair-mixed", "long-sidx"])
def test_every_range_of_the_stream_of_a_merged_mp4_is_a_slice_of_the_whole_file(server: Server, page: str) -> None:
    whole = server.get(f"/tube/watch/{page}")
    total, dice = len(whole.body), random.Random(page)
    for _ in range(50):
        first, last = sorted(dice.sample(range(total), 2))
        part = server.get(f"/tube/watch/{page}", headers={"Range": f"bytes={first}-{last}"})
        assert (part.status, part.headers["content-range"]) == (206, f"bytes {first}-{last}/{total}")
        assert part.headers["etag"] == whole.headers["etag"]
        assert part.body == whole.body[first : last + 1]


def test_a_suffix_range_of_the_stream_of_a_merged_mp4_returns_the_end_of_the_whole_file(server: Server) -> None:
    whole = server.get("/tube/watch/pair")
    part = server.get("/tube/watch/pair", headers={"Range": "bytes=-70000"})
    assert (part.status, part.body) == (206, whole.body[-70000:])


def test_a_range_beyond_the_end_of_the_stream_of_a_merged_mp4_is_refused_with_416(server: Server) -> None:
    total = int(server.get("/tube/watch/pair", verb="HEAD").headers["content-length"])
    answer = server.get("/tube/watch/pair", headers={"Range": f"bytes={total}-"})
    assert (answer.status, answer.code) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{total}"


def test_a_range_of_the_stream_of_a_merged_mp4_with_an_outdated_if_range_returns_the_whole_file(server: Server) -> None:
    etag = server.get("/tube/watch/pair", verb="HEAD").headers["etag"]
    same = server.get("/tube/watch/pair", headers={"Range": "bytes=0-99", "If-Range": etag})
    other = server.get("/tube/watch/pair", headers={"Range": "bytes=0-99", "If-Range": '"another"'})
    assert (same.status, len(same.body)) == (206, 100)
    assert (other.status, str(len(other.body))) == (200, other.headers["content-length"])


def test_head_for_the_stream_of_a_merged_mp4_has_the_headers_of_get(server: Server) -> None:
    names = ("content-type", "content-length", "accept-ranges", "etag", "content-disposition")
    head, get = (server.get("/tube/watch/pair-sidx", verb=verb) for verb in ("HEAD", "GET"))
    assert [head.headers[name] for name in names] == [get.headers[name] for name in names]
    assert head.body == b""


def test_a_format_selector_may_merge_a_video_and_an_audio_format(server: Server) -> None:
    answer = server.get("/tube/watch/full", format="bv[ext=mp4]+ba[ext=m4a]", to="mp4")
    assert (answer.status, answer.headers["content-type"]) == (200, "video/mp4")
    assert len(packets(answer.body, "audio")) > 0


@pytest.mark.parametrize(
    ("page", "format"),
    [("pair-webm", "bv+ba"), ("pairs", "bv[ext=webm]+ba[ext=m4a]"), ("pair-or-film", "bv+ba")],
)
def test_a_pair_of_formats_that_cannot_be_merged_is_refused_with_422(server: Server, page: str, format: str) -> None:
    answer = server.get(f"/tube/watch/{page}", format=format)
    assert (answer.status, answer.code) == (422, "unsupported_conversion")


def test_a_muxed_format_is_streamed_in_place_of_a_pair_of_tracks_that_cannot_be_merged(
    server: Server, media: Path
) -> None:
    answer = server.get("/tube/watch/pair-or-film")
    assert (answer.status, answer.body) == (200, (media / "prog-180.mp4").read_bytes())
    server.settled()


@pytest.mark.parametrize("page", ["pair", "pair-sidx"])
@pytest.mark.parametrize("faults", ["expire=1500000", "rst=2000000", "status=503,times=1"])
def test_the_stream_of_a_merged_mp4_recovers_from_expired_urls_and_resets_and_temporary_errors(
    server: Server, faults: str, page: str
) -> None:
    answer = server.get(f"/tube/watch/fault/{faults}/{page}")
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == server.get(f"/tube/watch/{page}").body


def test_a_pair_of_tracks_from_a_media_server_without_range_support_is_refused(server: Server) -> None:
    answer = server.get("/tube/watch/fault/norange/pair")
    assert (answer.status, answer.code) == (422, "unsupported_conversion")


def test_embedded_refuses_a_requested_pair_of_tracks_with_422(server: Server) -> None:
    answer = server.get("/tube/watch/pair", method="embedded", format="bv+ba")
    assert (answer.status, answer.code) == (422, "unsupported_conversion")


@pytest.mark.parametrize(
    ("page", "method", "file"), [("pair", "embedded", "audio"), ("pair-webm", "auto", "audio-webm")]
)
def test_a_page_is_streamed_as_audio_only_if_the_method_can_merge_none_of_its_pairs_of_formats(
    server: Server, media: Path, page: str, method: str, file: str
) -> None:
    answer = server.get(f"/tube/watch/{page}", method=method)
    assert (answer.status, answer.body) == (200, (media / RENDITIONS[file].file).read_bytes())


def test_the_server_has_no_open_stream_after_a_client_disconnects_from_the_stream_of_a_merged_mp4(
    server: Server,
) -> None:
    with server.open("/tube/watch/pair", receive_bytes=4096) as exchange:
        exchange.read(1)
        assert server.health()["streams"] == 1
    server.settled()


@pytest.mark.parametrize("page", ["long", "long-sidx", "pair-cut", "pair-uneven"])
def test_a_merged_mp4_decodes_to_the_frames_of_its_sources(server: Server, media: Path, page: str) -> None:
    film = server.get(f"/tube/watch/{page}").body
    for kind, name in zip(("video", "audio"), PAIRS[page], strict=True):
        assert decoded(film, kind) == decoded((media / RENDITIONS[name].file).read_bytes(), kind)


@pytest.mark.parametrize("page", ["long", "long-sidx"])
@pytest.mark.parametrize("seconds", [7.3, 31.0, 55.9])
def test_a_seek_in_a_merged_mp4_finds_a_key_frame_at_most_five_seconds_before_its_target(
    server: Server, page: str, seconds: float
) -> None:
    """A player finds the target of a seek with few changes of its position in the file. In a fragmented MP4 without a
    sidx for each track, the player would need 730 changes."""
    time, is_key, jumps = sought(server.get(f"/tube/watch/{page}").body, seconds)
    assert is_key
    assert seconds - 5 <= time <= seconds
    assert jumps < 40  # PyAV 18 makes fewer than 20 seeks in the file, PyAV 19 up to 24
