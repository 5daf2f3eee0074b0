"""yt-dlp's format selectors. yt-dlp itself applies them, to the server's data about the formats.

The selector comes from the client. yt-dlp's selector language has two ways to keep a CPU busy forever, and this module
refuses both: products of whole lists (`all+all`), and regular expressions that can match in too many ways
(`regex_cost.py` counts the ways).
"""

from __future__ import annotations

import functools
import io
import re
import time
import tokenize
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from yt_dlp import YoutubeDL

from serverpy.errors import FormatNotFound, InvalidParameter
from serverpy.extraction.messages import Format
from serverpy.ytdlp.page import regex_cost
from serverpy.ytdlp.session.log import Log

MAX_SELECTOR_CHARACTERS = 1000
MAX_CHOICES = 1000
_MAX_VALUE_CHARACTERS = 64
_MAX_ID_CHARACTERS = 200
"""Maximum number of characters of a format's id (set in `tracks.py`). Ids are not shortened, unlike other values."""
_MAX_PARTS = 10
_MAX_WAYS = 5000
"""Maximum number of ways in which all regular expressions of a selector together can be tried. So many ways take at
most 3 ms for a value of 64 characters. Two `.*` have 4225 ways."""
_SECONDS = 0.5
"""Maximum CPU time in seconds for all filters of a selector."""
_REFUSED = "The format selector has a regular expression that could take too long. "
_HELP = "Use literals, classes, `.*`, `^`, `$`, `|`, or `*=`, `^=`, `$=`."


def select(selector: str, formats: Sequence[Format]) -> tuple[tuple[str, ...], ...]:
    """Return the format ids of each stream that `selector` asks for. A stream that is a merge has more than one id.
    `formats` are in yt-dlp's order, worst first. Raises InvalidParameter if the selector is invalid or could take too
    long, FormatNotFound if no format matches."""
    _check(selector)
    with _Selecting({"logger": Log(), "check_formats": False, "cachedir": False}, auto_init=False) as ydl:
        try:
            picked = ydl._select_formats([_as_dict(item) for item in formats], ydl.build_format_selector(selector))
        except (SyntaxError, ValueError, TypeError, re.error, RecursionError, IndexError) as error:
            raise InvalidParameter(
                "Invalid format selector. Use yt-dlp's syntax, such as `best[height<=720]`."
            ) from error
    choices = tuple(_ids(item) for item in picked[:MAX_CHOICES])
    if not choices:
        raise FormatNotFound("No format of this page matches the selector.")
    return choices


def _check(selector: str) -> None:
    if len(selector) > MAX_SELECTOR_CHARACTERS:
        raise InvalidParameter(f"The format selector is longer than {MAX_SELECTOR_CHARACTERS} characters.")
    if selector.strip() in ("", "-"):
        raise InvalidParameter("Invalid format selector. Use yt-dlp's syntax, such as `best[height<=720]`.")
    if "+" in selector and re.search(r"\ball\b", selector):
        raise InvalidParameter("The format selector must not merge `all`. Use `mergeall`.")
    if "+" in selector and max(selector.count(","), selector.count("+")) > _MAX_PARTS:
        raise InvalidParameter("The format selector merges too many formats. Use fewer `+` and `,`.")
    if _closes_too_much(selector):
        raise InvalidParameter("The format selector has a closing bracket without an opening one.")


def _closes_too_much(selector: str) -> bool:
    """Return whether the selector has a closing bracket without an opening one. Since Python 3.12, the tokenizer that
    yt-dlp uses does not check this, and yt-dlp would treat `b)` as `b`."""
    depth = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(selector).readline):
            if token.type == tokenize.OP:
                depth += (token.string in "([{") - (token.string in ")]}")
            if depth < 0:
                return True
    except (tokenize.TokenError, SyntaxError):
        return False  # yt-dlp's own parser reports the syntax error
    return False


class _Selecting(YoutubeDL):  # type: ignore[misc]  # yt-dlp is untyped
    """A YoutubeDL that limits the filters of one selector. yt-dlp calls `_build_format_filter` for each filter, with
    the text that yt-dlp itself parses, so that no filter escapes the limits."""

    _ways = 0
    _deadline: float | None = None

    def _build_format_filter(self, filter_spec: str) -> Callable[[dict[str, Any]], Any]:
        if found := _REGEX_FILTER.fullmatch(filter_spec):
            return self._by_regex(found)
        build: Callable[[str], Callable[[dict[str, Any]], Any]] = super()._build_format_filter
        return self._in_time(build(filter_spec))

    def _by_regex(self, found: re.Match[str]) -> Callable[[dict[str, Any]], Any]:
        """Return a filter that works like yt-dlp's, but searches each value only once, even if several formats have
        it."""
        key, negated, or_unknown = found["key"], bool(found["negation"]), bool(found["none"])
        longest = _MAX_ID_CHARACTERS if key == "format_id" else _MAX_VALUE_CHARACTERS
        pattern = re.compile(self._affordable(found["quoted"] or found["bare"], longest))
        search = functools.lru_cache(maxsize=None)(self._in_time(pattern.search))

        def fits(item: dict[str, Any]) -> bool:
            value = item.get(key)
            return or_unknown if value is None else (search(value) is not None) is not negated

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


# yt-dlp's syntax of a filter with a regular expression, as yt-dlp's tokenizer returns it.
_REGEX_FILTER = re.compile(
    r"""\s*(?P<key>[a-zA-Z0-9._-]+)\s*(?P<negation>!\s*)?~=\s*(?P<none>\?\s*)?
    (?:(?P<quote>["'])(?P<quoted>(?:(?!(?P=quote))[^\\]|\\.)+)(?P=quote)|(?P<bare>[\w.-]+))\s*""",
    re.VERBOSE,
)


def _as_dict(item: Format) -> dict[str, Any]:
    fields = {key: value for key, value in msgspec.structs.asdict(item).items() if value is not None}
    return {key: _short(value) if key != "format_id" else value for key, value in fields.items()}


def _short(value: Any) -> Any:
    return value[:_MAX_VALUE_CHARACTERS] if isinstance(value, str) else value


def _ids(picked: dict[str, Any]) -> tuple[str, ...]:
    return tuple(part["format_id"] for part in picked.get("requested_formats") or (picked,))
