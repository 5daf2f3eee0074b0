"""The rule that decides which of yt-dlp's extractors may run, in the worker process and in a child process of the
method `subprocess`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """The values of the settings ALLOW_SITES, DENY_SITES and GENERIC_EXTRACTOR. A site is named by the name of an
    extractor (`youtube:tab`), or by the part of that name before the colon (`youtube`); case does not matter. If
    `allow` names any site, the generic extractor runs only if `allow` also names `generic`."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    generic: bool = True

    @property
    def unlimited(self) -> bool:
        """Whether the settings allow every extractor."""
        return self.generic and not self.allow and not self.deny

    def may_run(self, extractor: str) -> bool:
        """Return whether the extractor whose `IE_NAME` is `extractor` may run. The extractor `html5` also needs
        permission for `generic`, because it reads the HTML5 players that the generic extractor finds."""
        own = extractor.lower()
        name = "generic" if own == "html5" else own
        if name == "generic" and not self.generic:
            return False
        if _named(name, self.deny) or _named(own, self.deny):
            return False
        return not self.allow or _named(name, self.allow)


def _named(name: str, sites: tuple[str, ...]) -> bool:
    return any(name == site.lower() or name.startswith(f"{site.lower()}:") for site in sites)
