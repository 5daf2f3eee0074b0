"""The default choice of a child, as options of yt-dlp. A child extracts the page itself, so `plan.py` cannot choose for
it. The options follow the rules of `default_choice.py` as far as yt-dlp can express them. The functions are pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serverpy.default_choice import Wish
from serverpy.languages import codes_of, normalized

_PARTS = ("b", "ba", "bv*")
"""What the child may stream, best first. If the page has only separate video and audio, the child streams the audio,
because it cannot merge them, and a client can use audio without video rather than video without audio."""
_REST = "all"
"""The selector for images, which have neither a video nor an audio codec."""


def selector_of(wish: Wish) -> str:
    """Return the format selector for the default choice by `wish`."""
    sizes = ("",) if wish.max_size is None else tuple(f"[{key}<={wish.max_size}]" for key in _SIZES)
    chosen = [f"{part}{language}{size}" for part in _PARTS for language in _languages(wish) for size in sizes]
    return "/".join([*chosen, *(f"{_REST}{size}" for size in sizes)])


_SIZES = ("filesize", "filesize_approx")
_OTHER = re.compile("[^a-z0-9-]")
"""Pattern of characters that no language tag has, and that could end the filter."""


def _languages(wish: Wish) -> Iterator[str]:
    """Yield the filters by language, best first. The last one is empty, so it accepts each language."""
    if wish.language is not None:
        language, _, rest = _OTHER.sub("", normalized(wish.language)).partition("-")
        codes = "|".join(codes_of(language))
        if rest:
            yield f"[language~='(?i)^({codes})[-_]{rest.replace('-', '[-_]')}([-_]|$)']"
        yield f"[language~='(?i)^({codes})([-_]|$)']"
    yield ""


def order_of(wish: Wish) -> str:
    """Return the order of the formats for the default choice by `wish`, as yt-dlp's `--format-sort`: the original
    language, the height, the codec."""
    height = "res" if wish.height is None else f"res:{wish.height}"
    return ",".join(["lang", height, *([] if wish.codec == "any" else [f"vcodec:{wish.codec}"])])
