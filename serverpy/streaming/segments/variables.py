"""The variables in HLS playlists (EXT-X-DEFINE and `{$name}`, second edition of RFC 8216, §4.3 and §4.4.2.3). The
module does no I/O."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from serverpy.errors import TooLarge, UpstreamFailed
from serverpy.streaming.segments.attributes import attributes

MAX_VALUES_LENGTH = 8 * 1024
"""Maximum length of the names and values of all variables of a playlist together, in characters."""
MAX_LINE_LENGTH = 32 * 1024
"""Maximum length of a line after its variables have been replaced by their values, in characters."""
_REFERENCE = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")


class Variables:
    """The variables that a playlist at `url` has defined so far."""

    def __init__(self, url: str) -> None:
        self._query = parse_qs(urlsplit(url).query)
        self._values: dict[str, str] = {}
        self._length = 0

    def define(self, text: str) -> None:
        """Add the variable that the EXT-X-DEFINE attribute list `text` defines. Ignores a variable without a value,
        because only the use of such a variable is an error. Raises `TooLarge` if the names and values of all variables
        together are too long."""
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
        """Return whether every variable in `line` is defined."""
        return all(name in self._values for name in _REFERENCE.findall(line))

    def resolve(self, line: str) -> str:
        """Return `line` with each variable replaced by its value. Raises `UpstreamFailed` if a variable is not defined,
        and `TooLarge` if the line becomes too long."""
        names = _REFERENCE.findall(line)
        if len(line) + sum(len(self._values.get(name, "")) for name in names) > MAX_LINE_LENGTH:
            raise TooLarge("The media's playlist has a line that is too long after its variables are replaced.")
        if not self.has_all_of(line):
            raise UpstreamFailed("The media's playlist uses a variable that no EXT-X-DEFINE tag defines.")
        return _REFERENCE.sub(lambda match: self._values[match[1]], line)
