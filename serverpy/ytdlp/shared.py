"""What all sessions of the process share: made once by `prepare.py`, read by everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serverpy.errors import ConfigurationError
from serverpy.extraction.messages import WorkerOptions
from serverpy.ytdlp.children import Gate
from serverpy.ytdlp.session.proxies import Outlets


@dataclass(frozen=True, slots=True)
class Process:
    """What all sessions of this process share. `directory` is private to it, and removed by who made it."""

    options: WorkerOptions
    outlets: Outlets
    directory: Path
    gate: Gate
    js_runtimes: Mapping[str, Any] = field(default_factory=dict)
    bundle: Path | None = None
    """PEM file of the public authorities and CA_FILE together, where CA_FILE is set."""


_process: Process | None = None


def share(prepared: Process) -> None:
    """From here on, `process` gives this."""
    global _process
    _process = prepared


def process() -> Process:
    """What `prepare` made."""
    if _process is None:
        raise ConfigurationError("The worker is not prepared.")
    return _process
