"""The one question of whoever weaves: the layout of two files that were located, whichever kind they are."""

from __future__ import annotations

from serverpy.errors import TooLarge, UnsupportedConversion
from serverpy.media.mp4.fragments import lay_out_fragments
from serverpy.media.mp4.layout import Layout
from serverpy.media.mp4.locate import MAX_INDEX_BYTES, Located
from serverpy.media.mp4.plain import lay_out_plain


def lay_out(video: Located, audio: Located) -> Layout:
    """Raises `NotMedia` for damaged files, `UnsupportedConversion` and `DrmProtected` for tracks that cannot be woven,
    `TooLarge` for an index beyond MAX_INDEX_BYTES."""
    if video.fragmented != audio.fragmented:
        raise UnsupportedConversion("One of the two formats is in fragments, the other is not: they cannot be merged.")
    layout = lay_out_fragments(video, audio) if video.fragmented else lay_out_plain(video, audio)
    if layout.nbytes > MAX_INDEX_BYTES:
        raise TooLarge("The index of these two formats is larger than this server allows.")
    return layout


def peak_bytes(video: Located, audio: Located) -> int:
    """What `lay_out` holds at most, beside what was located."""
    return 6 * (len(video.moov) + len(audio.moov))
