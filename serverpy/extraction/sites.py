"""The rule that decides which of yt-dlp's extractors may run, for the worker and for a child of `subprocess`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """ALLOW_SITES, DENY_SITES and GENERIC_EXTRACTOR. A name is the name of an extractor (`youtube:tab`) or its part
    before the colon (`youtube`); case does not matter. If `allow` names any site, the generic extractor runs only if
    `allow` also names `generic`."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    generic: bool = True

    @property
    def unlimited(self) -> bool:
        """Whether every extractor may run."""
        return self.generic and not self.allow and not self.deny

    def may_run(self, extractor: str) -> bool:
        """Return whether the extractor with that `IE_NAME` may run. `html5` counts as generic, because it reads the
        plain players that the generic extractor finds."""
        own = extractor.lower()
        name = "generic" if own == "html5" else own
        if name == "generic" and not self.generic:
            return False
        if _named(name, self.deny) or _named(own, self.deny):
            return False
        return not self.allow or _named(name, self.allow)


def _named(name: str, sites: tuple[str, ...]) -> bool:
    return any(name == site.lower() or name.startswith(f"{site.lower()}:") for site in sites)
