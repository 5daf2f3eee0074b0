"""The tables of the videos of SampleTube, the invented video site of the sample site, and of the formats of each
video."""

from __future__ import annotations

from dataclasses import dataclass, replace

from serverpy.sample.cut import AAC
from serverpy.sample.dash import SHAPES as DASH
from serverpy.sample.encode import LONG_SECONDS, SECONDS
from serverpy.sample.hls import SHAPES as HLS
from serverpy.sample.hostile import FILMS, INDEXED_FILMS
from serverpy.sample.make import HIGH, LOW
from serverpy.sample.pages import HLS_APART

CHUNK_BYTES = 512 * 1024
POST_BODY = b"video=post&sign=3a7f"
H264 = "avc1.42c01e"
H264_LOW = "avc1.42c014"
H264_B_FRAMES = "avc1.4d400c"


@dataclass(frozen=True, slots=True)
class Rendition:
    """One format of a video, as the sample site's API describes it. `file` names a file of the sample media, and `path`
    is the path of that file below `/tube/media/`."""

    path: str
    file: str
    ext: str = "mp4"
    size: tuple[int, int] | None = None
    vcodec: str = "none"
    acodec: str = "none"
    protocol: str = "http"
    extra: tuple[tuple[str, object], ...] = ()


def _video(file: str, size: tuple[int, int], vcodec: str, **extra: object) -> Rendition:
    return Rendition(file, file, size=size, vcodec=vcodec, extra=tuple(extra.items()))


def _audio(file: str, **extra: object) -> Rendition:
    return Rendition(file, file, "m4a", acodec=AAC, extra=tuple(extra.items()))


def _manifest(file: str, protocol: str) -> Rendition:
    return Rendition(file, file, protocol=protocol)


def _in_chunks(rendition: Rendition) -> Rendition:
    """Return a copy of `rendition` whose URL serves only ranges of at most CHUNK_BYTES."""
    extra = (*rendition.extra, ("chunk_bytes", CHUNK_BYTES))
    return replace(rendition, path=f"chunked/{rendition.path}", extra=extra)


_DASH_VIDEO, _DASH_AUDIO = {"container": "mp4_dash"}, {"container": "m4a_dash"}

_PLAIN = ("last", "chunks", "wide")
_FRAGMENTED = ("based", "runs", "fragments")

_TRACKS = {
    "video": _video("video-only.mp4", HIGH, H264),
    "video-180": _video("video-180.mp4", LOW, H264_LOW),
    "audio": _audio("audio-only.mp4"),
    "video-sidx": _video("video-sidx.mp4", HIGH, H264, **_DASH_VIDEO),
    "video-180-sidx": _video("video-180-sidx.mp4", LOW, H264_LOW, **_DASH_VIDEO),
    "audio-sidx": _audio("audio-sidx.mp4", **_DASH_AUDIO),
    **{f"video-{layout}": _video(f"video-{layout}.mp4", HIGH, H264) for layout in _PLAIN},
    **{f"audio-{layout}": _audio(f"audio-{layout}.mp4") for layout in (*_PLAIN, "cut", "late", "long")},
    **{f"video-{layout}": _video(f"video-{layout}.mp4", HIGH, H264, **_DASH_VIDEO) for layout in _FRAGMENTED},
    **{f"audio-{layout}": _audio(f"audio-{layout}.mp4", **_DASH_AUDIO) for layout in (*_FRAGMENTED, "long-sidx")},
    **{f"video-{name}": _video(f"video-{name}.mp4", LOW, H264_B_FRAMES) for name in ("cut", "long")},
    "video-uneven": _video("video-uneven.mp4", LOW, "avc1.4d400d"),
    "video-long-sidx": _video("video-long-sidx.mp4", LOW, H264_B_FRAMES, **_DASH_VIDEO),
}
"""Formats with one track each, video or audio."""

