"""The layout of the MP4 that the weaver merges from two located files. The files must be both fragmented or both not
fragmented."""

from __future__ import annotations

from serverpy.errors import TooLarge, UnsupportedConversion
from serverpy.media.mp4.fragments import lay_out_fragments
from serverpy.media.mp4.layout import Layout
from serverpy.media.mp4.locate import MAX_INDEX_BYTES, Located
from serverpy.media.mp4.plain import lay_out_plain
from serverpy.media.mp4.samples import unlisted_bytes
from serverpy.media.mp4.tracks import AUDIO_HANDLER, VIDEO_HANDLER, find_track


def lay_out(video: Located, audio: Located) -> Layout:
    """Return the layout of the MP4 that is merged from `video` and `audio`. Raises `NotMedia` if a file is damaged,
    `UnsupportedConversion` if the tracks cannot be merged, `DrmProtected` if a track is encrypted, and `TooLarge` if
    the layout exceeds MAX_INDEX_BYTES."""
    if video.fragmented != audio.fragmented:
        raise UnsupportedConversion("Only one of the two formats is fragmented, so the formats cannot be merged.")
    layout = lay_out_fragments(video, audio) if video.fragmented else lay_out_plain(video, audio)
    if layout.nbytes > MAX_INDEX_BYTES:
        raise TooLarge(
            "The merged index (moov and sidx) of these formats is too large for this server: choose a single format."
        )
    return layout


def peak_bytes(video: Located, audio: Located) -> int:
    """Return the maximum number of bytes of memory that `lay_out` takes in addition to `video` and `audio`. The factors
    in this function are measured values plus a margin. Raises the errors of `lay_out`."""
    tables = len(video.moov) + len(audio.moov)
    video_track, audio_track = find_track(video.moov, VIDEO_HANDLER), find_track(audio.moov, AUDIO_HANDLER)
    unlisted = unlisted_bytes(video_track, video.total) + unlisted_bytes(audio_track, audio.total)
    indices = sum(len(index or b"") for source in (video, audio) for index in (source.sidx, source.mfra))
    return 5 * tables + unlisted + 32 * indices
