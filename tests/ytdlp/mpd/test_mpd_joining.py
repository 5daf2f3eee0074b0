"""Tests of which representations of several DASH periods are joined to one format, and which representations cannot be
joined."""

# ruff: noqa: E501  # elements of a manifest are easier to read on one long line

from __future__ import annotations

import pytest

from serverpy.ytdlp.mpd.listing import Listing
from tests.ytdlp.mpd.listed import BASE, found, listed, mpd, short

INTERRUPTED = "This format cannot be streamed as a whole: period {} of the DASH manifest has no {} of the same codec and language."
PROTECTED = '<ContentProtection schemeIdUri="urn:mpeg:dash:mp4protection:2011" value="cenc"/>'


def one(id: str, attributes: str = "", *, folder: str = "", inside: str = "", group: str = "") -> str:
    """Return an adaptation set (XML) with one representation. The URLs of its segments begin with `folder`, or with
    `id` if no folder is given."""
    where = folder or id
    return (
        f"<AdaptationSet {group}>{inside if inside.startswith('<Role') else ''}"
        f'<Representation id="{id}" {attributes}>{"" if inside.startswith("<Role") else inside}'
        f'<SegmentTemplate media="{where}-$Number$" duration="2"/></Representation></AdaptationSet>'
    )


def video(id: str, height: int = 90, *, bandwidth: int = 1000, codecs: str = "avc1.4d401e", **more: str) -> str:
    attributes = f'mimeType="video/mp4" codecs="{codecs}" width="160" height="{height}" bandwidth="{bandwidth}"'
    return one(id, attributes, **more)


def audio(id: str, language: str = "", *, bandwidth: int = 64, codecs: str = "mp4a.40.2", **more: str) -> str:
    attributes = f'mimeType="audio/mp4" codecs="{codecs}" bandwidth="{bandwidth}"'
    group = more.pop("group", "") + (f' lang="{language}"' if language else "")
    return one(id, attributes, group=group, **more)


def period(*sets: str, seconds: int = 2, inside: str = "", attributes: str = "") -> str:
    return f'<Period duration="PT{seconds}S" {attributes}>{inside}{"".join(sets)}</Period>'


def joined(*periods: str) -> dict[str, str]:
    """Return the segments of each format as a short text, by the id of the format. If a format is refused, the text is
    "refused"."""
    return {
        id: "refused" if text.startswith("refused") else text for id, text in listed(mpd("".join(periods), "")).items()
    }