RENDITIONS = {
    **_TRACKS,
    **{f"{name}-chunked": _in_chunks(_TRACKS[name]) for name in ("video-sidx", "video-180-sidx", "audio-sidx")},
    **{f"{name}-chunked": _in_chunks(_TRACKS[name]) for name in ("video", "audio")},
    "180": Rendition("prog-180.mp4", "prog-180.mp4", size=LOW, vcodec=H264_LOW, acodec=AAC),
    "360": Rendition("prog.mp4", "prog.mp4", size=HIGH, vcodec=H264, acodec=AAC),
    "long": Rendition("long.mp4", "long.mp4", size=LOW, vcodec=H264_B_FRAMES, acodec=AAC),
    "hls": Rendition("hls/ts/master.m3u8", "hls/ts/master.m3u8", protocol="hls"),
    "webm": Rendition("vp9.webm", "vp9.webm", "webm", LOW, "vp9", "opus"),
    "video-webm": Rendition("video-only.webm", "video-only.webm", "webm", LOW, "vp9"),
    "video-misnamed": Rendition("video-only.webm", "video-only.webm", size=HIGH, vcodec="vp9"),
    "audio-webm": Rendition("audio-only.webm", "audio-only.webm", "webm", acodec="opus"),
    "chunked": Rendition(
        "chunked/prog.mp4", "prog.mp4", size=HIGH, vcodec=H264, acodec=AAC, extra=(("chunk_bytes", CHUNK_BYTES),)
    ),
    "drm": Rendition("prog.mp4", "prog.mp4", size=HIGH, vcodec=H264, acodec=AAC, extra=(("drm", True),)),
    "post": Rendition(
        "post/prog.mp4", "prog.mp4", size=HIGH, vcodec=H264, acodec=AAC, extra=(("post_body", POST_BODY.decode()),)
    ),
    "m4a": Rendition("audio.m4a", "audio.m4a", "m4a", acodec=AAC),
    "mp3": Rendition("audio.mp3", "audio.mp3", "mp3", acodec="mp3"),
}

SIGNATURE = "3a7f"
SEGMENTED = {
    **{f"hls-{kind}": _manifest(f"hls/{kind}/master.m3u8", "hls") for kind in ("ts", "fmp4", "aes", "audio", *HLS)},
    **{f"hls-{form}": _manifest(f"hls/{form}/master.m3u8", "hls") for form in HLS_APART},
    **{f"dash-{name.removesuffix('.mpd')}": _manifest(f"dash/{name}", "dash") for name in DASH},
    "hls-signed": replace(
        _manifest("hls/aes/master.m3u8", "hls"),
        path="signed/hls/aes/master.m3u8",
        extra=(("fields", {"extra_param_to_segment_url": f"sig={SIGNATURE}"}),),
    ),
}
"""Formats that are delivered in segments."""

RENDITIONS |= SEGMENTED
RENDITIONS |= {
    f"hostile-{name}": Rendition(f"hostile/{name}.mp4", f"hostile/{name}.mp4", size=LOW, vcodec=H264_LOW)
    for name in (*FILMS, *INDEXED_FILMS)
}

FULL = ("180", "360", "video", "audio", "hls", "webm", "chunked")
PAIRS = {
    "pair": ("video", "video-180", "audio"),
    "pair-sidx": ("video-sidx", "video-180-sidx", "audio-sidx"),
    "pair-sidx-chunked": ("video-sidx-chunked", "video-180-sidx-chunked", "audio-sidx-chunked"),
    "pair-chunked": ("video-chunked", "audio-chunked"),
    "pair-last": ("video-last", "audio-last"),
    "pair-based": ("video-based", "audio-based"),
    "pair-fragments": ("video-fragments", "audio-fragments"),
    "pair-runs": ("video-runs", "audio-runs"),
    "pair-mixed": ("video-sidx", "audio"),
    "pair-chunks": ("video-chunks", "audio-chunks"),
    "pair-wide": ("video-wide", "audio-wide"),
    "pair-uneven": ("video-uneven", "audio"),
    "pair-cut": ("video-cut", "audio-cut"),
    "pair-late": ("video-long", "audio-late"),
    "pair-muxed": ("360", "audio"),
    "pair-webm": ("video-webm", "audio-webm"),
    "long": ("video-long", "audio-long"),
    "long-sidx": ("video-long-sidx", "audio-long-sidx"),
    "long-muxed": ("long",),
}
"""Videos with separate video and audio formats, and videos to compare them with."""
WATCH = {
    "full": FULL,
    "headers": ("360",),
    "chunked": ("chunked",),
    "drm": ("drm",),
    "slow": ("360",),
    "post": ("post",),
    "later": ("360",),
    "pair-or-film": ("180", "video-misnamed", "audio"),
    "pairs": ("180", "video-180", "audio", "video-webm", "audio-webm"),
    "webm-pair-or-film": ("180", "video-webm", "audio-webm"),
    "hls-audio-or-film": ("180", "hls-audio"),
    **PAIRS,
    **{name: (name,) for name in SEGMENTED},
}
TRAPS = {
    **{f"hostile-{name}": (f"hostile-{name}", "audio") for name in FILMS},
    **{f"hostile-{name}": (f"hostile-{name}", "audio-sidx") for name in INDEXED_FILMS},
}
"""Videos whose video track is a malicious file that `hostile.py` makes."""
ERRORS = frozenset({"geo", "login", "gone"})
LONG = frozenset({"long", "long-sidx", "long-muxed", "pair-cut", "pair-late"})


def duration_of(film: str) -> int:
    """Return the duration that the page of the video states, in seconds."""
    return LONG_SECONDS if film in LONG else SECONDS
