"""The recognition of containers by the first bytes of a file, by its extension or by a Content-Type.

The module `identify` decides by the first bytes if these identify a container, and rejects web pages, documents and
text. `table` lists the containers, and the values of the request parameter `to` that select a container. `magic`
recognises a container by the first bytes of a file.
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
