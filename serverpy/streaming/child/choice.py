"""The default choice of the method `subprocess`, as options of yt-dlp. A child extracts the page itself, so `plan.py`
cannot choose for it. The options follow the rules of `default_choice.py` as far as yt-dlp can express them. The
functions are pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serverpy.default_choice import Wish
from serverpy.languages import codes_of, normalized

_PARTS = ("b", "ba", "bv*")
"""The selectors for the formats that the child may stream, best first. If the page has only separate video and audio,
the child streams the audio, because it cannot merge them, and audio without video is more useful to a client than video
without audio."""
_REST = "all"
"""The selector for images, which have neither a video nor an audio codec."""
_SIZES = ("filesize", "filesize_approx")
"""The fields of a format with its exact and its approximate size in bytes."""
_OTHER = re.compile("[^a-z0-9-]")
"""Pattern of characters that no language tag has, and that could end the filter."""


def selector_of(wish: Wish) -> str:
    """Return the format selector for the default choice by `wish`."""
    sizes = ("",) if wish.max_size is None else tuple(f"[{key}<={wish.max_size}]" for key in _SIZES)
    chosen = [f"{part}{language}{size}" for part in _PARTS for language in _languages(wish) for size in sizes]
    return "/".join([*chosen, *(f"{_REST}{size}" for size in sizes)])


def _languages(wish: Wish) -> Iterator[str]:
    """Yield the filters by language, best first. The last filter is empty, so it accepts any language."""
    if wish.language is not None:
        language, _, rest = _OTHER.sub("", normalized(wish.language)).partition("-")
        codes = "|".join(codes_of(language))
        if rest:
            yield f"[language~='(?i)^({codes})[-_]{rest.replace('-', '[-_]')}([-_]|$)']"
        yield f"[language~='(?i)^({codes})([-_]|$)']"
    yield ""


def order_of(wish: Wish) -> str:
    """Return the value of yt-dlp's option `--format-sort` for the default choice by `wish`: formats are sorted by
    original language, height and codec, in this order of precedence."""
    height = "res" if wish.height is None else f"res:{wish.height}"
    return ",".join(["lang", height, *([] if wish.codec == "any" else [f"vcodec:{wish.codec}"])])
