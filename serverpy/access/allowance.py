"""What is left of a rate limit. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from serverpy.access.grant import Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """The state of an account's rate limit after a count. `limit`, `remaining` and `reset` (seconds until the window
    ends) are those of the window that is nearest to its limit, and `window` is its length in seconds; `policy` lists
    all windows. `is_exceeded` is whether the count was refused."""

    policy: str
    limit: int
    window: int
    remaining: int
    reset: int
    is_exceeded: bool

    @property
    def headers(self) -> Headers:
        """The header fields of draft-ietf-httpapi-ratelimit-headers-06, which cobalt sends, too."""
        return (
            (b"ratelimit-policy", self.policy.encode()),
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset),
        )
