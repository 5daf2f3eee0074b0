"""Containers, which are recognised by the first bytes of a file, an extension or a Content-Type.

`identify` decides whether bytes are media: it trusts the first bytes if they are conclusive, and rejects web pages,
documents and text. `table` lists the containers, with the values of `to`; `magic` recognises bytes.
"""

from serverpy.containers.identify import SNIFF_BYTES, enough_bytes, identify, sniff
from serverpy.containers.table import (
    BY_EXTENSION,
    M4A,
    MP4,
    TARGETS,
    UNAVAILABLE,
    UNKNOWN,
    WEBM,
    Container,
    Target,
    by_type,
)

__all__ = [
    "BY_EXTENSION",
    "M4A",
    "MP4",
    "SNIFF_BYTES",
    "TARGETS",
    "UNAVAILABLE",
    "UNKNOWN",
    "WEBM",
    "Container",
    "Target",
    "by_type",
    "enough_bytes",
    "identify",
    "sniff",
]
