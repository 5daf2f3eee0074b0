"""The claims of the project's founding document, which are stored in `claims.toml`, and the rule that judges each of
them.

A claim is a range. The lower end of the range is first reduced by a tenth of its value, and the upper end increased by
a tenth of its value, because two runs can differ by that much. If the figure that the bench measured is then inside the
range, the claim *held*. If the figure is below the range, the claim was *too high*; if above, *too low*. A claim that
states no figure ("X needs less than Y") is stored as the ratio that it implies; its verdict is *held* or *wrong*. If
the bench measured no figure, the verdict is only *not measured*, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import msgspec

from serverpy.bench.report.ranges import Range, parse_range
from serverpy.bench.report.results import Found, NotMeasured, Results, tell
from serverpy.bench.report.selectors import find
from serverpy.bench.report.units import digits

TOLERANCE = 0.10


class Verdict(Enum):
    """The verdict on a claim; the enum's value is the wording in the report."""

    HELD = "held"
    TOO_HIGH = "too high"
    TOO_LOW = "too low"
    WRONG = "wrong"
    NOT_MEASURED = "not measured"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim about one server from the founding document, whose claims are in `claims.toml`. `words` replaces the
    range in the report if the document states no range. `on` names what was measured: the title of a server, or a
    description."""

    what: str
    on: str
    target: str
    selector: str
    range: Range
    words: str

    @property
    def claimed(self) -> str:
        return self.words or str(self.range)


@dataclass(frozen=True, slots=True)
class Section:
    """A table or chart of the founding document with its claims. `source` is its heading in the founding document."""

    title: str
    source: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim of the founding document with the measured figure and the verdict."""

    claim: Claim
    found: Found
    verdict: Verdict

    @property
    def measured(self) -> str:
        return tell(self.found, self.claim.range.unit)

    @property
    def factor(self) -> float | None:
        """The factor by which the claim missed the measured figure. None if the claim held or a factor is meaningless:
        for figures of zero or less, and for shares."""
        low, high = self.claim.range.low, self.claim.range.high
        if isinstance(self.found, NotMeasured) or self.claim.range.unit == "share" or self.found.value <= 0:
            return None
        if self.verdict is Verdict.TOO_HIGH and low:
            return low / self.found.value
        return self.found.value / high if self.verdict is Verdict.TOO_LOW and high else None

    @property
    def said(self) -> str:
        return f"{digits(self.factor)} times {self.verdict.value}" if self.factor else self.verdict.value


def judge(claim: Claim, results: Results) -> Judged:
    found = find(claim.selector, results, claim.target)
    return Judged(claim, found, verdict(claim, found))


def verdict(claim: Claim, found: Found) -> Verdict:
    """Judge the claim by the rule in this module's docstring."""
    if isinstance(found, NotMeasured):
        return Verdict.FAILED if found.failed else Verdict.NOT_MEASURED
    side = claim.range.side(found.value, TOLERANCE)
    if side and claim.words:
        return Verdict.WRONG
    return {-1: Verdict.TOO_HIGH, 0: Verdict.HELD, 1: Verdict.TOO_LOW}[side]


# --- The file ------------------------------------------------------------------------------------------------------


class _Line(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    what: str
    on: str | tuple[str, ...]
    selector: str
    claimed: str


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    source: str
    claims: tuple[_Line, ...]


class Contradiction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two statements of the founding document that contradict each other by arithmetic alone."""

    here: str
    there: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    titles: dict[str, str]
    sections: tuple[_Table, ...]
    contradictions: tuple[Contradiction, ...]


def _claims(line: _Line, titles: dict[str, str]) -> tuple[Claim, ...]:
    """Return one claim for each server that the line of `claims.toml` names."""
    bounds, _, words = line.claimed.partition(": ")
    subjects = [("", line.on)] if isinstance(line.on, str) else [(target, titles[target]) for target in line.on]
    return tuple(
        Claim(what=line.what, on=on, target=target, selector=line.selector, range=parse_range(bounds), words=words)
        for target, on in subjects
    )


_FILE = msgspec.toml.decode(Path(__file__).with_suffix(".toml").read_bytes(), type=_File)

SECTIONS = tuple(
    Section(table.title, table.source, tuple(claim for line in table.claims for claim in _claims(line, _FILE.titles)))
    for table in _FILE.sections
)
"""Every table and chart of the founding document with its claims, in the order of the document."""
CONTRADICTIONS = _FILE.contradictions


def claim_on(what: str, target: str) -> Claim:
    """Return the claim `what` about the server `target`. Raises StopIteration if there is no such claim."""
    return next(c for section in SECTIONS for c in section.claims if (c.what, c.target) == (what, target))
