"""Tests of the segments of a DASH representation in one period, and of manifests whose segments cannot be listed."""

# ruff: noqa: E501  # elements of a manifest are easier to read on one long line

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from serverpy.errors import TooLarge
from serverpy.ytdlp.mpd.representations import LIVE, MAX_REPRESENTATIONS, REMOTE
from serverpy.ytdlp.mpd.timelines import MAX_SEGMENTS, Clock, Timelines
from serverpy.ytdlp.mpd.windows import Window
from tests.ytdlp.mpd.listed import VIDEO, found, listed, mpd, video

NUMBERED = '<SegmentTemplate initialization="i.mp4" media="$Number$.m4s" duration="2"/>'
THREE = "!i.mp4 1.m4s 2.m4s 3.m4s"
UNKNOWN = "refused: The DASH manifest does not state how many segments there are."
TWICE = "refused: The DASH manifest lists segments twice or out of order."
INVALID = "refused: The DASH manifest contains an invalid number."


def timeline(entries: str, media: str = "$Time$.m4s", attributes: str = "") -> str:
    return (
        f'<SegmentTemplate media="{media}" {attributes}><SegmentTimeline>{entries}</SegmentTimeline></SegmentTemplate>'
    )


def template(attributes: str) -> str:
    return f"<SegmentTemplate {attributes}/>"


def of(content: str, attributes: str = 'mediaPresentationDuration="PT6S"', period: str = "") -> str:
    """Return the segments of the only video representation in a manifest."""
    (segments,) = listed(mpd(f"<Period {period}>{video(content)}</Period>", attributes)).values()
    return segments