@pytest.mark.parametrize(
    ("first", "second", "right"),
    [
        ([video("a")], [video("b", bandwidth=9000)], {"a": "a-1 b-1"}),
        ([video("a")], [video("b", 720)], {"a": "a-1 b-1"}),
        ([video("a")], [video("b", codecs="avc1.640028")], {"a": "a-1 b-1"}),
        ([video("a", codecs="hvc1.1.6.L93")], [video("b", codecs="hev1.1.6.L93")], {"a": "a-1 b-1"}),
        ([audio("a", codecs="mp4a.40.2")], [audio("b", codecs="mp4a.40.5")], {"a": "a-1 b-1"}),
        # representations are matched by height, then by id, then by bandwidth
        ([video("s", 90), video("l", 720)], [video("L", 720), video("S", 90)], {"s": "s-1 S-1", "l": "l-1 L-1"}),
        ([video("s"), video("l", bandwidth=2000)],
         [video("s", bandwidth=2500, folder="s2"), video("l", bandwidth=5000, folder="l2")],
         {"s": "s-1 s2-1", "l": "l-1 l2-1"}),
        ([video("s"), video("l", bandwidth=2000)], [video("x", bandwidth=1900), video("y", bandwidth=900)],
         {"s": "s-1 y-1", "l": "l-1 x-1"}),
        ([video("s", 90), video("l", 720)], [video("only", 360)], {"s": "s-1 only-1", "l": "l-1 only-1"}),
        # representations are matched by language and role
        ([audio("1", "en"), audio("2", "fr")], [audio("1", "fr", folder="f"), audio("2", "en", folder="e")],
         {"1": "1-1 e-1", "2": "2-1 f-1"}),
        ([audio("1", "en")], [audio("2", "en-US")], {"1": "1-1 2-1"}),
        ([audio("1", "en"), audio("2", "fr")], [audio("1", "fre", folder="f"), audio("2", "eng-US", folder="e")],
         {"1": "1-1 e-1", "2": "2-1 f-1"}),
        ([audio("1", "deu"), audio("2", "fra")], [audio("1", "fr", folder="f"), audio("2", "GER", folder="g")],
         {"1": "1-1 g-1", "2": "2-1 f-1"}),
        ([audio("1", "en")], [audio("2")], {"1": "1-1 2-1"}),
        ([audio("1", "en")], [audio("2", "de")], {"1": "1-1 2-1"}),
        ([audio("1", "en"), audio("2", "fr")], [audio("1", "en")], {"1": "1-1 1-1", "2": "refused"}),
        ([audio("1", "en")], [audio("1", "en"), audio("2", "fr")], {"1": "1-1 1-1", "2": "refused"}),
        ([audio("1"), audio("2", inside='<Role value="commentary"/>')],
         [audio("3", inside='<Role value="commentary"/>'), audio("4", inside='<Role value="main"/>')],
         {"1": "1-1 4-1", "2": "2-1 3-1"}),
        ([video("1")], [video("t", inside='<Role value="trick"/>'), video("2")], {"1": "1-1 2-1", "t": "refused"}),
        # representations that cannot be joined
        ([video("a")], [video("b", codecs="hvc1.1.6.L93")], {"a": "refused", "b": "refused"}),
        ([video("a")], [video("b", codecs="vp09.00.10.08")], {"a": "refused", "b": "refused"}),
        ([video("a"), audio("s")], [video("b")], {"a": "a-1 b-1", "s": "refused"}),
        ([video("a")], [audio("s"), video("b")], {"a": "a-1 b-1", "s": "refused"}),
        ([audio("1", codecs="ec-3"), audio("2")], [audio("3", codecs="mp4a.40.2")], {"1": "refused", "2": "2-1 3-1"}),
    ],
)  # fmt: skip
def test_representations_of_two_periods_are_joined_to_the_expected_formats(
    first: list[str], second: list[str], right: dict[str, str]
) -> None:
    assert joined(period(*first), period(*second)) == right


def test_the_reason_for_refusing_a_format_names_the_period() -> None:
    text = mpd(period(video("a")) + period(video("a")) + period(video("b", codecs="av01.0.04M.08")), "")
    assert listed(text)["a"] == f"refused: {INTERRUPTED.format(3, 'video')}"


def test_the_representations_of_shorter_periods_are_matched_to_those_of_the_longest_period() -> None:
    advertisement = period(video("x", 90), video("y", 1080), audio("z"))
    film = period(video("s", 90), video("l", 720), audio("a", "en"), audio("b", "fr"), seconds=4)
    assert joined(advertisement, film, advertisement) == {
        "s": "x-1 s-1 s-2 x-1",
        "l": "y-1 l-1 l-2 y-1",
        "a": "z-1 a-1 a-2 z-1",
        "b": "z-1 b-1 b-2 z-1",
    }


def test_adaptation_sets_in_periods_of_one_asset_are_matched_by_their_ids() -> None:
    asset = '<AssetIdentifier schemeIdUri="urn:x" value="film"/>'
    front, back = (video(id, folder=f"{id}1", group=f'id="{id}"') for id in ("1", "2"))
    front2, back2 = (video(f"{id}x", folder=f"{id}2", group=f'id="{id}"') for id in ("1", "2"))
    text = period(front, back, inside=asset), period(back2, front2, inside=asset)
    assert joined(*text) == {"1": "11-1 12-1", "2": "21-1 22-1"}


@pytest.mark.parametrize("protected", [0, 1, 2])
def test_a_format_with_drm_in_any_of_its_periods_is_marked_as_drm_protected(protected: int) -> None:
    periods = [period(video(f"v{n}", inside=PROTECTED if n == protected else "")) for n in range(3)]
    (only,) = found(mpd("".join(periods), ""))
    assert only.has_drm


def test_a_representation_with_an_unknown_essential_property_is_not_joined_to_one_without_such_a_property() -> None:
    tile = '<EssentialProperty schemeIdUri="urn:mpeg:dash:srd:2014" value="0,0,0,1,1,2,2"/>'
    film = period(video("a")), period(video("t", inside=tile), video("b", 720))
    assert joined(*film) == {"a": "a-1 b-1"}


