"""The one question of whoever weaves: the layout of two files that were located, whichever kind they are."""

from __future__ import annotations

from serverpy.errors import UnsupportedConversion
from serverpy.media.mp4.layout import Layout
from serverpy.media.mp4.locate import Located
from serverpy.media.mp4.plain import lay_out_plain


def lay_out(video: Located, audio: Located) -> Layout:
    """Raises `NotMedia` for damaged files, `UnsupportedConversion` and `DrmProtected` for tracks that cannot be woven,
    `TooLarge` for an index beyond MAX_INDEX_BYTES."""
    if video.fragmented or audio.fragmented:
        raise UnsupportedConversion("One of the two formats is in fragments.")
    return lay_out_plain(video, audio)


def peak_bytes(video: Located, audio: Located) -> int:
    """What `lay_out` holds at most, beside what was located."""
    return 6 * (len(video.moov) + len(audio.moov))
