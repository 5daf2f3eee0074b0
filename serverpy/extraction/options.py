"""The settings, as far as they are the worker's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from serverpy.extraction.messages import WorkerOptions

if TYPE_CHECKING:
    from serverpy.settings import Settings


def worker_options(
    settings: Settings, *, own: tuple[tuple[str, int], ...] = (), plugin_paths: tuple[str, ...] = ()
) -> WorkerOptions:
    """What the worker is told. `own` are the sockets that the server listens on."""
    return WorkerOptions(
        extract_workers=settings.extract_workers,
        max_workers=settings.max_workers,
        extract_timeout=settings.extract_timeout,
        stall_timeout=settings.stall_timeout,
        connect_timeout=settings.connect_timeout,
        allow_networks=tuple(str(network) for network in settings.allow_networks),
        deny_ports=tuple(settings.deny_ports),
        own=own,
        allow_sites=tuple(settings.allow_sites),
        deny_sites=tuple(settings.deny_sites),
        generic_extractor=settings.generic_extractor,
        proxy=settings.proxy,
        cookies_file=_path(settings.cookies_file),
        impersonate=settings.impersonate,
        source_address=settings.source_address,
        ca_file=_path(settings.ca_file),
        plugin_paths=plugin_paths,
    )


def _path(path: Path | None) -> str | None:
    return str(path.absolute()) if path else None
