"""The settings of ServerPY that apply to the child processes of the method `subprocess`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serverpy.extraction.sites import Sites
from serverpy.options import Identity, Network, Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOptions:
    """The options of the child processes. Each time the method starts a child, it calls `proxy_url` to get the URL of
    the filtering proxy; that URL contains the proxy's token. Of `network`, a child uses only the CA file.
    `max_duration` is in seconds."""

    proxy_url: Callable[[], str]
    timeouts: Timeouts = Timeouts()
    network: Network = Network()
    sites: Sites = Sites()
    identity: Identity = Identity()
    max_duration: float | None = None
    plugin_paths: tuple[str, ...] = ()