@pytest.mark.parametrize(
    ("content", "right"),
    [
        # segments by number (SegmentTemplate with a duration)
        (template('media="$Number%03d$.m4s" duration="4" startNumber="9"'), "009.m4s 010.m4s"),
        (template('media="$Number%05X$.m4s" duration="4" startNumber="255"'), "000FF.m4s 00100.m4s"),
        (template('media="$$$Number$%.m4s" duration="4"'), "$1%.m4s $2%.m4s"),
        (template('media="$RepresentationID$/$Bandwidth%06d$/$Number$.m4s" duration="6"'), "v/001000/1.m4s"),
        (template('media="$Number$.m4s" duration="2" endNumber="2"'), "1.m4s 2.m4s"),
        (template('media="$Number$.m4s" duration="2" endNumber=" "'), "1.m4s 2.m4s 3.m4s"),
        (timeline('<S d="2" r="2"/>', attributes='endNumber=""'), "0.m4s 2.m4s 4.m4s"),
        (template('media="a//$Number$.m4s" duration="3"'), "a//1.m4s a//2.m4s"),
        (template('media="$Number$.m4s" duration="2" endNumber="20"'), "1.m4s 2.m4s 3.m4s"),
        (template('media="$Number$.m4s" duration="2.5"'), "1.m4s 2.m4s 3.m4s"),
        (template('media="$Number$.m4s" duration="180180" timescale="90000"'), "1.m4s 2.m4s 3.m4s"),
        (template('media="$Number$.m4s" duration="2" presentationTimeOffset="100"'), "1.m4s 2.m4s 3.m4s"),
        (template('media="$Time$.m4s" duration="3" presentationTimeOffset="100"'), "100.m4s 103.m4s"),
        (template('media="only.m4s"'), "only.m4s"),
        (template('media="$Number%099999999d$.m4s" duration="2"'), "refused: The DASH manifest contains a URL that is"
         " too long."),
        (template('media="$SubNumber$.m4s" duration="2"'), "refused: The DASH manifest does not define $SubNumber$, which"
         " its URLs contain."),
        (template('media="same.m4s" duration="2"'), "refused: The DASH manifest has the same URL for all segments."),
        (template('initialization="i.mp4" duration="2"'), "refused: The DASH manifest has a template without URLs of"
         " segments."),
        (template('media="$Number$.m4s" duration="0"'), "refused: The DASH manifest lists a segment without a duration."),
        (template('media="$Number$.m4s" duration="2" timescale="0"'), "refused: The DASH manifest has an invalid"
         " timescale."),
        (template('media="$Number$.m4s" duration="x"'), INVALID),
        # segments by timeline (SegmentTimeline)
        (timeline('<S t="0" d="2" r="-1"/>'), "0.m4s 2.m4s 4.m4s"),
        (timeline('<S d="1" r="-1"/><S t="3" d="3"/>'), "0.m4s 1.m4s 2.m4s 3.m4s"),
        (timeline('<S d="4" r="-7"/>'), "0.m4s 4.m4s"),
        (timeline('<S d="2"/><S t="9" d="2" r="-1"/>'), "0.m4s"),
        (timeline('<S d="2" r="-1"/><S d="2"/>'), UNKNOWN),
        (timeline('<S t="0" d="2" r="9"/>'), " ".join(f"{time}.m4s" for time in range(0, 20, 2))),
        (timeline('<S t="0" d="2" r="33688627"/>'), "0.m4s 2.m4s 4.m4s"),
        (timeline('<S d="2" r="5"/>', "$Number$.m4s", 'startNumber="3" endNumber="5"'), "3.m4s 4.m4s 5.m4s"),
        (timeline('<S d="2"/><S d="2"/><S d="2"/>', "$Number$.m4s", 'endNumber="2"'), "1.m4s 2.m4s"),
        (timeline('<S t="4" d="2" r="-1"/><S t="2" d="2"/>'), UNKNOWN),
        (timeline('<S t="0" d="2" r="-1"/><S t="0" d="2"/>', "$Number$.m4s"), UNKNOWN),
        # decreasing times: a URL that contains the time would occur twice or out of order
        (timeline('<S t="0" d="2"/><S t="0" d="2"/>'), TWICE),
        (timeline('<S t="0" d="2" r="2"/><S t="4" d="2"/>'), TWICE),
        (timeline('<S t="4" d="2"/><S t="0" d="2"/>'), TWICE),
        (timeline('<S t="0" d="2" r="2"/><S t="5" d="1"/>'), "0.m4s 2.m4s 4.m4s 5.m4s"),
        (timeline('<S t="0" d="2"/><S t="0" d="2"/>', "$Number$.m4s"), "1.m4s 2.m4s"),
        # an S without a duration at the end lists no segment, but may state where the last segment ends
        (timeline('<S t="0" d="2" r="2"/><S t="6" d="0"/>'), "0.m4s 2.m4s 4.m4s"),
        (timeline('<S t="0" d="2" r="2"/><S d="0"/>'), "0.m4s 2.m4s 4.m4s"),
        (timeline('<S t="0" d="2"/><S d="0" r="3"/><S d=" 0.0 "/>', "$Number$.m4s"), "1.m4s"),
        (timeline('<S t="0" d="2" r="-1"/><S t="4" d="0"/>'), "0.m4s 2.m4s"),
        (timeline('<S t="0" d="2" r="-1"/><S d="0"/>'), "0.m4s 2.m4s 4.m4s"),
        (timeline('<S t="0" d="2"/><S t="2" d="0"/><S t="2" d="2"/>'), "refused: The DASH manifest lists a segment"
         " without a duration."),
        (timeline('<S t="0" d="2"/><S t="2"/>'), "refused: The DASH manifest lists a segment without a duration."),
        (timeline('<S d="0"/>'), "refused: The DASH manifest lists a segment without a duration."),
        (timeline('<S t="0"/>'), "refused: The DASH manifest lists a segment without a duration."),
        (timeline('<S d="1e3"/>'), INVALID),
        # numbers of 64 bits, and integers with a fraction
        (timeline('<S t="18446744073709551610" d="3" r="1"/>', attributes='presentationTimeOffset="18446744073709551610"'),
         "18446744073709551610.m4s 18446744073709551613.m4s"),
        (timeline('<S t="0.0" d="2." r="2.0"/>', attributes='timescale="1.0" presentationTimeOffset="0.00"'),
         "0.m4s 2.m4s 4.m4s"),
        (timeline('<S t="0" d="2" r=" +1 "/>'), "0.m4s 2.m4s"),
        (timeline('<S t="0" d="2.5"/>'), INVALID),
        (template('media="$Number$.m4s" duration="2" startNumber="7.0" endNumber="8.0"'), "7.m4s 8.m4s"),
        (template('media="$Number$.m4s" duration="2" startNumber="0.5"'), INVALID),
        (template('media="$Number$.m4s" duration="2" startNumber="123456789012345678901"'), INVALID),
        (timeline('<S d="' + "9" * 5000 + '"/>'), INVALID),
        (timeline('<S d="2" k="4"/>'), "refused: The DASH manifest uses Segment Sequences (S@n or S@k), which are not supported."),
        (timeline(""), "refused: The DASH manifest lists no segments."),
        # lists of segments (SegmentList)
        ('<SegmentList><Initialization sourceURL="i.mp4"/><SegmentURL media="a.m4s"/></SegmentList>', "!i.mp4 a.m4s"),
        ('<SegmentList><SegmentURL media="a" mediaRange=" 0 - 9 "/><SegmentURL media="b" mediaRange="0-"/></SegmentList>',
         "a@0-10 b"),
        ('<SegmentList><SegmentURL media="a" indexRange="0-9"/></SegmentList>', "a"),
        ('<SegmentList><Initialization sourceURL="i" range=" "/><SegmentURL media="a" mediaRange=""/></SegmentList>',
         "!i a"),
        ('<BaseURL>f.mp4</BaseURL><SegmentList><SegmentURL/></SegmentList>', "f.mp4"),
        ('<SegmentList><SegmentURL media="a" mediaRange="9-"/></SegmentList>', "refused: The DASH manifest contains an"
         " invalid byte range."),
        ('<SegmentList><SegmentURL media="a" mediaRange="9-2"/></SegmentList>', "refused: The DASH manifest contains an"
         " invalid byte range."),
        ("<SegmentList/>", "refused: The DASH manifest lists no segments."),
        ('<SegmentList xlink:href="https://x.example/l.xml" duration="2"/>', "refused: The DASH manifest has its segments"
         " in another document (xlink), which is not supported."),
        # single files (SegmentBase)
        ('<BaseURL>f.mp4</BaseURL><SegmentBase indexRange="100-200"><Initialization range="0-99"/></SegmentBase>', "f.mp4"),
        ('<BaseURL>f.mp4</BaseURL><SegmentBase><Initialization sourceURL="f.mp4" range="0-9"/></SegmentBase>', "f.mp4"),
        ('<BaseURL>f.mp4</BaseURL><SegmentBase><Initialization sourceURL="i.mp4"/></SegmentBase>', "!i.mp4 f.mp4"),
        ('<BaseURL>d/f.mp4</BaseURL><SegmentBase indexRange="0-9"><Initialization sourceURL="i.mp4" range="0-99"/>'
         '</SegmentBase>', "!d/i.mp4@0-100 d/f.mp4"),
        ('<BaseURL>f.mp4</BaseURL><SegmentBase><RepresentationIndex sourceURL="f.sidx"/></SegmentBase>', "f.mp4"),
        ("<BaseURL> f.mp4 </BaseURL>", "f.mp4"),
        ("<BaseURL/><BaseURL>f.mp4</BaseURL><BaseURL>g.mp4</BaseURL>", "f.mp4"),
        ("", "refused: The DASH manifest lists no segments."),
        # URLs of segments (BaseURL)
        ('<SegmentList><SegmentURL media="file:///etc/passwd"/></SegmentList>', "refused: The DASH manifest contains a URL"
         " that is not http or https."),
        (template('media="a/..$Number$/../x" duration="2"'), "refused: The DASH manifest contains an invalid URL."),
        (template('media="$Number$/../$Number$.m4s" duration="2"'), "refused: The DASH manifest contains an invalid URL."),
        (template('media="$Number$/./b/../$Time$.m4s" duration="3"'), "1/0.m4s 2/3.m4s"),
        ('<SegmentList><SegmentURL media="https://[x"/></SegmentList>', "refused: The DASH manifest contains an invalid"
         " URL."),
        ('<SegmentList><SegmentURL media="?part=1&amp;x=%24"/></SegmentList>', "m.mpd?part=1&x=%24"),
        (template('media="v\\$Number$.m4s?p=a\\b" duration="3"'), "v/1.m4s?p=a\\b v/2.m4s?p=a\\b"),
        ('<BaseURL>a\\b\\</BaseURL><SegmentTemplate media="..\\$Number$.m4s" duration="6"/>', "a/1.m4s"),
        ('<SegmentList><SegmentURL media="\\d\\a.m4s"/></SegmentList>', "a.m4s"),
        ('<BaseURL>a%20b/</BaseURL><SegmentTemplate media="$Number$%41.m4s" duration="6"/>', "a%20b/1%41.m4s"),
    ],
)  # fmt: skip
def test_the_segments_of_a_representation_are_listed(content: str, right: str) -> None:
    assert of(content) == right


