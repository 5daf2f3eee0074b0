"""The record of the latest segments of a live playlist that a cursor has passed, by URL. By the URLs, the cursor
notices that the media sequence numbers in a later version of the playlist are wrong, and finds its position in that
version. The module does no I/O."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from dataclasses import dataclass

from serverpy.streaming.segments.segment import Segment

KEPT = 32
"""Number of the latest segments that are remembered. Most live playlists list fewer segments at a time."""
COMPARED = 4 * KEPT
"""Maximum number of segments of a version that are compared with the remembered segments, from the first one on that is
remembered."""
_WORD = re.compile(r"[0-9A-Za-z]+")


class Passed:
    """The URLs and positions of the latest segments that a cursor has passed."""

    def __init__(self) -> None:
        self.hashes: OrderedDict[int, tuple[int, int]] = OrderedDict()
        """The hashes of the URL of each remembered segment, with and without the query, by position."""
        self._latest: list[Segment] = []
        """The segment that the cursor has passed last, after the one that the same version listed before it."""

    def add(self, segment: Segment, position: int, before: Segment | None) -> None:
        """Remember `segment`, which the cursor passes at `position`. `before` is the segment that the same version
        lists before it, or None if there is none."""
        self.hashes[position] = _hashes(segment)
        if len(self.hashes) > KEPT:
            self.hashes.popitem(last=False)
        self._latest = [segment] if before is None else [before, segment]

    def naming(self) -> _Naming | None:
        """Return the words by which the URLs name segments. Returns None if no segment is remembered."""
        if not self._latest:
            return None
        *earlier, last = map(_words, self._latest)
        is_told = bool(earlier) and len(earlier[0]) == len(last)
        places = [at for at, word in enumerate(last) if word != earlier[0][at]] if is_told else []
        return _Naming(self._latest[-1], len(last), tuple(places), tuple(last[at] for at in places))

    def clear(self) -> None:
        self.hashes.clear()
        self._latest.clear()


@dataclass(frozen=True, slots=True)
class _Naming:
    """The words by which the URLs of a playlist name its segments. Each version of the playlist may have fresh tokens
    in any part of its URLs, so only the words in which the URLs of two neighbours in one version differ count as names.
    `last` is the segment that was passed last, `count` is the number of words in its URL, `places` are the indices of
    those that are its name, and `name` are these words. `places` is empty if the URLs do not tell the name."""

    last: Segment
    count: int
    places: tuple[int, ...]
    name: tuple[str, ...]

    def name_of(self, segment: Segment) -> tuple[str, ...]:
        """Return the name of `segment`, or nothing if its URL does not tell the name."""
        words = _words(segment) if self.places else []
        return tuple(words[at] for at in self.places) if len(words) == self.count else ()

    def has_other(self, segment: Segment) -> bool:
        """Return whether `segment` is certainly another segment than `last`: each word of its name is different or, if
        nothing tells the name, its file is another one in the same folder."""
        if name := self.name_of(segment):
            return all(word != last for word, last in zip(name, self.name, strict=True))
        (folder, _, file), (last_folder, _, last_file) = (
            path_of(each).rpartition("/") for each in (segment, self.last)
        )
        return folder == last_folder and file != last_file


class Comparison:
    """The comparison of one version of a playlist with the passed segments, by their URLs. The caller adds all segments
    of the version in order. `last` is the position of the last passed segment. `shift` is added to a media sequence
    number to get a position, if the numbers are right.

    A query in a URL may be a token that changes, or the name of the segment. Therefore URLs are first compared with
    their queries. If that finds no segment, URLs are compared without their queries, but only if no two remembered
    segments have the same URL without its query. If that finds none either, the last passed segment is looked for by
    the words that name it."""

    def __init__(self, passed: Passed, last: int, shift: int) -> None:
        self._passed = passed
        self._last = last
        self._shift = shift
        self._known = Counter(each for hashes in passed.hashes.values() for each in set(hashes))
        """The hashes of the remembered segments, and how many segments have each."""
        self._begins_known = False
        self._listed: list[tuple[int, tuple[int, int]]] = []
        """The media sequence numbers and hashes of the segments from the first remembered one on."""
        self._count = 0
        self._end_number = 0
        self._naming = passed.naming()
        self._named_last: list[int] = []
        """The media sequence numbers of the segments that have the name of the last passed one."""
        self.contradicts = False
        """Whether a number has another URL than before."""
        self.has_other_name = False
        """Whether the number of the last passed segment certainly stands for another segment now."""

    def add(self, segment: Segment) -> None:
        hashes, position = _hashes(segment), segment.number + self._shift
        if self._has_other(hashes, position):
            self.contradicts = True
            if self._naming is not None and position == next(reversed(self._passed.hashes)):
                self.has_other_name = self._naming.has_other(segment)
        if self._naming is not None and self._naming.places and self._naming.name_of(segment) == self._naming.name:
            self._named_last.append(segment.number)
        is_known = self._is_known(hashes)
        self._begins_known = self._begins_known or (is_known and self._count == 0)
        self._count += 1
        self._end_number = segment.number
        if len(self._listed) < COMPARED and (self._listed or is_known):
            self._listed.append((segment.number, hashes))

    def _has_other(self, hashes: tuple[int, int], position: int) -> bool:
        before = self._passed.hashes.get(position)
        if before is None or before[0] == hashes[0]:
            return False
        return before[1] != hashes[1] or self._is_ambiguous(hashes[1])

    def _is_ambiguous(self, path: int) -> bool:
        return self._known[path] > 1

    def _is_known(self, hashes: tuple[int, int]) -> bool:
        url, path = hashes
        return url in self._known or self._known[path] == 1

    def found_shift(self) -> int | None:
        """Return the position of a segment minus its media sequence number in this version, according to the URLs.
        Returns None if no passed segment is listed, or if most are listed in another order."""
        for level in (0, 1):
            if (found := self._shift_by(level)) is not None:
                return found
        return self._last - self._named_last[0] if len(self._named_last) == 1 else None

    def _shift_by(self, level: int) -> int | None:
        """Return the most credible position of a segment minus its media sequence number. The URLs are compared with
        their queries if `level` is 0, and without them if it is 1. Returns None if no number is credible."""
        remembered = {position: hashes[level] for position, hashes in self._passed.hashes.items()}
        candidates: set[int] = set()
        fits = Counter[int]()
        """For each shift, how many more segments of this version have the URL that is remembered at their position than
        have another URL."""
        for number, hashes in self._listed:
            for position, each in remembered.items():
                is_same = each == hashes[level]
                fits[position - number] += 1 if is_same else -1
                if is_same and (level == 0 or not self._is_ambiguous(each)):
                    candidates.add(position - number)
        listed = {number: hashes[level] for number, hashes in reversed(self._listed)}
        last = remembered.get(self._last)
        # a playlist whose numbers are right may have a new URL for some of its segments
        credible = [
            shift
            for shift in candidates
            if (
                fits[shift] >= 0
                if shift == self._shift
                else fits[shift] > 0 and (last is None or listed.get(self._last - shift, last) == last)
            )
        ]
        return max(credible, key=lambda shift: (self._reaches(shift), fits[shift], shift), default=None)

    def _reaches(self, shift: int) -> bool:
        """Return whether, with `shift`, this version lists the last passed segment or later ones. Only an old copy of
        the playlist does not. If URLs repeat after a while, this also rules out older positions with the same URLs."""
        return self._end_number + shift >= self._last

    def continues(self, shift: int, least: int) -> bool:
        """Return whether, with `shift`, the version begins with the segments that were passed last, at least `least` of
        them, and then lists only segments that are not remembered."""
        old = [number for number, _ in self._listed if number + shift <= self._last]
        new = [hashes for number, hashes in self._listed if number + shift > self._last]
        is_joined = len(old) >= least and old[-1] + shift == self._last and self._begins_known
        return is_joined and bool(new) and not any(map(self._is_known, new))


def path_of(segment: Segment) -> str:
    return segment.url.partition("?")[0]


def _words(segment: Segment) -> list[str]:
    return [*_WORD.findall(segment.url), str(segment.first), str(segment.end)]


def _hashes(segment: Segment) -> tuple[int, int]:
    return _hash(segment.url, segment), _hash(path_of(segment), segment)


def _hash(address: str, segment: Segment) -> int:
    return hash((address, segment.first, segment.end))
