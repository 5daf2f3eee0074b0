"""What a request with an API key may do."""

from __future__ import annotations

from collections.abc import Collection

from serverpy.access.grant import Grant
from serverpy.access.key import Key
from serverpy.errors import KeyForbids
from serverpy.extraction.sites import Sites


class KeyGrant(Grant):
    """The rights of a key: its methods and its sites."""

    def __init__(self, key: Key) -> None:
        self.account = key.name
        self._key = key

    @property
    def methods(self) -> Collection[str]:
        return self._key.methods

    def check_site(self, extractor: str) -> None:
        if self._key.sites and not Sites(allow=self._key.sites).may_run(extractor):
            raise KeyForbids("This key may not be used for this site.")
