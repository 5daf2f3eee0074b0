"""Tests of the sample site's hostile media. Each file is broken in the way that its name states, and takes little
memory of the site."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from Cryptodome.Cipher import AES
from Cryptodome.Util.Padding import unpad

from serverpy.sample import SampleSite
from serverpy.sample.boxes import boxes
from serverpy.sample.catalogue import TRAPS
from serverpy.sample.hostile import (
    DEPTH,
    ENDLESS_BYTES,
    FILMS,
    HOSTILE,
    INDEXED_FILMS,
    IV,
    KEY,
    MILLION,
    RepeatedContent,
    hostile,
)

from .conftest import YtDlp
from .raw import ask

UNREADABLE = {"size-small", "size-wide", "no-moov", "cut-moov", "deep"}


def whole(name: str, media: Path) -> bytes:
    content = hostile(name, media)
    assert content
    return b"".join(content.pieces(0, content.size))


@pytest.mark.parametrize("name", HOSTILE)
def test_the_site_serves_each_hostile_file_and_a_page_that_contains_it(site: SampleSite, name: str) -> None:
    assert f'src="/hostile/{name}"' in ask(f"{site.http}/page/hostile/{name}").body.decode()
    head = ask(f"{site.http}/hostile/{name}", method="HEAD")
    assert head.status == 200
    assert head.headers["content-type"].startswith(("application/vnd.apple", "application/dash", "video/mp4"))


def test_an_unknown_hostile_file_is_answered_with_404(site: SampleSite) -> None:
    for name in ("nothing.m3u8", "nothing.mp4", "nothing", "nothing.ts", "../make.py"):
        assert ask(f"{site.http}/hostile/{name}").status == 404


def test_content_that_consists_of_repeated_bytes_returns_the_right_bytes_from_any_offset() -> None:
    content = RepeatedContent(b"head", b"abc", b"tail!", 4 + 3 * 50_000 + 5, "text/plain")
    expected = b"head" + b"abc" * 50_000 + b"tail!"
    assert b"".join(content.pieces(0, content.size)) == expected
    for start, stop in ((0, 3), (3, 8), (5, 6), (4, 100_000), (150_000, 150_009), (150_005, 150_006)):
        assert b"".join(content.pieces(start, stop)) == expected[start:stop]


def test_the_hostile_playlist_million_m3u8_has_a_million_segments(media: Path) -> None:
    text = whole("million.m3u8", media)
    assert text.startswith(b"#EXTM3U\n")
    assert text.endswith(b"#EXT-X-ENDLIST\n")
    assert text.count(b"\n../hls/ts/low-0.ts\n") == MILLION


def test_the_site_generates_the_endless_playlist_while_the_client_reads_it(site: SampleSite) -> None:
    assert ask(f"{site.http}/hostile/endless.m3u8", method="HEAD").headers["content-length"] == str(ENDLESS_BYTES)
    answer = ask(f"{site.http}/fault/cut=200000/hostile/endless.m3u8")
    assert len(answer.body) == 200_000
    assert answer.body.count(b"\n") > 6000


def test_the_hostile_segments_are_empty_or_cannot_be_decrypted(site: SampleSite) -> None:
    assert ask(f"{site.http}/hostile/zero.ts").body == b""
    assert [len(ask(f"{site.http}/hostile/{name}.key").body) for name in ("short", "right", "long")] == [15, 16, 17]
    good, odd, bad = (ask(f"{site.http}/hostile/{name}.ts").body for name in ("secret", "odd", "padding"))
    assert len(odd) % 16
    assert unpad(AES.new(KEY, AES.MODE_CBC, IV).decrypt(good), 16) == site.path("hls/ts/low-0.ts").read_bytes()
    with pytest.raises(ValueError, match=r"[Pp]adding"):
        unpad(AES.new(KEY, AES.MODE_CBC, IV).decrypt(bad), 16)


def is_playable(film: Path) -> bool:
    try:
        with av.open(film) as opened:
            return any(packet.size for packet in opened.demux())
    except av.error.FFmpegError:
        return False


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_a_hostile_mp4_in_which_the_moov_or_its_content_cannot_be_found_cannot_be_played(
    media: Path, tmp_path: Path, name: str
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(whole(f"{name}.mp4", media))
    assert not is_playable(film)


def test_the_hostile_file_deep_mp4_has_boxes_that_are_nested_a_thousand_levels_deep(media: Path) -> None:
    film, depth = whole("deep.mp4", media), 0
    (box,) = (box for box in boxes(film) if box.kind == b"moov")
    inner = [box]
    while inner:
        depth += 1
        inner = list(boxes(film, inner[0].start, inner[0].stop))
    assert depth == DEPTH


def test_each_hostile_mp4_differs_from_the_valid_mp4_from_which_it_was_made(media: Path) -> None:
    for name in (*FILMS, *INDEXED_FILMS):
        good = "video-180.mp4" if name in FILMS else "video-180-sidx.mp4"
        assert whole(f"{name}.mp4", media) != (media / good).read_bytes()


@pytest.mark.parametrize("name", TRAPS)
def test_sampletube_offers_each_hostile_mp4_together_with_a_valid_audio_track(
    site: SampleSite, ytdlp: YtDlp, name: str
) -> None:
    found = {entry["format_id"]: entry for entry in ytdlp.info(f"{site.http}/tube/watch/{name}")["formats"]}
    assert set(found) == set(TRAPS[name])
    assert found[name]["url"] == f"{site.http}/tube/media/hostile/{name.removeprefix('hostile-')}.mp4"
