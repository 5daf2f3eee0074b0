"""Joining of the representations in the periods of a DASH manifest, so that each result covers the whole presentation.
The module does no I/O.

Periods are separate presentations in one manifest: a video and the advertisements in it, or the parts of a video. The
manifest does not state which representation of the next period continues a representation, so this module takes the
most similar representation, as players do. The two representations must have the same media type, container and codecs,
because one decoder plays the result, and usually the same language and role.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from serverpy.ytdlp.mpd.listing import Listing, Part
from serverpy.ytdlp.mpd.representations import Period, Representation


@dataclass(frozen=True, slots=True)
class Joined:
    """A format of the whole presentation: the representation `seed` in the period with the index `period`, and the
    representations that continue `seed` in the other periods. `listing` contains the segments of all periods. If the
    segments cannot be listed, `listing` is None, and `refusal` is the reason."""

    period: int
    seed: Representation
    listing: Listing | None = None
    refusal: str | None = None
    has_drm: bool = False


def join(periods: Sequence[Period]) -> list[Joined]:
    """Return the formats of the presentation, in document order.

    Each format is a representation of the longest period (usually the main content), continued in the other periods. A
    representation of another period that has no counterpart in the longest period becomes a format that cannot be
    streamed, unless it differs from another format only in quality. In that case it is left out."""
    if not periods:
        return []
    main = max(range(len(periods)), key=lambda index: periods[index].seconds)
    chains = [_chain(periods, main, seed) for seed in _media(periods[main])]
    for index, period in enumerate(periods):
        for seed in _media(period) if index != main else ():
            known = (each for chain in chains for each in (chain.seed, *chain.members))
            if not any(each is seed or _is_variant(seed, each) for each in known):
                chains.append(_chain(periods, index, seed))
    return [_joined(each, periods) for each in sorted(chains, key=lambda chain: chain.home)]


def _media(period: Period) -> list[Representation]:
    """Return the representations of `period` that become formats: all except subtitles."""
    return [each for each in period.representations if each.kind != "text"]


def _is_variant(one: Representation, other: Representation) -> bool:
    """Return whether two representations differ only in quality: whether their type, container, codecs and role are the
    same, and their languages are not known to differ."""
    return is_compatible(one, other) and one.role == other.role and _language_distance(one, other) < _OTHER


@dataclass(frozen=True, slots=True)
class _Chain:
    """The representations that continue `seed`, one for each period, up to the first period that has no such
    representation (`interrupted`). `home` is the index of the period to which `seed` belongs."""

    home: int
    seed: Representation
    members: tuple[Representation, ...]
    interrupted: Period | None = None


def _chain(periods: Sequence[Period], home: int, seed: Representation) -> _Chain:
    members: list[Representation] = []
    for index, period in enumerate(periods):
        found = seed if index == home else continuation(seed, periods[home], period)
        if found is None:
            return _Chain(home, seed, tuple(members), period)
        members.append(found)
    return _Chain(home, seed, tuple(members))


def _joined(chain: _Chain, periods: Sequence[Period]) -> Joined:
    has_drm = any(each.has_drm for each in (chain.seed, *chain.members))
    if chain.interrupted is not None:
        return Joined(chain.home, chain.seed, None, _interrupted(chain.seed, chain.interrupted), has_drm)
    refusal = next((each.refusal for each in chain.members if each.refusal is not None), None)
    parts = tuple(each.part for each in chain.members if each.part is not None)
    if refusal is None:
        parts, refusal = _without_repeated_files(parts, periods)
    return Joined(chain.home, chain.seed, None if refusal else Listing(parts), refusal, has_drm)


def _interrupted(seed: Representation, period: Period) -> str:
    kind = seed.kind if seed.kind in ("video", "audio") else "images"
    return (
        f"This format cannot be streamed as a whole: period {period.index + 1} of the DASH manifest has no {kind}"
        " of the same codec and language."
    )


def is_compatible(one: Representation, other: Representation) -> bool:
    return (one.kind, one.container, one.codecs) == (other.kind, other.container, other.codecs)


_EXACT, _RELATED, _UNKNOWN, _OTHER = range(4)


def _language_distance(one: Representation, other: Representation) -> int:
    if one.language == other.language:
        return _EXACT
    if one.language is None or other.language is None:
        return _UNKNOWN
    return _RELATED if one.language.split("-")[0] == other.language.split("-")[0] else _OTHER


def continuation(seed: Representation, home: Period, period: Period) -> Representation | None:
    """Return the representation of `period` that continues `seed`, which belongs to the period `home`. Returns None if
    `period` has no such representation.

    A representation with a different language or role continues `seed` only if neither period offers a choice of
    language and role. This is usual for an advertisement."""
    candidates = [each for each in period.representations if is_compatible(seed, each)]
    alike = [each for each in candidates if each.role == seed.role and _language_distance(seed, each) < _OTHER]
    if not alike and not _has_choice(home, seed) and not _has_choice(period, seed):
        alike = candidates
    return min(alike, key=lambda each: _distance(seed, each), default=None)


def _has_choice(period: Period, seed: Representation) -> bool:
    return len({(each.language, each.role) for each in period.representations if each.kind == seed.kind}) > 1


def _distance(seed: Representation, other: Representation) -> tuple[float, ...]:
    """Return how much `other` differs from `seed`, as a tuple for comparisons that begins with the most important
    difference."""
    same_asset = seed.asset == other.asset
    return (
        _language_distance(seed, other),
        seed.is_special != other.is_special,
        other.has_drm != seed.has_drm and other.has_drm,
        other.refusal is not None,
        seed.channels != other.channels,
        abs(seed.height - other.height),
        not same_asset or seed.set_id is None or seed.set_id != other.set_id,
        seed.id is None or seed.id != other.id,
        abs(log(max(seed.bandwidth, 1)) - log(max(other.bandwidth, 1))),
    )


def _without_repeated_files(parts: tuple[Part, ...], periods: Sequence[Period]) -> tuple[tuple[Part, ...], str | None]:
    """Return the parts to stream, and the reason why these cannot be streamed (None if they can). If all periods play
    one file in order, return that file only once, because only the index of the file (`sidx`) shows where each part
    begins. Otherwise, several periods may play the same part of a file, but not different parts of one file."""
    files = [part.file for part in parts]
    if len(set(files)) == 1 and files[0] is not None and _is_continuous(parts, periods):
        return parts[:1], None
    played: dict[str, tuple[float, float]] = {}
    for url, part, period in zip(files, parts, periods, strict=True):
        section = part.begin_seconds, period.seconds
        if url is not None and played.setdefault(url, section) != section:
            return parts, "This format cannot be streamed as a whole: periods of the DASH manifest share one file."
    return parts, None


def _is_continuous(parts: Sequence[Part], periods: Sequence[Period]) -> bool:
    """Return whether each part begins where the previous part ends, to within 0.1 s."""
    ends = [part.begin_seconds + period.seconds for part, period in zip(parts, periods, strict=True)]
    return all(abs(part.begin_seconds - end) < 0.1 for part, end in zip(parts[1:], ends, strict=False))
