"""Sets which signals a test's child ignores at its start, whatever its parent ignores."""

from __future__ import annotations

import signal


def as_from_a_terminal() -> None:
    """For `preexec_fn`: SIGINT and SIGHUP end the child, although the test run itself may ignore them."""
    _both(signal.SIG_DFL)


def as_by_nohup() -> None:
    """For `preexec_fn`: the child starts with SIGINT and SIGHUP ignored."""
    _both(signal.SIG_IGN)


def _both(handler: signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)
