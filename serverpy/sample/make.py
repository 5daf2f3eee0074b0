"""The sample media, made with PyAV on first use and kept in a cache directory; the repository contains none of them.

Some videos and a tone are encoded (`encode.py`); everything else (TS, fragments, playlists, single tracks) is made from
them without encoding again. This takes about three seconds of CPU, once per version of the code.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import av

from serverpy.sample.apart import make_apart
from serverpy.sample.cut import (
    AAC,
    Representation,
    Variant,
    copy,
    cut_dash,
    cut_hls,
    encrypt_hls,
    h264_codec,
    write_master,
)
from serverpy.sample.dash import make_dash_shapes
from serverpy.sample.encode import (
    SAMPLE_RATE,
    SECONDS,
    encode_clip,
    encode_m4a,
    encode_mp3,
    encode_mp4,
    encode_photos,
    encode_webm,
)
from serverpy.sample.hls import make_shapes
from serverpy.sample.tracks import make_tracks

HIGH = (640, 360)
LOW = (320, 180)
CLIP = (160, 90)
PHOTOS = 5
RECIPE = ("make.py", "encode.py", "cut.py", "boxes.py", "hls.py", "apart.py", "dash.py", "tracks.py")
CAPTIONS = {
    "en": ("A ramp moves.", "Noise below it.", "A tone sounds."),
    "de": ("Eine Rampe bewegt sich.", "Darunter Rauschen.", "Ein Ton erklingt – überall."),
}


def default_directory() -> Path:
    """Return the cache directory for this version of the media. Its name depends on the code that makes the media and
    on the version of libav."""
    recipe = b"".join((Path(__file__).parent / name).read_bytes() for name in RECIPE)
    version = hashlib.sha256(recipe + av.__version__.encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "serverpy" / f"sample-{version}"


def ensure_media(directory: Path | None = None) -> Path:
    """Return the directory with all media. Makes the directory first if it does not exist.

    Processes may call this function at the same time: each makes a copy of its own beside the target, and the first
    process to rename its copy wins. A directory that exists is complete.
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
    """Make all media files in an empty `directory`."""
    _make_films(directory)
    make_tracks(directory, LOW)
    _make_hls(directory)
    _make_dash(directory)
    encode_photos([directory / f"photo-{number}.jpg" for number in range(1, PHOTOS + 1)])
    for language, lines in CAPTIONS.items():
        (directory / f"subs.{language}.vtt").write_text(_web_vtt(lines), encoding="utf-8")


def _make_films(directory: Path) -> None:
    encode_mp4(directory / "prog.mp4", HIGH, 4_000_000)
    encode_mp4(directory / "prog-180.mp4", LOW, 800_000)
    encode_clip(directory / "clip.mp4", CLIP, 49_000)
    encode_webm(directory / "vp9.webm", LOW, 600_000)
    encode_mp3(directory / "audio.mp3")
    encode_m4a(directory / "german.m4a", 64_000)
    copy(directory / "prog.mp4", directory / "moov-last.mp4", "mp4", "video audio", {})
    (directory / "empty.mp4").touch()


def _make_hls(directory: Path) -> None:
    films = {"high": (directory / "prog.mp4", HIGH), "low": (directory / "prog-180.mp4", LOW)}
    variants = [Variant(name, film, size, f"{h264_codec(film)},{AAC}") for name, (film, size) in films.items()]
    for kind in ("ts", "fmp4", "aes", "audio"):
        folder = directory / "hls" / kind
        folder.mkdir(parents=True)
        for variant in variants:
            tracks = "video" if kind == "audio" else "video audio"
            cut_hls(folder, variant.name, variant.film, tracks, fragmented=kind == "fmp4")
            if kind == "aes":
                encrypt_hls(folder, variant.name, explicit_iv=variant.name == "high")
        if kind == "audio":
            cut_hls(folder, "sound", films["high"][0], "audio")
        write_master(folder, variants, "sound" if kind == "audio" else None)
    make_shapes(directory / "hls")
    make_apart(directory, {name: film for name, (film, _) in films.items()}, directory / "german.m4a")


def _make_dash(directory: Path) -> None:
    folder = directory / "dash"
    folder.mkdir()
    high, low = directory / "prog.mp4", directory / "prog-180.mp4"
    tracks = [
        Representation("video-360", high, "video", h264_codec(high), 'width="640" height="360" frameRate="25"'),
        Representation("video-180", low, "video", h264_codec(low), 'width="320" height="180" frameRate="25"'),
        Representation("audio", high, "audio", AAC, f'audioSamplingRate="{SAMPLE_RATE}"'),
    ]
    make_dash_shapes(folder, [(track, cut_dash(folder, track)) for track in tracks])


def _web_vtt(lines: tuple[str, ...]) -> str:
    step = SECONDS // len(lines)
    cues = [
        f"00:{number * step:02}.000 --> 00:{(number + 1) * step:02}.000\n{line}\n" for number, line in enumerate(lines)
    ]
    return "\n".join(["WEBVTT\n", *cues])
