"""Encoding of the sample site's video and audio with PyAV into files. The encoding is deterministic: each run yields
the same bytes."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import pi, sin
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

SECONDS = 10
FRAMES_PER_SECOND = 25
LONG_SECONDS = 60
SEGMENT_SECONDS = 2
SAMPLE_RATE = 48_000
PHOTO = (720, 1280)

X264 = {"preset": "ultrafast", "sc_threshold": "0", "threads": "1"}
BIT_EXACT = {"fflags": "+bitexact"}
"""An option that makes the muxer write no random data: without it, each WebM file would have a random UID."""
B_FRAMES = {"bf": "2"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "threads": "1"}


def encode_mp4(path: Path, size: tuple[int, int], bitrate: int) -> None:
    """Encode a file with H.264 and AAC, with `moov` first."""
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as out:
        video = _add_video(out, "libx264", size, bitrate, X264)
        _encode(out, video, _add_audio(out, "aac", 128_000))


def encode_long_mp4(path: Path, size: tuple[int, int], bitrate: int) -> None:
    """Encode a file with a minute of H.264 and AAC, with B-frames and a low audio bit rate."""
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as out:
        video = _add_video(out, "libx264", size, bitrate, {**X264, **B_FRAMES})
        _encode(out, video, _add_audio(out, "aac", 48_000), LONG_SECONDS)


def encode_uneven_mp4(path: Path, size: tuple[int, int], bitrate: int) -> None:
    """Encode a file with only H.264, at a variable frame rate: some frames last two or five times as long as the
    others."""
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as out:
        video = _add_video(out, "libx264", size, bitrate, {**X264, **B_FRAMES})
        for frame in picture(*size, SECONDS * FRAMES_PER_SECOND):
            assert frame.pts is not None
            if frame.pts % 7 != 3 and frame.pts % 50 not in range(20, 24):
                out.mux(video.encode(frame))
        out.mux(video.encode(None))


def encode_clip(path: Path, size: tuple[int, int], bitrate: int) -> None:
    """Encode a file with only H.264, with `moov` first."""
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as out:
        _encode(out, _add_video(out, "libx264", size, bitrate, X264), None)


def encode_webm(path: Path, size: tuple[int, int], bitrate: int) -> None:
    """Encode a file with VP9 and Opus."""
    with av.open(path, "w", format="webm", options=BIT_EXACT) as out:
        video = _add_video(out, "libvpx-vp9", size, bitrate, VP9)
        _encode(out, video, _add_audio(out, "libopus", 96_000))


def encode_mp3(path: Path) -> None:
    with av.open(path, "w", format="mp3") as out:
        _encode(out, None, _add_audio(out, "libmp3lame", 128_000))


def encode_m4a(path: Path, bitrate: int) -> None:
    """Encode the tone with AAC, with `moov` first."""
    with av.open(path, "w", format="ipod", options={"movflags": "+faststart"}) as out:
        _encode(out, None, _add_audio(out, "aac", bitrate))


def encode_photos(paths: Sequence[Path]) -> None:
    """Write JPEG files in portrait format, each with a different frame of the video."""
    for path, frame in zip(paths, picture(*PHOTO, frames=len(paths)), strict=True):
        encoder = VideoCodecContext.create("mjpeg", "w")
        encoder.width, encoder.height = PHOTO
        encoder.pix_fmt = "yuvj420p"
        encoder.time_base = Fraction(1, FRAMES_PER_SECOND)
        path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))


def _add_video(
    out: OutputContainer, codec: str, size: tuple[int, int], bitrate: int, options: Mapping[str, str]
) -> VideoStream:
    """Add a video stream whose keyframes are at the segment boundaries."""
    keyframes = {"g": str(FRAMES_PER_SECOND * SEGMENT_SECONDS)}
    stream = out.add_stream(codec, rate=FRAMES_PER_SECOND, options={**options, **keyframes})
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.bit_rate = bitrate
    return stream


def _add_audio(out: OutputContainer, codec: str, bitrate: int) -> AudioStream:
    stream = out.add_stream(codec, rate=SAMPLE_RATE)
    assert isinstance(stream, AudioStream)
    stream.layout = "stereo"
    stream.bit_rate = bitrate
    return stream


def _encode(out: OutputContainer, video: VideoStream | None, audio: AudioStream | None, seconds: int = SECONDS) -> None:
    """Encode the frames into the given streams, second by second, so that video and audio interleave."""
    pictures = picture(video.width, video.height, seconds * FRAMES_PER_SECOND) if video else iter(())
    tones = tone(seconds)
    for _ in range(seconds):
        if video:
            for _ in range(FRAMES_PER_SECOND):
                out.mux(video.encode(next(pictures)))
        if audio:
            out.mux(audio.encode(next(tones)))
    for stream in (video, audio):
        if stream:
            out.mux(stream.encode(None))


def picture(width: int, height: int, frames: int) -> Iterator[av.VideoFrame]:
    """Generate video frames with a moving ramp above a band of noise. The noise makes the files as large as those of
    real videos."""
    grain = random.Random(0).randbytes(1 << 20).translate(bytes(96 + (value >> 2) for value in range(256)))
    ramp = bytes(column * 255 // width for column in range(width)) * 2
    for number in range(frames):
        frame = av.VideoFrame(width, height, "yuv420p")
        luma, *chroma = frame.planes
        line = luma.line_size
        sky = (ramp[start : start + width].ljust(line, b"\0") for start in _drift(number, height * 2 // 3, width))
        ground = _grain_at(grain, number * 7919, line * (height - height * 2 // 3))
        luma.update(b"".join(sky) + ground)
        for plane, sign in zip(chroma, (1, -1), strict=True):
            plane.update(bytes([128 + sign * (number % 64)]) * plane.buffer_size)
        frame.pts = number
        frame.time_base = Fraction(1, FRAMES_PER_SECOND)
        yield frame


def _drift(number: int, rows: int, width: int) -> Iterator[int]:
    return ((number * 4 + row) % width for row in range(rows))


def _grain_at(grain: bytes, offset: int, size: int) -> bytes:
    start = offset % (len(grain) - size)
    return grain[start : start + size]


def tone(seconds: int) -> Iterator[av.AudioFrame]:
    """Generate audio frames of one second. Each frame has a whole number of waves, so all frames are equal and join
    without a click."""
    wave = array("f", (0.2 * sin(2 * pi * 440 * n / SAMPLE_RATE) for n in range(SAMPLE_RATE))).tobytes()
    for second in range(seconds):
        frame = av.AudioFrame(format="fltp", layout="stereo", samples=SAMPLE_RATE)
        for plane in frame.planes:
            plane.update(wave.ljust(plane.buffer_size, b"\0"))
        frame.sample_rate = SAMPLE_RATE
        frame.pts = second * SAMPLE_RATE
        frame.time_base = Fraction(1, SAMPLE_RATE)
        yield frame
