"""The layout of the MP4 that the weaver merges from two located files. The merged file is fragmented if at least one of
the files is fragmented and `as_plain` has not converted it."""

from __future__ import annotations

from serverpy.errors import UnsupportedConversion
from serverpy.media.mp4.defragment import defragmented, defragmented_bytes
from serverpy.media.mp4.fragments import lay_out_fragments
from serverpy.media.mp4.layout import Layout
from serverpy.media.mp4.locate import MAX_INDEX_BYTES, Located
from serverpy.media.mp4.made_fragments import made_bytes
from serverpy.media.mp4.plain import lay_out_plain
from serverpy.media.mp4.samples import unlisted_bytes
from serverpy.media.mp4.tracks import AUDIO_HANDLER, VIDEO_HANDLER, find_track


def lay_out(video: Located, audio: Located) -> Layout:
    """Return the layout of the MP4 that is merged from `video` and `audio`. Raises `NotMedia` if a file is damaged,
    `UnsupportedConversion` if the tracks cannot be merged or the layout exceeds MAX_INDEX_BYTES, and `DrmProtected` if
    a track is encrypted."""
    is_fragmented = video.fragmented or audio.fragmented
    layout = lay_out_fragments(video, audio) if is_fragmented else lay_out_plain(video, audio)
    if layout.nbytes > MAX_INDEX_BYTES:
        raise UnsupportedConversion(
            "The merged index (moov and sidx) of these formats is too large for this server, so they cannot be merged: "
            "choose a single format."
        )
    return layout


def peak_bytes(video: Located, audio: Located) -> int:
    """Return the maximum number of bytes of memory that `lay_out` takes in addition to `video` and `audio`. The factors
    in this function are measured values plus a margin. Raises the errors of `lay_out`."""
    tables = len(video.moov) + len(audio.moov)
    video_track, audio_track = find_track(video.moov, VIDEO_HANDLER), find_track(audio.moov, AUDIO_HANDLER)
    unlisted = unlisted_bytes(video_track, video.total) + unlisted_bytes(audio_track, audio.total)
    indices = sum(len(index or b"") for source in (video, audio) for index in (source.sidx, source.mfra))
    made = 0
    if video.fragmented != audio.fragmented:
        made = made_bytes(audio_track, audio.total) if video.fragmented else made_bytes(video_track, video.total)
    return 5 * tables + unlisted + 32 * indices + made


def plain_bytes(source: Located, handler: bytes) -> int:
    """Return the maximum number of bytes of memory that `as_plain` takes in addition to `source`. Raises the errors of
    `as_plain`."""
    return 0 if source.moofs is None else defragmented_bytes(source.moov, source.moofs, handler)


def as_plain(source: Located, handler: bytes) -> Located:
    """Return `source` as a file that is not fragmented and has one track, with the type `handler`, if all moof boxes of
    `source` are known. Otherwise returns `source`. Raises the errors of `lay_out`."""
    if source.moofs is None:
        return source
    moov = defragmented(source.moov, source.moofs, handler, source.total)
    return Located(source.total, moov, fragmented=False)
