"""Variables in playlists (EXT-X-DEFINE and `{$name}`, RFC 8216's second edition §4.3 and §4.4.2.3). Pure."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from serverpy.errors import TooLarge, UpstreamFailed
from serverpy.streaming.segments.attributes import attributes

MAX_VALUES_LENGTH = 8 * 1024
"""Maximum length of all variables of a playlist together, in characters."""
MAX_LINE_LENGTH = 32 * 1024
"""Maximum length of a line after its variables are replaced, in characters."""
_REFERENCE = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")


class Variables:
    """The variables that a playlist at `url` has defined so far."""

    def __init__(self, url: str) -> None:
        self._query = parse_qs(urlsplit(url).query)
        self._values: dict[str, str] = {}
        self._length = 0

    def define(self, text: str) -> None:
        """Parse an EXT-X-DEFINE tag. A variable without a value is an error only if it is used. Raises `TooLarge` if
        there are too many variables."""
        given = attributes(text)
        if "NAME" in given and "VALUE" in given:
            name, value = given["NAME"], given["VALUE"]
        elif given.get("QUERYPARAM") in self._query:
            name, value = given["QUERYPARAM"], self._query[given["QUERYPARAM"]][0]
        else:
            return
        self._length += len(name) + len(value)
        if self._length > MAX_VALUES_LENGTH:
            raise TooLarge("The media's playlist has too many variables.")
        self._values[name] = value

    def has_all_of(self, line: str) -> bool:
        """Return whether every name in `line` has a value."""
        return all(name in self._values for name in _REFERENCE.findall(line))

    def resolve(self, line: str) -> str:
        """Return `line` with the values in place of their names. Raises `UpstreamFailed` if a name has no value,
        `TooLarge` if the line becomes too long."""
        names = _REFERENCE.findall(line)
        if len(line) + sum(len(self._values.get(name, "")) for name in names) > MAX_LINE_LENGTH:
            raise TooLarge("The media's playlist is too large.")
        if not self.has_all_of(line):
            raise UpstreamFailed("The media's playlist has a variable without a value.")
        return _REFERENCE.sub(lambda match: self._values[match[1]], line)
