"""The signals that a test's child process ignores from its start, independent of those that the test run ignores."""

from __future__ import annotations

import signal


def as_from_a_terminal() -> None:
    """Let SIGINT and SIGHUP end the child, although the test run itself may ignore them. Pass the function as
    `preexec_fn`."""
    _both(signal.SIG_DFL)


def as_by_nohup() -> None:
    """Let the child ignore SIGINT and SIGHUP from the start. Pass the function as `preexec_fn`."""
    _both(signal.SIG_IGN)


def _both(handler: signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)