def test_a_representation_without_drm_is_preferred_to_one_with_drm() -> None:
    text = mpd(period(video("a")) + period(video("b", inside=PROTECTED), video("c")), "")
    (only,) = found(text)
    assert (only.has_drm, short(only.listing or ())) == (False, "a-1 c-1")


def test_a_format_is_refused_if_the_segments_of_any_of_its_periods_cannot_be_listed() -> None:
    broken = video("b").replace('duration="2"/>', 'duration="x"/>')
    assert listed(mpd(period(video("a")) + period(broken), "")) == {
        "a": "refused: The DASH manifest contains an invalid number."
    }


def test_periods_without_representations_are_skipped() -> None:
    assert joined(period(), period(video("a")), period(video("z"), seconds=0), period(video("b"))) == {"a": "a-1 b-1"}


def test_a_timeline_that_covers_several_periods_is_divided_among_the_periods() -> None:
    def film(offset: int) -> str:
        entries = '<SegmentTimeline><S t="0" d="20" r="5"/></SegmentTimeline>'
        segments = f'<SegmentTemplate media="$Number$.m4s" timescale="10" presentationTimeOffset="{offset}">{entries}'
        return (
            '<AdaptationSet mimeType="video/mp4" codecs="avc1"><Representation id="v" bandwidth="1">'
            f"{segments}</SegmentTemplate></Representation></AdaptationSet>"
        )

    text = period(film(0), seconds=4), period(film(40), seconds=4), period(film(80), seconds=3)
    assert joined(*text) == {"v": " ".join(f"{number}.m4s" for number in range(1, 7))}


# Single files with an index (SegmentBase)


def file(name: str, offset: int = 0) -> str:
    return (
        '<AdaptationSet mimeType="video/mp4" codecs="avc1"><Representation id="v" bandwidth="1">'
        f'<BaseURL>{name}</BaseURL><SegmentBase indexRange="10-20" timescale="10" presentationTimeOffset="{offset}"/>'
        "</Representation></AdaptationSet>"
    )


def split(name: str, initial: str, offset: int = 0) -> str:
    """Return an adaptation set (XML) with the single file `name`. The file `initial` contains the initialization
    segment."""
    return file(name, offset).replace("/></Rep", f'><Initialization sourceURL="{initial}"/></SegmentBase></Rep')


SHARED = {"v": "refused: This format cannot be streamed as a whole: periods of the DASH manifest share one file."}


@pytest.mark.parametrize(
    ("periods", "right"),
    [
        ([file("a.mp4"), file("b.mp4")], {"v": "a.mp4 b.mp4"}),
        ([file("a.mp4"), file("a.mp4", 20)], {"v": "a.mp4"}),
        ([file("a.mp4"), file("a.mp4", 20), file("a.mp4", 40)], {"v": "a.mp4"}),
        ([file("a.mp4"), file("a.mp4")], {"v": "a.mp4 a.mp4"}),
        ([file("a.mp4"), file("ad.mp4"), file("a.mp4", 20)], SHARED),
        ([file("a.mp4"), file("a.mp4", 30)], SHARED),
        ([file("ad.mp4"), file("a.mp4"), file("ad.mp4")], {"v": "ad.mp4 a.mp4 ad.mp4"}),
        ([split("a.mp4", "i.mp4"), split("a.mp4", "i.mp4", 20)], {"v": "!i.mp4 a.mp4"}),
        ([split("a.mp4", "i.mp4"), split("b.mp4", "j.mp4")], {"v": "!i.mp4 a.mp4 !j.mp4 b.mp4"}),
        ([split("a.mp4", "i.mp4"), split("a.mp4", "i.mp4", 30)], SHARED),
    ],
)
def test_single_files_in_several_periods_are_joined(periods: list[str], right: dict[str, str]) -> None:
    assert joined(*map(period, periods)) == {id: text.split(":")[0] for id, text in right.items()}


def test_a_representation_with_the_same_file_in_all_periods_is_a_plain_file() -> None:
    (only,) = found(mpd(period(file("a.mp4")) + period(file("a.mp4", 20)), ""))
    assert isinstance(only.listing, Listing)
    assert only.listing.file == f"{BASE}a.mp4"