@pytest.mark.parametrize(
    ("content", "right"),
    [
        (template('media="$Number$.m4s" duration="4"'), [4, 2]),
        (template('media="$Time$.m4s" duration="4000" timescale="1000" presentationTimeOffset="90"'), [4, 2]),
        (template('media="$Number$.m4s" duration="8"'), [6]),
        (template('media="$Number$.m4s" duration="2.5"'), [2.5, 2.5, 1]),
        (template('media="$Number$.m4s" duration="4" endNumber="1"'), [4]),
        ('<SegmentList duration="4"><SegmentURL media="a"/><SegmentURL media="b"/></SegmentList>', [4, 2]),
        ('<SegmentList duration="4"><SegmentURL media="a"/></SegmentList>', [4]),
        ('<SegmentList duration="3"><SegmentURL media="a"/><SegmentURL media="b"/><SegmentURL media="c"/></SegmentList>',
         [3, 3, 3]),  # the segments end after the period: the media may be longer than stated
        (timeline('<S t="0" d="4" r="-1"/>'), [4, 2]),
        (timeline('<S t="0" d="4" r="1"/>'), [4, 4]),  # a timeline states the duration of each segment
        (timeline('<S t="0" d="1" r="-1"/><S t="2" d="3" r="-1"/>'), [1, 1, 3, 1]),
    ],
)  # fmt: skip
def test_the_last_segment_ends_at_the_end_of_its_period(content: str, right: list[float]) -> None:
    (only,) = found(mpd(f"<Period>{video(content)}</Period>"))
    assert only.listing is not None
    assert [each.duration for each in only.listing] == right


