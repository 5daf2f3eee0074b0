"""What the children of the `subprocess` method are told by the server's settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from serverpy.extraction.sites import Sites


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOptions:
    """`proxy_url` is called at each start: the URL of the filtering proxy, with its token. Times in seconds."""

    proxy_url: Callable[[], str]
    stall_timeout: float = 60.0
    extract_timeout: float = 60.0
    cookies_file: str | None = None
    impersonate: str | None = None
    ca_file: str | None = None
    plugin_paths: tuple[str, ...] = ()
    sites: Sites = field(default_factory=Sites)
    max_duration: float | None = None
