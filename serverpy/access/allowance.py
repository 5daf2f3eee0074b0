"""The state of a rate limit, and the header fields that report it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from serverpy.access.grant import Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """The state of an account's rate limit after an extraction was counted or refused.

    A rate limit may have several time windows: `policy` lists all of them. `limit`, `remaining`, `window` (length in
    seconds) and `reset` (seconds until the window ends) describe the window with the fewest extractions left.
    `is_exceeded` is true if the extraction was refused."""

    policy: str
    limit: int
    window: int
    remaining: int
    reset: int
    is_exceeded: bool

    @property
    def headers(self) -> Headers:
        """The RateLimit-* header fields of draft-ietf-httpapi-ratelimit-headers-06, which cobalt also sends."""
        return (
            (b"ratelimit-policy", self.policy.encode()),
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset),
        )
