"""ServerPY as three servers under test, one for each streaming method (relay, embedded, subprocess). The bench runs
`serverpy serve` as a child process; each request selects the streaming method by its parameter `method`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote, urlencode, urlsplit

from serverpy.bench.measure.origin import Origin, Scheme
from serverpy.bench.measure.targets.base import Kind, Launch, Target


@dataclass(frozen=True, repr=False)
class OurMethod(Target):
    """ServerPY with one method. The names in `settings` are those of docs/settings.md, in capitals: `{"MAX_WORKERS":
    "50"}`. The method `_environment` sets some more, for instance no drain time and no rate limit. All other settings
    have their defaults, whatever the environment and serverpy.toml say.
    """

    name: str
    title: str
    kinds: ClassVar[tuple[Kind, ...]] = ("file", "playlist")
    ready: ClassVar[str] = r"ServerPY is ready at http://127\.0\.0\.1:(\d+)/"
    health_path: ClassVar[str | None] = "/health"
    settings: ClassVar[tuple[str, ...] | None] = None
    reads_pages: ClassVar[bool] = True

    def launch(self, origin: Origin, settings: Mapping[str, str]) -> Launch:
        def path(media: str, scheme: Scheme, fresh: str) -> str:
            query = {"url": origin.page(media, scheme, fresh), "method": self.name}
            return f"/stream?{urlencode(query, quote_via=quote)}"

        command = [sys.executable, "-m", "serverpy", "serve", "--host", "127.0.0.1", "--port", "0"]
        return Launch(command, path, _environment(origin, settings))


def _environment(origin: Origin, settings: Mapping[str, str]) -> dict[str, str]:
    allowed = ",".join(urlsplit(base).netloc for base in (origin.http, origin.https))
    values = {
        "CONFIG": "",
        "ALLOW_NETWORKS": allowed,
        "CA_FILE": str(origin.ca_file),
        "RATE_LIMIT": "",
        "DRAIN_SECONDS": "0",
        "LOG_LEVEL": "warning",
        **settings,
    }
    return {f"SERVERPY_{name}": value for name, value in values.items()}


RELAY = OurMethod("relay", "ServerPY relay")
EMBEDDED = OurMethod("embedded", "ServerPY embedded")
SUBPROCESS = OurMethod("subprocess", "ServerPY subprocess")
