"""The choice of the time at which a live playlist is loaded again (RFC 8216 §6.3.4). The module does no I/O."""

from __future__ import annotations

from collections.abc import Callable

from serverpy.streaming.segments.manifest import HlsManifest

MIN_SECONDS = 0.2
MAX_SECONDS = 60.0
USUAL_SECONDS = 6.0
"""Minimum and maximum of a target duration, in seconds. USUAL_SECONDS is the default for a playlist that states neither
a target duration nor durations of segments."""
RARE_SECONDS = 1.0
"""Maximum wait, in seconds, between two loads of a playlist whose target duration is below one second."""
FAILED_SECONDS = 0.2
RENEWAL_EVERY = 8


class Reloads:
    """The schedule by which one live playlist is loaded. Times are in seconds, as `clock` returns them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due = 0.0
        self._short_seconds = MIN_SECONDS
        self._failures = 0
        self.target_seconds = USUAL_SECONDS

    @property
    def may_renew(self) -> bool:
        """Whether the next load may extract the page again if the URL has expired. If several loads in a row fail, the
        load after the first failure may, and then every RENEWAL_EVERY-th load."""
        return self._failures % RENEWAL_EVERY == 1

    def wait_seconds(self) -> float:
        return max(0.0, self._due - self._clock())

    def loaded(self, manifest: HlsManifest, *, has_changed: bool) -> None:
        """Schedule the next load after a successful load: after a target duration, or after half a target duration if
        the playlist has not changed."""
        self._failures = 0
        self.target_seconds = target = _target_of(manifest)
        if target < RARE_SECONDS:
            wait = self._short_seconds = self._short_wait(has_changed=has_changed)
        else:
            wait = target if has_changed else target / 2
        self._due = self._clock() + wait

    def failed(self) -> None:
        """Schedule the next load after a failed load. The wait doubles with each failure in a row, up to a limit."""
        self._failures += 1
        longest = max(RARE_SECONDS, self.target_seconds / 2)
        self._due = self._clock() + min(FAILED_SECONDS * 2 ** min(self._failures, 10), longest)

    def _short_wait(self, *, has_changed: bool) -> float:
        """Return the wait before the next load, in seconds, for a playlist whose target duration is below RARE_SECONDS
        and therefore probably wrong. The wait becomes shorter if the playlist has changed, and longer if it has not, so
        that the wait approaches the time between two changes."""
        if has_changed:
            return max(self._short_seconds / 2, self.target_seconds)
        return min(self._short_seconds * 2, RARE_SECONDS)


def _target_of(manifest: HlsManifest) -> float:
    target = manifest.target_seconds
    if target is None:
        target = manifest.longest_seconds or USUAL_SECONDS
    return min(max(target, MIN_SECONDS), MAX_SECONDS)
