"""The representations of a DASH manifest as frozen values, period by period. The module does no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from serverpy.errors import TooLarge
from serverpy.ytdlp.mpd import addresses, kinds
from serverpy.ytdlp.mpd.listing import NOTHING, Part, part_of
from serverpy.ytdlp.mpd.reading import Unreadable, child, children, is_nothing, is_remote, without
from serverpy.ytdlp.mpd.timelines import Timelines
from serverpy.ytdlp.mpd.windows import Window, is_live, windows

MAX_REPRESENTATIONS = 1000
"""Maximum number of representations of one period, because yt-dlp needs a millisecond for each representation."""
MAX_IN_ALL = 3000
MAX_PAIRS = 200_000
"""Maximum number of comparisons when representations are joined: the number of representations of the largest period,
times the number of representations of all periods."""
LIVE = "The DASH manifest is that of a live stream, which is not supported."
REMOTE = "The DASH manifest has a part in another document (xlink), which is not supported."


@dataclass(frozen=True, slots=True)
class Representation:
    """One representation in one period. `part` contains its segments; if these cannot be listed, `part` is None, and
    `refusal` is the reason. `attributes` are the attributes of the adaptation set, overridden by those of the
    representation, as in yt-dlp. `base` is the base URL, and `base_attributes` are the attributes of the BaseURL
    element in the Representation element."""

    kind: str
    """The media type: `video`, `audio`, `text`, or the MIME type of images."""
    container: str
    codecs: str
    """The families of the codecs, such as `aac+avc`. Empty if the manifest does not state the codecs."""
    language: str | None = None
    role: str = ""
    """The role that distinguishes the representation from the main content, such as `commentary`. Empty for the main
    content."""
    is_main: bool = False
    """Whether the manifest states the role `main`."""
    id: str | None = None
    set_id: str | None = None
    asset: str | None = None
    height: int = 0
    channels: str = ""
    bandwidth: int = 0
    has_drm: bool = False
    is_special: bool = False
    """Whether the representation has an EssentialProperty because of which players do not choose it by themselves."""
    part: Part | None = None
    refusal: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict, compare=False)
    base: str = ""
    base_attributes: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Period:
    """A period with its representations, in document order. `index` is its 0-based position among the periods of the
    manifest."""

    id: str
    index: int
    seconds: float
    representations: tuple[Representation, ...]


def read(mpd: Element, document: str, now: float) -> tuple[Period, ...]:
    """Return the periods of the manifest `mpd` that have representations. `document` is the URL from which the manifest
    was fetched, and `now` is the time in seconds since the epoch. Raises `TooLarge` if the manifest has too many
    representations."""
    listed = [each for each in children(mpd, "Period") if not (is_nothing(each) or _is_empty(each))]
    _check_count(listed)
    around, timelines, found = without(mpd, "Period"), Timelines(), []
    reason = LIVE if is_live(mpd, now) else REMOTE if any(map(is_remote, listed)) else None
    for index, (period, window) in enumerate(zip(listed, windows(mpd, listed), strict=True)):
        if window.seconds == 0 and not window.is_only:
            continue
        representations = tuple(_Reader(around, document, period, window, timelines, reason).all())
        if representations:
            id_ = period.get("id", f"period-{index}")
            found.append(Period(id_, index, float(window.seconds or 0), representations))
    return tuple(found)


def _is_empty(period: Element) -> bool:
    """Return whether the period has neither content nor times. Such a placeholder would leave the duration of the
    period before it, or the start of the period after it, unknown."""
    has_times = period.get("start") is not None or period.get("duration") is not None
    return not has_times and not children(period, "AdaptationSet") and not is_remote(period)


def _check_count(periods: Sequence[Element]) -> None:
    counts = [
        sum(len(children(group, "Representation")) for group in children(period, "AdaptationSet")) for period in periods
    ]
    most, in_all = max(counts, default=0), sum(counts)
    if most > MAX_REPRESENTATIONS or in_all > MAX_IN_ALL or (len(counts) > 1 and most * in_all > MAX_PAIRS):
        raise TooLarge("The DASH manifest lists too many formats.")


class _Reader:
    """Reader of the representations in one period. `reason` states why the segments of this manifest cannot be listed;
    it is None if they can be listed."""

    def __init__(
        self, mpd: Element, document: str, period: Element, window: Window, timelines: Timelines, reason: str | None
    ) -> None:
        self._groups = children(period, "AdaptationSet")
        self._above = (without(period, "AdaptationSet"), mpd)
        self._document = document
        self._window = window
        self._timelines = timelines
        self._reason = reason
        self._asset = _asset(period)

    def all(self) -> Iterator[Representation]:
        for group in self._groups:
            around = without(group, "Representation")
            for element in children(group, "Representation") if not is_nothing(group) else ():
                found = self._one((element, around, *self._above))
                if found is not None:
                    yield found

    def _one(self, levels: Sequence[Element]) -> Representation | None:
        """Return the representation whose element is the first of `levels`. Returns None if no attribute shows whether
        it is video, audio or text."""
        element, group = levels[:2]
        attributes = kinds.with_parameters({**group.attrib, **element.attrib})
        typed = kinds.typed(attributes, levels)
        if typed is None:
            return None
        base, part, refusal = self._listed(levels, is_remote(group))
        own = child(element, "BaseURL")
        return Representation(
            kind=typed.kind,
            container=typed.container,
            codecs=kinds.families(attributes.get("codecs", "")),
            language=kinds.language(attributes.get("lang")),
            role=kinds.role(group),
            is_main=kinds.is_main(group),
            id=element.get("id"),
            set_id=group.get("id"),
            asset=self._asset,
            height=kinds.whole(attributes.get("height")),
            channels=kinds.channels(levels[:2]),
            bandwidth=kinds.whole(attributes.get("bandwidth")),
            has_drm=any(child(each, "ContentProtection") is not None for each in levels[:3]),
            is_special=kinds.is_special(levels[:2]),
            part=part,
            refusal=refusal,
            attributes={**attributes, "mimeType": typed.mime_type},
            base=base if base != self._document else addresses.folder(base),
            base_attributes={} if own is None else own.attrib,
        )

    def _listed(self, levels: Sequence[Element], remote: bool) -> tuple[str, Part | None, str | None]:
        """Return the base URL of a representation, its segments, and the reason why the segments cannot be listed.
        Either the segments or the reason is None."""
        try:
            base = addresses.base_url(self._document, reversed(levels))
        except Unreadable as error:
            return self._document, None, str(error)
        reason = self._reason or (REMOTE if remote else None)
        if reason is not None:
            return base, None, reason
        try:
            part = part_of(levels, base, self._window, self._timelines)
        except Unreadable as error:
            return base, None, str(error)
        if part.is_file and base == self._document:
            return base, None, NOTHING
        return base, part, None


def _asset(period: Element) -> str | None:
    """Return the identifier of the asset to which the period belongs (ISO/IEC 23009-1 §5.8.4.10). Returns None if the
    period has no AssetIdentifier."""
    found = child(period, "AssetIdentifier")
    return None if found is None else f"{found.get('schemeIdUri', '')} {found.get('value', '')}"