@pytest.mark.parametrize(
    ("attributes", "period", "right"),
    [
        ("", 'duration="PT6S"', THREE),
        ('mediaPresentationDuration="PT5.9999S"', "", THREE),
        ('mediaPresentationDuration="PT6.0004S"', "", THREE),
        ('mediaPresentationDuration="PT0H0M6.000S"', "", THREE),
        ('mediaPresentationDuration="P0Y0M0DT6S"', "", THREE),
        ('mediaPresentationDuration="PT6.01S"', "", THREE + " 4.m4s"),
        ('mediaPresentationDuration="PT60S"', 'duration="PT6S"', THREE),
        ('mediaPresentationDuration="PT16S"', 'start="PT10S"', THREE),
        ('mediaPresentationDuration="PT6S"', 'duration="PT0S"', THREE),
        ('mediaPresentationDuration="PT0S"', 'duration="PT6S"', THREE),
        ("", "", UNKNOWN),
        ('mediaPresentationDuration="six seconds"', "", UNKNOWN),
    ],
)
def test_the_number_of_segments_is_derived_from_the_duration_of_the_period(
    attributes: str, period: str, right: str
) -> None:
    assert of(NUMBERED, attributes, period) == right


def test_the_end_number_of_a_template_determines_the_number_of_segments_if_the_duration_is_unknown() -> None:
    assert of(template('media="$Number$.m4s" duration="2" startNumber="0" endNumber="2"'), "") == "0.m4s 1.m4s 2.m4s"


