"""Errors of a measurement in the bench. The command line shows the message in one line, and the run counts as
failed."""

from __future__ import annotations

from typing import ClassVar

from serverpy.errors import ServerPYError


class BenchError(ServerPYError):
    """A measurement that was not possible or cannot be trusted. ServerPY never sends this error over HTTP."""

    code: ClassVar[str] = "bench"


class TargetFailed(BenchError):
    """A server under test that did not start, or not in time. The message ends with the last lines of the server's
    output."""


class TargetDied(BenchError):
    """A server under test that ended while it was measured, by itself or by a signal."""
