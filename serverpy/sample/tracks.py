"""Separate video and audio files, as delivered by sites that leave the merge to the client. The files are plain or
fragmented, in every layout that MP4 allows for the same samples."""

from __future__ import annotations

from pathlib import Path

import av
from av.packet import Packet
from av.stream import Stream

from serverpy.sample.boxes import based_on_their_places, each_sample_a_chunk, in_two_runs, one_wide_chunk
from serverpy.sample.cut import FRAGMENTED, copy
from serverpy.sample.encode import BIT_EXACT, encode_long_mp4, encode_uneven_mp4

FIRST = {"movflags": "+faststart"}
LAST: dict[str, str] = {}
INDEX = "+global_sidx"
AUDIO_FRAGMENTS = {"frag_duration": "2000000"}
"""Muxer option that states the duration of audio fragments in microseconds. Without it each audio frame would become a
fragment, because every audio frame is a key frame."""
CUT_VIDEO, CUT_AUDIO, LATE_AUDIO = 2.72, 2.51, -0.4
"""Seconds by which a track is moved earlier (if negative, later). The file contains samples before time zero, but
players do not play them."""


def make_tracks(directory: Path, low: tuple[int, int]) -> None:
    """Make all files of this module from the MP4s that are already in `directory`."""
    _make_plain(directory)
    _make_fragmented(directory)
    _make_edited(directory, low)
    _make_long(directory, low)


def _make_plain(directory: Path) -> None:
    film, small, webm = (directory / name for name in ("prog.mp4", "prog-180.mp4", "vp9.webm"))
    copy(film, directory / "audio.m4a", "ipod", "audio", FIRST)
    for source, name in ((film, "video-only"), (small, "video-180")):
        copy(source, directory / f"{name}.mp4", "mp4", "video", FIRST)
    copy(film, directory / "audio-only.mp4", "mp4", "audio", FIRST)
    for kind in ("video", "audio"):
        copy(film, directory / f"{kind}-last.mp4", "mp4", kind, LAST)
        copy(webm, directory / f"{kind}-only.webm", "webm", kind, BIT_EXACT)
        track = (directory / f"{kind}-last.mp4").read_bytes()
        (directory / f"{kind}-chunks.mp4").write_bytes(each_sample_a_chunk(track))
        (directory / f"{kind}-wide.mp4").write_bytes(one_wide_chunk(track))


def _make_fragmented(directory: Path) -> None:
    film, small = directory / "prog.mp4", directory / "prog-180.mp4"
    # without `default_base_moof`, each fragment states its own offset in the file
    based = FRAGMENTED.replace("+default_base_moof", "")
    for kind in ("video", "audio"):
        more = AUDIO_FRAGMENTS if kind == "audio" else {}
        for name, flags in (("sidx", FRAGMENTED + INDEX), ("based", based + INDEX), ("fragments", FRAGMENTED)):
            copy(film, directory / f"{kind}-{name}.mp4", "mp4", kind, {"movflags": flags, **more})
        track = directory / f"{kind}-based.mp4"
        track.write_bytes(based_on_their_places(track.read_bytes()))
        indexed = (directory / f"{kind}-sidx.mp4").read_bytes()
        (directory / f"{kind}-runs.mp4").write_bytes(in_two_runs(indexed))
    copy(small, directory / "video-180-sidx.mp4", "mp4", "video", {"movflags": FRAGMENTED + INDEX})


def _make_edited(directory: Path, low: tuple[int, int]) -> None:
    encode_uneven_mp4(directory / "video-uneven.mp4", low, 300_000)


def _make_long(directory: Path, low: tuple[int, int]) -> None:
    """Make an MP4 of one minute, and copies of its tracks. The edit lists of these copies begin in the middle of the
    track, at a frame that is not a key frame."""
    film = directory / "long.mp4"
    encode_long_mp4(film, low, 150_000)
    for kind in ("video", "audio"):
        more = AUDIO_FRAGMENTS if kind == "audio" else {}
        copy(film, directory / f"{kind}-long.mp4", "mp4", kind, FIRST)
        copy(film, directory / f"{kind}-long-sidx.mp4", "mp4", kind, {"movflags": FRAGMENTED + INDEX, **more})
    move(film, directory / "video-cut.mp4", "video", CUT_VIDEO)
    move(film, directory / "audio-cut.mp4", "audio", CUT_AUDIO)
    move(film, directory / "audio-late.mp4", "audio", LATE_AUDIO)


def move(source: Path, target: Path, kind: str, seconds: float) -> None:
    """Copy one track of `source`, moved `seconds` earlier. The copy begins with the first key frame that is at most two
    seconds before time zero; an edit list (ISO/IEC 14496-12 §8.6.6) hides the samples before time zero."""
    options = {**FIRST, "avoid_negative_ts": "disabled"}
    with av.open(source) as film, av.open(target, "w", format="mp4", options=options) as out:
        (track,) = (stream for stream in film.streams if stream.type == kind)
        moved = out.add_stream_from_template(track)
        begun = False
        for packet in film.demux(track):
            if packet.dts is None:
                continue
            _shift(packet, -seconds)
            begun = begun or (packet.is_keyframe and _seconds(packet) >= -2)
            if begun:
                packet.stream = moved
                out.mux(packet)


def _shift(packet: Packet[Stream], seconds: float) -> None:
    assert packet.pts is not None
    assert packet.dts is not None
    ticks = round(seconds / packet.time_base)
    packet.pts += ticks
    packet.dts += ticks


def _seconds(packet: Packet[Stream]) -> float:
    assert packet.pts is not None
    return float(packet.pts * packet.time_base)
