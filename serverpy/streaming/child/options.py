"""What the children of the `subprocess` method are told by the server's settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serverpy.extraction.sites import Sites
from serverpy.options import Identity, Network, Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOptions:
    """`proxy_url` is called at each start: the URL of the filtering proxy, with its token. Of `network`, a child gets
    the authorities alone."""

    proxy_url: Callable[[], str]
    timeouts: Timeouts = Timeouts()
    network: Network = Network()
    sites: Sites = Sites()
    identity: Identity = Identity()
    max_duration: float | None = None
    plugin_paths: tuple[str, ...] = ()