ENDED = 'availabilityStartTime="2027-01-15T07:59:00Z" mediaPresentationDuration="PT6S"'


@pytest.mark.parametrize(
    ("attributes", "right"),
    [
        (ENDED, THREE),
        ('availabilityStartTime="2027-01-15T07:59:54.5Z" mediaPresentationDuration="PT6S"', f"refused: {LIVE}"),
        (f'{ENDED} minimumUpdatePeriod="PT2S"', f"refused: {LIVE}"),
        ('availabilityStartTime="2027-01-15T07:59:00Z"', f"refused: {LIVE}"),
        ('mediaPresentationDuration="PT6S"', f"refused: {LIVE}"),
        ('availabilityStartTime="soon" mediaPresentationDuration="PT6S"', f"refused: {LIVE}"),
    ],
)
def test_the_segments_of_a_dynamic_manifest_are_listed_only_after_the_presentation_has_ended(
    attributes: str, right: str
) -> None:
    assert listed(mpd(f"<Period>{video(NUMBERED)}</Period>", attributes, kind="dynamic")) == {"v": right}


def test_a_dynamic_manifest_with_a_period_duration_may_omit_the_presentation_duration() -> None:
    text = mpd(
        f'<Period duration="PT6S">{video(NUMBERED)}</Period>',
        'availabilityStartTime="2027-01-15T07:00:00"',
        kind="dynamic",
    )
    assert listed(text) == {"v": THREE}


@pytest.mark.parametrize("empty", ["<Period/>", '<Period id="x"><EventStream/></Period>', "<Period/><Period/>"])
def test_empty_periods_without_times_do_not_change_the_segments_of_the_periods_next_to_them(empty: str) -> None:
    ours = f"<Period>{video(NUMBERED)}</Period>"
    assert listed(mpd(empty + ours)) == listed(mpd(ours + empty)) == {"v": THREE}


def test_an_empty_period_that_refers_to_another_document_is_not_skipped() -> None:
    text = mpd(f'<Period xlink:href="https://x.example/p.xml"/><Period>{video(NUMBERED)}</Period>')
    assert listed(text) == {"v": f"refused: {REMOTE}"}


def test_elements_of_a_manifest_that_refer_to_other_documents_are_refused_or_ignored() -> None:
    ours, href = video(NUMBERED), 'xlink:href="https://x.example/p.xml"'
    to_zero = 'xlink:href="urn:mpeg:dash:resolve-to-zero:2013"'
    assert listed(mpd(f"<Period>{ours}</Period><Period {href}/>")) == {"v": f"refused: {REMOTE}"}
    assert listed(mpd(f"<Period {to_zero}>{ours}</Period><Period>{ours}</Period>")) == {"v": THREE}
    assert listed(mpd(f"<Period>{video(NUMBERED, href)}</Period>")) == {"v": f"refused: {REMOTE}"}
    assert listed(mpd(f'<Period xlink:href=" ">{ours}</Period>')) == {"v": THREE}
    assert listed(mpd(f"<Period>{ours}{video(NUMBERED, to_zero, id='w')}</Period>")) == {"v": THREE}


@pytest.mark.parametrize("namespace", ["", ' xmlns="urn:mpeg:DASH:schema:MPD:2011"', ' xmlns="urn:other"'])
def test_elements_of_a_manifest_are_found_in_any_xml_namespace(namespace: str) -> None:
    text = f'<MPD{namespace} type="static" mediaPresentationDuration="PT6S"><Period>{video(NUMBERED)}</Period></MPD>'
    assert listed(text) == {"v": THREE}


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ('contentType="audio"', "audio"),
        ('codecs="mp4a.40.2"', "audio"),
        ('codecs="avc1.4d401e,mp4a.40.2"', "video"),
        ('width="160" height="90"', "video"),
        ('audioSamplingRate="48000"', "audio"),
        ('mimeType="" contentType="video"', "video"),
        ('mimeType="Video/MP4; codecs=&quot;avc1.4d401e&quot;"', "video"),
        ('mimeType="application/mp4;codecs=ec-3"', "audio"),
        ('mimeType="application/mp4" codecs="ec-3"', "audio"),
        ('mimeType="image/jpeg"', "image/jpeg"),
    ],
)
def test_the_media_type_of_a_representation_is_derived_from_its_attributes(attributes: str, kind: str) -> None:
    element = f'<Representation id="v" bandwidth="1" {attributes}>{NUMBERED}</Representation>'
    (only,) = found(mpd(f"<Period><AdaptationSet>{element}</AdaptationSet></Period>"))
    assert only.seed.kind == kind


