"""yt-dlp's filters of format selectors, with limits on their regular expressions and their time."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from typing import Any

from yt_dlp import YoutubeDL

from serverpy.errors import InvalidParameter
from serverpy.ytdlp.page import regex_cost

MAX_VALUE_CHARACTERS = 64
_MAX_ID_CHARACTERS = 200
"""Maximum number of characters of a format's id (set in `tracks.py`). A filter compares whole ids, but only the first
MAX_VALUE_CHARACTERS characters of other values."""
_MAX_WAYS = 5000
"""Maximum number of ways in which `re` can try all regular expressions of a selector together (`regex_cost.py`). So
many ways take at most 3 ms for a value of 64 characters. A pattern with two `.*` has 4225 ways."""
_SECONDS = 0.5
"""Maximum CPU time, in seconds, for all filters of a selector."""
_REFUSED = "The format selector has a regular expression that could take too long. "
_HELP = "Use literals, classes, `.*`, `^`, `$`, `|`, or `*=`, `^=`, `$=`."


class LimitedFilters(YoutubeDL):  # type: ignore[misc]  # yt-dlp is untyped
    """A YoutubeDL that limits the filters of one selector. yt-dlp calls `_build_format_filter` for each filter, with
    the text that yt-dlp itself parses, so that the limits apply to every filter."""

    _ways = 0
    _deadline: float | None = None

    def _build_format_filter(self, filter_spec: str) -> Callable[[dict[str, Any]], Any]:
        if found := _REGEX_FILTER.fullmatch(filter_spec):
            return self._by_regex(found)
        build: Callable[[str], Callable[[dict[str, Any]], Any]] = super()._build_format_filter
        return self._in_time(build(filter_spec))

    def _by_regex(self, found: re.Match[str]) -> Callable[[dict[str, Any]], Any]:
        """Return a filter that works like yt-dlp's, but applies the regular expression only once to each value, even if
        several formats have that value."""
        key, negated, or_unknown = found["key"], bool(found["negation"]), bool(found["none"])
        longest = _MAX_ID_CHARACTERS if key == "format_id" else MAX_VALUE_CHARACTERS
        pattern = re.compile(self._affordable(found["quoted"] or found["bare"], longest))
        search = functools.lru_cache(maxsize=None)(self._in_time(pattern.search))

        def fits(item: dict[str, Any]) -> bool:
            value = item.get(key)
            if value is None:
                return or_unknown
            return (search(value[:longest] if isinstance(value, str) else value) is not None) is not negated

        return fits

    def _affordable(self, pattern: str, longest: int) -> str:
        try:
            self._ways += regex_cost.ways(pattern, longest)
        except regex_cost.TooMuch as error:
            raise InvalidParameter(f"{_REFUSED}{error} {_HELP}") from error
        if self._ways > _MAX_WAYS:
            raise InvalidParameter(f"{_REFUSED}The regular expression can match in too many ways. {_HELP}")
        return pattern

    def _in_time(self, ask: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def asked(value: Any) -> Any:
            now = time.thread_time()
            if self._deadline is None:
                self._deadline = now + _SECONDS
            elif now > self._deadline:
                raise InvalidParameter("The format selector takes too long. Use a simpler selector.")
            return ask(value)

        return asked


# Pattern of the text of a filter with a regular expression, in yt-dlp's syntax and in the form in which yt-dlp's
# tokenizer returns it.
_REGEX_FILTER = re.compile(
    r"""\s*(?P<key>[a-zA-Z0-9._-]+)\s*(?P<negation>!\s*)?~=\s*(?P<none>\?\s*)?
    (?:(?P<quote>["'])(?P<quoted>(?:(?!(?P=quote))[^\\]|\\.)+)(?P=quote)|(?P<bare>[\w.-]+))\s*""",
    re.VERBOSE,
)
