"""What can go wrong while measuring. The command line shows the message in one line; a run with one has failed."""

from __future__ import annotations

from typing import ClassVar

from serverpy.errors import ServerPYError


class BenchError(ServerPYError):
    """A measurement could not be made, or cannot be trusted. Never shown over HTTP."""

    code: ClassVar[str] = "bench"


class TargetFailed(BenchError):
    """What should be measured did not start, or not in time. The message ends with the last lines it said."""


class TargetDied(BenchError):
    """What was being measured has ended by itself, or was ended by somebody else."""
