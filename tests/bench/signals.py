"""Sets the signals that a test's child ignores at its start, independent of the parent."""

from __future__ import annotations

import signal


def as_from_a_terminal() -> None:
    """Let SIGINT and SIGHUP end the child, although the test run itself may ignore them. Passed as `preexec_fn`."""
    _both(signal.SIG_DFL)


def as_by_nohup() -> None:
    """Let the child ignore SIGINT and SIGHUP from the start. Passed as `preexec_fn`."""
    _both(signal.SIG_IGN)


def _both(handler: signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)
