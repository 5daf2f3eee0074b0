"""The URL of an item of a playlist that has not been extracted yet, as yt-dlp would extract the item."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from serverpy.extraction.values import OwnAddress, is_public
from serverpy.ytdlp.page.info_dict import InfoDict, address, text
from serverpy.ytdlp.session.extractors import GenericIE, first_suitable, known

MAX_FIELDS_BYTES = 4096
"""Maximum size, in bytes of JSON, of the fields of an item that replace those of its page. The longest fields are left
out until the rest is small enough."""
_OWN_SCHEME = re.compile(r"(?!file:|data:)[A-Za-z][A-Za-z0-9+.-]*:.")
"""Pattern of an address with a scheme by which yt-dlp can choose the extractor."""
_NOT_PASSED = frozenset({"_type", "url", "ie_key", "id", "extractor", "extractor_key"})
"""Fields that yt-dlp always takes from the item's page."""


def entry_url(entry: InfoDict) -> str | None:
    """Return the URL of an entry or, if the URL alone does not lead to what yt-dlp would extract, the text form of an
    `OwnAddress`. Returns None if the entry has no address that yt-dlp can extract.

    Some extractors put only an id into the field `url`, so a full URL in any other field takes precedence, unless the
    extractor that the entry names does not match it."""
    urls = [address(entry.get(key)) for key in ("url", "webpage_url", "original_url")]
    found = [url for url in urls if url]
    full = next((url for url in found if is_public(url)), None)
    extractor = _extractor(entry)
    fields = transparent_fields(entry)
    if full and _leads_to(extractor, full):
        return str(OwnAddress(extractor, full, fields)) if fields else full
    if not found or not (extractor or _OWN_SCHEME.match(found[0])):
        return None
    return str(OwnAddress(extractor, found[0], fields))


def transparent_fields(entry: InfoDict) -> dict[str, Any]:
    """Return the fields of an entry that replace those of the entry's page. These are all fields of an entry whose type
    is `url_transparent`, except fields without a value, and fields that JSON cannot represent."""
    if entry.get("_type") != "url_transparent":
        return {}
    sizes = {}
    for key, value in entry.items():
        if value is not None and key not in _NOT_PASSED and not key.startswith("__"):
            try:
                sizes[key] = len(msgspec.json.encode({key: value}))
            except (TypeError, ValueError, RecursionError):
                continue
    while sum(sizes.values()) > MAX_FIELDS_BYTES:
        del sizes[max(sizes, key=sizes.__getitem__)]
    return {key: entry[key] for key in sizes}


def _extractor(entry: InfoDict) -> str:
    """Return yt-dlp's key of the extractor that an entry names. Returns "" if it names none, or the generic one, which
    yt-dlp chooses itself."""
    key = text(entry.get("ie_key"), 200) or ""
    return key if key.isidentifier() and key != GenericIE.ie_key() else ""


def _leads_to(extractor: str, url: str) -> bool:
    """Return whether yt-dlp chooses the extractor with the key `extractor` for `url` without that key: no earlier
    extractor accepts `url`. Returns True if no extractor has this key."""
    kind = known().classes.get(extractor) if extractor else None
    return kind is None or (bool(kind.suitable(url)) and first_suitable(url) == extractor)
