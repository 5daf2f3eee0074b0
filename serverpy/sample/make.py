"""The sample media, made with PyAV at first use and kept in a cache directory; nothing of it is stored in the project.

Two pictures and one tone are encoded; everything else (TS, fragments, playlists, single tracks) is cut from them
without encoding again. That takes a few seconds of CPU, once per version of this file.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tempfile
from array import array
from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import pi, sin
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

SECONDS = 10
FRAMES_PER_SECOND = 25
SEGMENT_SECONDS = 2
SAMPLE_RATE = 48_000
HIGH = (640, 360)
LOW = (320, 180)

X264 = {"preset": "ultrafast", "sc_threshold": "0", "threads": "1"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "threads": "1"}


def default_directory() -> Path:
    """Where this version of the media lives; another recipe or another libav gets a directory of its own."""
    recipe = hashlib.sha256(Path(__file__).read_bytes() + av.__version__.encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "serverpy" / f"sample-{recipe}"


def ensure_media(directory: Path | None = None) -> Path:
    """The directory with all media in it, made if it is not there.

    Processes may call this at the same moment: each makes its own copy beside the target, and the first to rename
    it wins. A directory that exists is complete.
    """
    target = directory or default_directory()
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        make_all(draft)
        _publish(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _publish(draft: Path, target: Path) -> None:
    try:
        draft.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def make_all(directory: Path) -> None:
    """Every file of the recipe, into an empty `directory`."""
    encode_mp4(directory / "prog.mp4", HIGH, 4_000_000)


def encode_mp4(path: Path, size: tuple[int, int], bitrate: int) -> None:
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as out:
        video = _add_video(out, "libx264", size, bitrate, X264)
        audio = _add_audio(out, "aac", 128_000)
        _encode(out, video, audio)


def _add_video(
    out: OutputContainer, codec: str, size: tuple[int, int], bitrate: int, options: Mapping[str, str]
) -> VideoStream:
    """A picture whose keyframes fall on the borders of segments."""
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


def _encode(out: OutputContainer, video: VideoStream | None, audio: AudioStream | None) -> None:
    """Encode the sample into the streams given. Picture and tone go in second by second, so that they interleave."""
    pictures = picture(video.width, video.height) if video else iter(())
    tones = tone()
    for _ in range(SECONDS):
        if video:
            for _ in range(FRAMES_PER_SECOND):
                out.mux(video.encode(next(pictures)))
        if audio:
            out.mux(audio.encode(next(tones)))
    for stream in (video, audio):
        if stream:
            out.mux(stream.encode(None))


def picture(width: int, height: int, frames: int = SECONDS * FRAMES_PER_SECOND) -> Iterator[av.VideoFrame]:
    """A moving ramp over a band of noise: the noise makes the size of the files that of real ones."""
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


def tone() -> Iterator[av.AudioFrame]:
    """Frames of one second: a whole number of waves fits, so each second is the same and joins without a click."""
    wave = array("f", (0.2 * sin(2 * pi * 440 * n / SAMPLE_RATE) for n in range(SAMPLE_RATE))).tobytes()
    for second in range(SECONDS):
        frame = av.AudioFrame(format="fltp", layout="stereo", samples=SAMPLE_RATE)
        for plane in frame.planes:
            plane.update(wave.ljust(plane.buffer_size, b"\0"))
        frame.sample_rate = SAMPLE_RATE
        frame.pts = second * SAMPLE_RATE
        frame.time_base = Fraction(1, SAMPLE_RATE)
        yield frame
