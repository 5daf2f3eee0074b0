"""The server settings that apply to the children of the `subprocess` method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serverpy.extraction.sites import Sites
from serverpy.options import Identity, Network, Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOptions:
    """The options of the children. `proxy_url`, which the method calls at each start, returns the URL of the filtering
    proxy with the proxy's token. A child uses only the CA file of `network`. `max_duration` is in seconds."""

    proxy_url: Callable[[], str]
    timeouts: Timeouts = Timeouts()
    network: Network = Network()
    sites: Sites = Sites()
    identity: Identity = Identity()
    max_duration: float | None = None
    plugin_paths: tuple[str, ...] = ()