@pytest.mark.parametrize(
    ("media", "codecs", "mime_type"),
    [("$Number$.m4s", "avc1", "video/mp4"), ("$Number$.webm?x=1", "vp9", "video/webm"), ("$Number$", "vp8", "video/webm"),
     ("$Number$.ts", "avc1", "video/mp2t")],
)  # fmt: skip
def test_a_missing_container_is_derived_from_the_file_names_and_codecs(media: str, codecs: str, mime_type: str) -> None:
    segments = template(f'media="{media}" duration="2"')
    element = f'<Representation id="v" bandwidth="1" codecs="{codecs}">{segments}'
    (only,) = found(mpd(f"<Period><AdaptationSet>{element}</Representation></AdaptationSet></Period>"))
    assert only.seed.attributes["mimeType"] == mime_type


# Limits on the size of a manifest


def test_the_number_of_segments_of_a_representation_is_limited() -> None:
    most = f'<S d="1" r="{MAX_SEGMENTS - 1}"/>'
    (one,) = found(mpd(f"<Period>{video(timeline(most))}</Period>", ""))
    assert one.listing is not None
    assert len(one.listing) == MAX_SEGMENTS
    for entries in (f'{most}<S d="1"/>', f'<S d="1" r="{10**17}"/>', f'<S d="1" r="{MAX_SEGMENTS}"/>'):
        assert of(timeline(entries), "") == "refused: The DASH manifest lists too many segments."


def test_a_timeline_with_very_many_repetitions_is_refused_before_its_segments_are_listed() -> None:
    entries = '<S t="0" d="1" r="33688627"/>'
    assert (
        of(timeline(entries), 'mediaPresentationDuration="P2D"')
        == "refused: The DASH manifest lists too many segments."
    )


def test_the_number_of_representations_in_a_period_is_limited() -> None:
    def manifest(count: int) -> str:
        each = "".join(f'<Representation id="{number}" bandwidth="{number}"/>' for number in range(count))
        return mpd(f"<Period>{NUMBERED}<AdaptationSet {VIDEO}>{each}</AdaptationSet></Period>")

    assert len(listed(manifest(MAX_REPRESENTATIONS))) == MAX_REPRESENTATIONS
    with pytest.raises(TooLarge):
        listed(manifest(MAX_REPRESENTATIONS + 1))


def test_a_manifest_is_refused_if_all_its_periods_together_have_too_many_representations() -> None:
    each = "".join(f'<Representation id="{number}" bandwidth="{number}"/>' for number in range(500))
    period = f'<Period duration="PT6S">{NUMBERED}<AdaptationSet {VIDEO}>{each}</AdaptationSet></Period>'
    with pytest.raises(TooLarge):
        found(mpd(period * 5))
    with pytest.raises(TooLarge):
        found(mpd(period * 50))


def test_a_shared_timeline_is_parsed_once_for_each_timescale_and_the_total_number_of_its_entries_is_limited() -> None:
    timelines = Timelines(most_entries=1000)
    timeline = ElementTree.fromstring("<SegmentTimeline>" + '<S d="1"/>' * 600 + "</SegmentTimeline>")
    clocks = [Clock(timescale, 0, None, 0, Window(None, None)) for timescale in (1, 2)]
    assert timelines.read(timeline, clocks[0]) is timelines.read(timeline, clocks[0])
    with pytest.raises(TooLarge):
        timelines.read(timeline, clocks[1])
