"""The server settings that apply to the children of the `subprocess` method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serverpy.extraction.sites import Sites
from serverpy.options import Identity, Network, Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOptions:
    """Options of the children. The method calls `proxy_url` at each start; it returns the URL of the filtering proxy,
    with its token. Of `network`, a child uses only the CA file."""

    proxy_url: Callable[[], str]
    timeouts: Timeouts = Timeouts()
    network: Network = Network()
    sites: Sites = Sites()
    identity: Identity = Identity()
    max_duration: float | None = None
    plugin_paths: tuple[str, ...] = ()
