"""Tests that a merged MP4 keeps the gapless data of iTunes, as an edit list."""

from __future__ import annotations

from pathlib import Path

import pytest

from serverpy.media.mp4.gapless import Gapless
from serverpy.media.mp4.layout import Layout
from serverpy.media.mp4.tracks import AUDIO_HANDLER, Edit, find_track
from serverpy.media.mp4.woven import as_plain, lay_out
from tests.media.mp4.films import located, packets
from tests.media.mp4.shapes import INDEXED, as_by_itunes, in_fragments
from tests.media.mp4.test_plain import read

DELAY, PADDING, COUNT = 1024, 448, 480_000 - 448


def woven(media: Path, audio: bytes) -> Layout:
    video = located((media / "video-only.mp4").read_bytes())
    return lay_out(video, as_plain(located(audio), AUDIO_HANDLER))


def edits_of(layout: Layout) -> tuple[tuple[Edit, ...], int, int]:
    """Return the edit list of the audio, and the time scales of the movie and of the audio."""
    track = find_track(layout.header[layout.header.index(b"moov") - 4 :], AUDIO_HANDLER)
    return track.edits, track.movie_scale, track.scale


def test_the_gapless_data_of_itunes_becomes_an_edit_list_that_is_exact_to_the_sample(media: Path) -> None:
    audio = as_by_itunes((media / "audio-last.mp4").read_bytes(), DELAY, PADDING, COUNT)
    edits, movie_scale, scale = edits_of(woven(media, audio))
    assert [(edit.media_time, edit.duration * scale) for edit in edits] == [(DELAY, COUNT * movie_scale)]


def test_audio_with_the_gapless_data_of_itunes_is_merged_as_with_an_edit_list(media: Path) -> None:
    """The file with an edit list, as libav writes it, has the same packets at the same times."""
    video, edited = (media / "video-only.mp4").read_bytes(), (media / "audio-last.mp4").read_bytes()
    audio = as_by_itunes(edited, DELAY, 0, 480_000)
    assert packets(read(woven(media, audio), video, audio), "audio") == packets(edited, "audio")


def test_an_edit_list_of_the_source_has_priority_over_the_gapless_data_of_itunes(media: Path) -> None:
    edited = (media / "audio-last.mp4").read_bytes()
    both = as_by_itunes(edited, DELAY + 1000, PADDING, COUNT - 1000)
    moov = edited.index(b"edts") - 4
    edts = edited[moov : moov + int.from_bytes(edited[moov : moov + 4], "big")]
    assert edits_of(woven(media, with_edts(both, edts)))[0] == edits_of(woven(media, edited))[0]


def with_edts(film: bytes, edts: bytes) -> bytes:
    """Return the film, whose moov comes last, with an edit list in its track."""
    changed = bytearray(film)
    for kind in (b"trak", b"moov"):
        at = changed.index(kind) - 4
        changed[at : at + 4] = (int.from_bytes(changed[at : at + 4], "big") + len(edts)).to_bytes(4, "big")
    place = changed.index(b"mdia") - 4
    return bytes(changed[:place] + edts + changed[place:])


def test_audio_in_fragments_keeps_the_gapless_data_of_itunes(media: Path) -> None:
    audio = in_fragments(media / "audio-last.mp4", "audio", 2, INDEXED)
    moov = as_by_itunes(audio[: audio.index(b"sidx") - 4], DELAY, PADDING, COUNT)
    film = located(moov + audio[audio.index(b"sidx") - 4 :])
    edits, movie_scale, scale = edits_of(lay_out(located((media / "video-sidx.mp4").read_bytes()), film))
    assert [(edit.media_time, edit.duration * scale) for edit in edits] == [(DELAY, COUNT * movie_scale)]


@pytest.mark.parametrize(
    ("gapless", "length", "played"),
    [
        (Gapless(2112, 448, 1_000_000), 1_002_560, (2112, 1_000_000)),
        (Gapless(2112, 448, 1_000_000), 0, (2112, 1_000_000)),
        (Gapless(2112, 448, 1_000_000), 501_280, (1056, 500_000)),
        (Gapless(2112, 448, 1_000_000), 2_005_120, (4224, 2_000_000)),
        (Gapless(2112, 448, 1_000_000), 1_002_000, (2112, 999_888)),
        (Gapless(2112, 448, 1_000_000), 700_000, None),
        (Gapless(0, 0, 0), 0, None),
    ],
    ids=["fits", "unknown length", "HE-AAC", "half", "shorter", "other film", "empty"],
)
def test_gapless_data_is_used_only_if_it_fits_the_duration_of_the_media(
    gapless: Gapless, length: int, played: tuple[int, int] | None
) -> None:
    assert gapless.within(length) == played


@pytest.mark.parametrize("cut", [1, 20, 60, 70, -25, -40])
def test_damaged_metadata_is_ignored(media: Path, cut: int) -> None:
    """The damage is in a box header, in a name, or in the text after the name."""
    audio = bytearray(as_by_itunes((media / "audio-last.mp4").read_bytes(), DELAY, PADDING, COUNT))
    at = audio.index(b"iTunSMPB")
    audio[at - cut : at - cut + 12] = b"\xff" * 12
    assert edits_of(woven(media, bytes(audio)))[0] == ()
