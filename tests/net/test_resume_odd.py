"""Tests of reads from media servers that handle ranges and validators in odd ways. The reader gets the bytes of one
file, or an error. It never gets bytes at the wrong offset, bytes of another file, or a part in place of the whole
file."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import pytest

from serverpy.errors import ExtractionFailed, RangeNotSatisfiable, UpstreamFailed
from serverpy.net.resume import OVERLAP_BYTES, open_resuming
from serverpy.ranges import ByteRange, resolve_range
from serverpy.tasks import cancel, spawn
from tests.net.reading import (
    FILE,
    OTHER_FILE,
    Answer,
    Ask,
    At,
    Headers,
    Reply,
    bare,
    by_turns,
    chunked,
    cut,
    cut_chunked,
    cut_part,
    cut_whole,
    exclusive,
    head,
    part,
    reading,
    refusal,
    refuses,
    serving,
    upstream,
    whole,
    without_total,
)
from tests.opening import rest_of

pytestmark = pytest.mark.usefixtures("short_back_off")

SIZE = len(FILE)
TAIL, SUFFIX = ByteRange(100_000, None), ByteRange(None, 100)
DATE, LATER = "Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"
HALF = FILE[: SIZE // 2] + OTHER_FILE[SIZE // 2 :]
"""A file that differs from FILE, but has the same first half."""


async def outcomes(cases: Mapping[str, Callable[[], Awaitable[str]]]) -> dict[str, str]:
    """Run all cases concurrently, because most cases wait between retries. Maps the name of each case to its
    outcome."""
    return dict(zip(cases, await asyncio.gather(*(case() for case in cases.values())), strict=True))


async def all_of(source: At, asked: ByteRange | None = None) -> bytes:
    async with reading(source, asked) as read:
        return await rest_of(read)


async def outcome(
    answer: Answer, asked: ByteRange | None = None, *, window_bytes: int | None = None, renewed: tuple[str, ...] = ()
) -> str:
    """Read the file to its end. Returns "all" if the read returned all bytes of FILE, and otherwise the text of the
    error. Raises AssertionError if a byte of the read differs from that of FILE."""
    given, begin = b"", 0
    async with upstream(answer, *renewed) as (source, _):
        try:
            async with reading(source, asked, window_bytes=window_bytes) as read:
                begin = read.extent.first
                while chunk := await read.read():
                    given += chunk
        except UpstreamFailed as error:
            assert FILE[begin:].startswith(given)
            return str(error)
        assert given == FILE[begin:]
        return "all"


# A response with status 200 and a Content-Range


@pytest.mark.parametrize(
    ("answer", "asked", "first", "honoured"),
    [
        (partial(part, status=200), TAIL, 100_000, True),
        (partial(part, status=203), ByteRange(5, 9), 5, True),
        (partial(part, status=200), ByteRange(None, 70), SIZE - 70, True),
        (partial(part, status=200), None, 0, False),
        (partial(part, status=200, most=90_000), None, 0, False),
        (lambda ask: whole(more={"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}"}), TAIL, 0, False),
        (lambda ask: whole(more={"Content-Range": f"bytes {ask.first}-{SIZE - 1}/{SIZE}"}), TAIL, 0, False),
    ],
)
async def test_a_200_response_with_content_range_is_read_as_the_range_that_the_header_states(
    answer: Answer, asked: ByteRange | None, first: int, *, honoured: bool
) -> None:
    async with upstream(answer) as (source, _), reading(source, asked) as read:
        assert (read.extent.first, read.extent.total, read.honoured) == (first, SIZE, honoured)
        assert await rest_of(read) == FILE[first : read.extent.end]


@pytest.mark.parametrize(
    "content_range",
    [f"bytes 100000-299999/{SIZE}", "bytes 100000-299999/*", f"bytes=100000-299999/{SIZE}", f"100000-299999/{SIZE}"],
)
@pytest.mark.parametrize("length", [None, SIZE - 100_000])
async def test_a_200_response_that_may_be_only_a_part_of_the_file_is_never_read_as_the_whole_file(
    content_range: str, length: int | None
) -> None:
    """If a response with status 200 may contain only a part of the file, the reader sends the request again without
    Range, and uses only the second response."""

    def odd(ask: Ask) -> Reply:
        if length is None:
            return chunked(FILE[slice(*ask.bounds(SIZE))], {"Content-Range": content_range})
        return part(ask, status=200, more={"Content-Range": content_range})

    def always(ask: Ask) -> Reply:
        return part(Ask(ask.number, 100_000, None, True, None, ""), status=200, more={"Content-Range": content_range})

    honours = length is not None and content_range == f"bytes 100000-299999/{SIZE}"
    async with upstream(by_turns(odd, lambda _ask: whole())) as (source, _), reading(source, TAIL) as read:
        assert read.honoured is honours
        assert await rest_of(read) == FILE[100_000 if honours else 0 :]
    async with upstream(always) as (source, asked):
        with pytest.raises(UpstreamFailed):
            await open_resuming(source, wait_seconds=2.0)
        assert [ask.has_range for ask in asked] == [True, False]


# A response with status 200 that contains only the requested range, but states no range


@pytest.mark.parametrize("asked_for", [ByteRange(0, 511), ByteRange(0, 0), ByteRange(100, 199), SUFFIX])
async def test_a_200_response_as_long_as_the_requested_range_is_not_read_as_the_whole_file(
    asked_for: ByteRange,
) -> None:
    async with upstream(bare) as (source, asked), reading(source, asked_for) as read:
        assert (read.extent.first, read.extent.end, read.honoured) == (0, SIZE, False)
        assert await rest_of(read) == FILE
        assert not asked[-1].has_range


@pytest.mark.parametrize("asked_for", [TAIL, ByteRange(SIZE - 1, None), ByteRange(SIZE - 10, SIZE + 10)])
async def test_a_200_response_as_long_as_an_open_range_is_not_read_as_the_whole_file_if_the_length_is_known(
    asked_for: ByteRange,
) -> None:
    async with upstream(bare) as (source, asked):
        read = await open_resuming(source, asked_for, wait_seconds=2.0, total=SIZE)
        assert await rest_of(read) == FILE
        read.close()
        assert [ask.has_range for ask in asked] == [True, False]


@pytest.mark.parametrize("length", [0, 1, 1000, SIZE - 1, SIZE + 1])
async def test_a_200_response_to_a_range_must_be_as_long_as_the_file_to_be_read_as_the_whole_file(length: int) -> None:
    def odd(ask: Ask) -> Reply:
        return whole((FILE + b"x")[-length:] if length else b"") if ask.has_range else whole()

    async with upstream(odd) as (source, asked):
        read = await open_resuming(source, TAIL, wait_seconds=2.0, total=SIZE)
        assert await rest_of(read) == FILE
        read.close()
        assert len(asked) == 2


async def test_an_empty_response_to_a_range_beyond_the_end_raises_range_not_satisfiable() -> None:
    async with upstream(bare) as (source, _):
        with pytest.raises(RangeNotSatisfiable) as caught:
            await open_resuming(source, ByteRange(SIZE, None), wait_seconds=2.0)
        assert caught.value.size == SIZE


async def test_a_file_that_is_as_long_as_the_requested_range_is_read_from_a_server_without_range_support() -> None:
    file = FILE[:512]
    for asked_for, total, requests in ((ByteRange(0, 511), None, 2), (ByteRange(0, 511), 512, 1), (None, None, 1)):
        async with upstream(lambda _ask: whole(file)) as (source, asked):
            read = await open_resuming(source, asked_for, wait_seconds=2.0, total=total)
            assert await rest_of(read) == file
            read.close()
            assert len(asked) == requests


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_a_200_response_of_unknown_length_that_ends_with_the_requested_range_is_completed(framing: str) -> None:
    """Only the end of the response shows that it contains no more than the requested range."""
    for asked_for in (ByteRange(0, 99), ByteRange(0, 70_000)):
        async with upstream(partial(bare, framing=framing)) as (source, asked), reading(source, asked_for) as read:
            assert await rest_of(read) == FILE
            assert [ask.has_range for ask in asked] == [True, False]
        async with upstream(lambda _ask, end=(asked_for.last or 0) + 1: whole(FILE[:end])) as (source, asked):  # type: ignore[misc]
            assert await all_of(source, asked_for) == FILE[: (asked_for.last or 0) + 1]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_continuation_that_is_the_requested_range_but_states_no_range_is_never_read_from_the_beginning(
    framing: str,
) -> None:
    """After the connection is cut, the media server sends the rest of the file with status 200. The reader repeats the
    request without Range if no range request has succeeded, and otherwise as it is."""
    odd: Answer = partial(bare, framing=framing)

    found = await outcomes(
        {
            "after 200": lambda: outcome(by_turns(lambda _: cut_whole(), odd)),
            "after 200 of unknown length": lambda: outcome(by_turns(cut_chunked, odd)),
            "once after 206": lambda: outcome(by_turns(cut_part, odd, part)),
            "once after a range": lambda: outcome(by_turns(cut_part, odd, part), TAIL),
            "always after 206": lambda: outcome(by_turns(cut_part, odd)),
            "always after a range": lambda: outcome(by_turns(cut_part, odd), TAIL),
            "between windows": lambda: outcome(by_turns(part, odd, part), window_bytes=70_000),
            "in the first window": lambda: outcome(odd, window_bytes=70_000),
        }
    )
    assert {name for name, each in found.items() if each != "all"} == {"always after 206", "always after a range"}


# Whether the response after a truncated response may be joined with the bytes of the truncated response


def told(etag: str | None = None, modified: str | None = None) -> Headers:
    return {"ETag": etag, "Last-Modified": modified}


A, B = told('"a"', DATE), told('"b"', DATE)
CONTRADICTIONS: dict[str, tuple[Headers, Headers, bytes]] = {
    "a strong ETag": (A, B, FILE),
    "an ETag without quotes": (told("a"), told("b"), FILE),
    "a date": (told('"a"', DATE), told('"a"', LATER), FILE),
    "a weak ETag": (told('W/"a"'), told('W/"b"'), FILE),
    "a weak ETag beside one date": (told('W/"a"', DATE), told('W/"b"'), FILE),
    "a strong and a weak ETag": (told('"a"'), told('W/"b"'), FILE),
    "a weak ETag and bytes": (told('W/"a"', DATE), told('W/"b"', DATE), OTHER_FILE),
    "a date beside weak ETags": (told('W/"a"', DATE), told('W/"a"', LATER), FILE),
    "a date alone": (told(None, DATE), told(None, LATER), FILE),
    "a longer file": (told('"a"'), told('"a"'), FILE + b"x"),
    "a shorter file": (told(), told(), FILE[:-1]),
    "a file that ends before the byte reached": (told(), told(), FILE[:50_000]),
    "bytes": (told('"a"', DATE), told('"a"', DATE), OTHER_FILE),
    "bytes without a validator": (told(), told(), OTHER_FILE),
}


@pytest.mark.parametrize("honours", [True, False], ids=["206", "200"])
async def test_a_response_whose_validators_or_length_or_bytes_differ_from_an_earlier_response_is_not_joined_to_it(
    *, honours: bool
) -> None:
    """The first response is truncated. For the second request, the server sends either the requested range or the whole
    file again."""

    def case(before: Headers, after: Headers, file: bytes) -> Awaitable[str]:
        def later(ask: Ask) -> Reply:
            return part(ask, file, more=after) if honours else whole(file, more=after)

        return outcome(by_turns(lambda ask: cut_part(ask, more=before) if honours else cut_whole(before), later))

    found = await outcomes({name: partial(case, *each) for name, each in CONTRADICTIONS.items()})
    assert {
        name: "The media" in error and "while it was read" in error for name, error in found.items()
    } == dict.fromkeys(CONTRADICTIONS, True), found


async def test_the_first_bytes_of_each_new_response_are_compared_with_bytes_read_before() -> None:
    """A new response begins after a truncated response, after a response that is shorter than requested, and for each
    window. The media server sends no validators, and the changed file has the same length as the original."""
    changed: Answer = by_turns(part, lambda ask: part(ask, OTHER_FILE))
    capped: Answer = by_turns(partial(part, most=1000), lambda ask: part(ask, OTHER_FILE, most=1000))
    found = await outcomes(
        {
            "cut": lambda: outcome(by_turns(cut_part, lambda ask: part(ask, OTHER_FILE))),
            "short": lambda: outcome(capped),
            "short 200": lambda: outcome(
                by_turns(partial(part, most=1000, status=200), partial(part, file=OTHER_FILE))
            ),
            "windows": lambda: outcome(changed, window_bytes=70_000),
            "small windows": lambda: outcome(changed, window_bytes=1000),
            "windows of a range": lambda: outcome(changed, TAIL, window_bytes=70_000),
        }
    )
    assert set(found.values()) == {"The media changed while it was read."}, found


async def test_the_validators_in_the_response_for_each_window_are_compared_with_those_of_the_previous_window() -> None:
    def case(before: Headers, after: Headers) -> Awaitable[str]:
        return outcome(
            by_turns(lambda ask: part(ask, more=before), lambda ask: part(ask, more=after)), window_bytes=100_000
        )

    cases = {"ETag": (A, B), "date": (told(None, DATE), told(None, LATER))}
    found = await outcomes({name: partial(case, *each) for name, each in cases.items()})
    assert set(found.values()) == {"The media changed while it was read."}


async def test_a_response_with_another_weak_etag_is_joined_only_if_its_date_and_length_are_the_same() -> None:
    """Some servers make a new weak ETag for each response or node. Others mark an ETag as weak when they compress."""

    def case(before: Headers, after: Headers) -> Awaitable[str]:
        return outcome(by_turns(partial(cut_part, more=before), partial(part, more=after)))

    changed = "The media changed while it was read."
    cases: dict[str, tuple[Headers, Headers, str]] = {
        "the same": (told('W/"a"'), told('W/"a"'), "all"),
        "the same, but strong": (told('W/"a"'), told('"a"'), "all"),
        "another with a date": (told('W/"a"', DATE), told('W/"b"', DATE), "all"),
        "another with the date in another form": (
            told('W/"a"', DATE),
            told('W/"b"', "Monday, 01-Jan-24 00:00:00 GMT"),
            "all",
        ),
        "another": (told('W/"a"'), told('W/"b"'), changed),
        "another with another date": (told('W/"a"', DATE), told('W/"b"', LATER), changed),
        "none": (told('W/"a"'), told(), "all"),
    }
    found = await outcomes({name: partial(case, before, after) for name, (before, after, _) in cases.items()})
    assert found == {name: expected for name, (_, _, expected) in cases.items()}


async def test_a_single_response_with_another_weak_etag_does_not_end_the_read() -> None:
    answers = by_turns(
        partial(cut_part, more=told('W/"a"')),
        partial(part, more=told('W/"b"')),
        partial(part, more=told('W/"a"')),
    )
    assert await outcome(answers) == "all"


@pytest.mark.parametrize("window_bytes", [10_000, 65_536, 100_000])
async def test_each_window_overlaps_the_window_before_it_by_at_most_overlap_bytes(window_bytes: int) -> None:
    async with upstream(part) as (source, asked), reading(source, window_bytes=window_bytes) as read:
        assert await rest_of(read) == FILE
        for before, after in itertools.pairwise(asked):
            assert before.last is not None
            assert after.first is not None
            assert 0 < before.last + 1 - after.first <= OVERLAP_BYTES
        assert len(asked) <= -(-SIZE // (window_bytes - OVERLAP_BYTES))


@pytest.mark.parametrize("most", [2, 3, 100, 5000])
async def test_a_read_makes_progress_although_each_response_has_fewer_bytes_than_requested(most: int) -> None:
    """After each response, the next request begins a little before the end of the bytes read so far, so that the reader
    can compare the overlap. This works even if a response has very few bytes."""
    file = FILE[:50] if most < 10 else FILE[: 20 * most]
    async with upstream(partial(part, file=file, most=most)) as (source, asked), reading(source) as read:
        assert await rest_of(read) == file
        assert all(ask.first for ask in asked[1:])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (told('"a"', DATE), '"a"'),
        (told(None, DATE), DATE),
        (told('W/"a"', DATE), DATE),
        (told("a", DATE), DATE),
        (told('W/"a"'), None),
        (told(), None),
    ],
)
async def test_if_range_contains_the_strong_etag_of_the_file_or_else_its_last_modified_date(
    headers: Headers, expected: str | None
) -> None:
    answer = by_turns(
        partial(cut_part, more=headers), partial(part, most=150_000, more=headers), partial(part, more=headers)
    )
    async with upstream(answer) as (source, asked), reading(source) as read:
        assert await rest_of(read) == FILE
        assert [ask.if_range for ask in asked] == [None, expected, expected]


async def test_a_single_response_that_contradicts_the_bytes_read_before_does_not_end_the_read() -> None:
    """The reader sends the request again if a response does not fit the bytes read before. The wrong response may come
    from one of several servers that have the same name."""
    found = await outcomes(
        {
            "another file": lambda: outcome(by_turns(cut_part, lambda ask: part(ask, OTHER_FILE), part)),
            "another ETag": lambda: outcome(
                by_turns(partial(cut_part, more=A), partial(part, more=B), partial(part, more=A))
            ),
            "another range": lambda: outcome(
                by_turns(cut_part, lambda ask: part(Ask(0, 200_000, None, True, None, "")), part)
            ),
            "the range from the start": lambda: outcome(
                by_turns(cut_part, lambda ask: part(Ask(0, 0, None, True, None, "")))
            ),
        }
    )
    assert set(found.values()) == {"all"}, found


async def elsewhere(first: Answer, second: Answer) -> str:
    """Read a file at a URL that redirects: the first request to a server that responds with `first`, later requests to
    a server that responds with `second`. Returns the outcome."""
    async with serving(first) as (one, _), serving(second) as (other, asked):
        moved = by_turns(
            lambda _ask: refusal(302, more={"Location": one}),
            lambda _ask: refusal(302, more={"Location": other}),
        )
        found = await outcome(moved)
        assert asked
        return found


async def test_a_response_of_a_different_server_is_joined_if_only_its_etag_differs() -> None:
    def case(after: Headers, file: bytes = FILE) -> Awaitable[str]:
        return elsewhere(partial(cut_part, more=A), lambda ask: part(ask, file, more=after))

    def careful(ask: Ask) -> Reply:
        """Send the requested range if If-Range is missing or is this server's own ETag. Otherwise, send the whole
        file."""
        return part(ask, more=B) if ask.if_range in (None, B["ETag"]) else whole(more=B)

    changed = "The media changed while it was read."
    cases: dict[str, tuple[Callable[[], Awaitable[str]], str]] = {
        "another ETag": (lambda: case(B), "all"),
        "another ETag and If-Range": (lambda: elsewhere(partial(cut_part, more=A), careful), "all"),
        "no validator": (lambda: case(told()), "all"),
        "another date": (lambda: case(told('"a"', LATER)), changed),
        "another total": (lambda: case(told('"a"', DATE), FILE + b"x"), changed),
        "other bytes": (lambda: case(B, OTHER_FILE), changed),
    }
    found = await outcomes({name: run for name, (run, _) in cases.items()})
    assert found == {name: expected for name, (_, expected) in cases.items()}


async def renewed(after: Headers, file: bytes = FILE) -> str:
    """Read a file whose URL expires during the read. The renewed URL is a different URL on the same server. Returns the
    outcome."""

    def answer(ask: Ask) -> Reply:
        if ask.url == "/fresh":
            return part(ask, file, more=after)
        return refusal(403) if ask.number else cut_part(ask, more=A)

    async with serving(answer) as (url, _):
        return await outcome(answer, renewed=(url.replace("/media", "/fresh"),))


async def test_a_response_from_a_renewed_url_is_joined_if_only_its_etag_differs() -> None:
    changed = "The media changed while it was read."
    found = await outcomes(
        {
            "another ETag": lambda: renewed(B),
            "another date": lambda: renewed(told('"a"', LATER)),
            "another total": lambda: renewed(told('"a"', DATE), FILE + b"x"),
            "other bytes": lambda: renewed(B, OTHER_FILE),
        }
    )
    assert found == {"another ETag": "all", "another date": changed, "another total": changed, "other bytes": changed}


async def test_a_change_of_the_etag_is_noticed_even_if_the_url_is_renewed_afterwards() -> None:
    """The file at the renewed URL has a different ETag. Its bytes are the same where the reader compares them."""
    async with serving(lambda ask: part(ask, HALF, more=B)) as (url, asked):
        answer = by_turns(partial(cut_part, more=A), lambda ask: part(ask, HALF, more=B))
        assert "changed" in await outcome(answer, renewed=(url,))
        assert asked == []


# Media servers that fail if a request has a Range header


def range_harms(unusable: Callable[[Ask], Reply]) -> Answer:
    return lambda ask: unusable(ask) if ask.has_range else whole()


def named(content_range: str | None, content_type: str = "video/mp4") -> Callable[[Ask], Reply]:
    return lambda ask: part(ask, more={"Content-Range": content_range, "Content-Type": content_type})


UNUSABLE: dict[str, Callable[[Ask], Reply]] = {
    **{
        str(text): named(text)
        for text in (
            *(None, "", "bytes", f"bytes 0-{SIZE - 1}/*", f"bytes=0-{SIZE - 1}/{SIZE}", f"0-{SIZE - 1}/{SIZE}"),
            *(f"bytes: 0-{SIZE - 1}/{SIZE}", "/-1", f"bytes */{SIZE}", f"bytes 1-{SIZE - 1}/{SIZE}", "bytes 9-2/10"),
            *(f"bytes 0-99/{SIZE}", f"items 0-{SIZE - 1}/{SIZE}", f"bytes 0-{SIZE - 1}/", "none"),
        )
    },
    "multipart": named(None, "multipart/byteranges; boundary=x"),
    "multipart with a Content-Range": named(f"bytes 0-{SIZE - 1}/{SIZE}", "multipart/byteranges"),
    **{str(status): partial(lambda status, _ask: refusal(status), status) for status in (400, 403, 404, 405, 406)},
    **{str(status): partial(lambda status, _ask: refusal(status), status) for status in (409, 412, 416, 417, 422)},
    "416 with the total": lambda _ask: refusal(416, more={"Content-Range": f"bytes */{SIZE}"}),
    **{str(status): partial(lambda status, _ask: refusal(status), status) for status in (501, 505, 509)},
}


@pytest.mark.parametrize("name", UNUSABLE)
async def test_a_range_request_that_is_refused_is_repeated_without_range(name: str) -> None:
    for asked_for in (None, ByteRange(100, 199)):
        async with upstream(range_harms(UNUSABLE[name])) as (source, asked), reading(source, asked_for) as read:
            assert [ask.has_range for ask in asked] == [True, False]
            assert (read.extent.first, read.extent.end, read.partial, read.honoured) == (0, SIZE, False, False)
            assert await rest_of(read) == FILE


CLAIMING = whole(more={"Accept-Ranges": "bytes"})


@pytest.mark.parametrize("status", [400, 403, 404, 409, 501])
@pytest.mark.parametrize("asked_for", [None, ByteRange(100, 199), ByteRange(None, 100)])
async def test_a_refused_range_is_requested_again_if_the_media_server_claims_to_honour_ranges(
    status: int, asked_for: ByteRange | None
) -> None:
    """The refusal had another cause than Range, which has passed."""
    answer = by_turns(lambda _ask: refusal(status), lambda ask: part(ask) if ask.has_range else CLAIMING)
    async with upstream(answer) as (source, _), reading(source, asked_for) as read:
        first, end = resolve_range(asked_for, SIZE)
        assert (read.partial, read.honoured) == (True, asked_for is not None)
        assert await rest_of(read) == FILE[first:end]


@pytest.mark.parametrize("status", [400, 403, 404, 409, 501, 503])
async def test_a_range_that_is_refused_again_is_not_requested_any_more(status: int) -> None:
    answer: Answer = lambda ask: refusal(status) if ask.has_range else CLAIMING  # noqa: E731
    async with upstream(answer) as (source, asked), reading(source) as read:
        assert await rest_of(read) == FILE
        first = [True, True] if status == 503 else [True]
        assert ([ask.has_range for ask in asked], read.partial) == ([*first, False, True, False], False)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_request_is_sent_without_range_only_after_two_temporary_errors_of_the_media_server(status: int) -> None:
    async with upstream(range_harms(lambda _ask: refusal(status))) as (source, asked), reading(source) as read:
        assert await rest_of(read) == FILE
        assert ([ask.has_range for ask in asked], read.partial) == ([True, True, False], False)
    async with upstream(by_turns(lambda _ask: refusal(status), part)) as (source, _), reading(source) as read:
        assert read.partial


@pytest.mark.parametrize("reply", [Reply(b"", "FIN"), Reply(b"", "RST"), Reply(b"?\r\n\r\n", "FIN")])
async def test_a_request_is_sent_without_range_after_two_range_requests_without_a_valid_response(reply: Reply) -> None:
    async with upstream(range_harms(lambda _ask: reply)) as (source, asked), reading(source, TAIL) as read:
        assert await rest_of(read) == FILE
        assert ([ask.has_range for ask in asked], read.partial) == ([True, True, False], False)
    async with upstream(by_turns(lambda _ask: reply, part)) as (source, _), reading(source, TAIL) as read:
        assert read.partial


@pytest.mark.parametrize("status", [401, 410, 451])
async def test_a_range_request_that_fails_for_a_reason_other_than_its_range_is_not_repeated(status: int) -> None:
    async with upstream(lambda _ask: refusal(status)) as (source, asked):
        with pytest.raises(UpstreamFailed, match=str(status)):
            await open_resuming(source, wait_seconds=2.0)
        assert len(asked) == 1


async def test_a_read_that_was_opened_without_a_range_request_is_resumed_without_one() -> None:
    answers = by_turns(lambda _ask: refusal(400), lambda _ask: cut_whole(), lambda ask: whole())
    async with upstream(answers) as (source, asked), reading(source) as read:
        assert await rest_of(read) == FILE
        assert [ask.has_range for ask in asked] == [True, False, False]


async def test_a_refused_range_request_is_repeated_without_range_only_if_no_earlier_range_request_succeeded() -> None:
    answers = by_turns(lambda _ask: cut_whole(), lambda ask: refusal(416) if ask.has_range else whole())
    async with upstream(answers) as (source, asked), reading(source) as read:
        assert await rest_of(read) == FILE
        assert [ask.has_range for ask in asked] == [True, True, False]


@pytest.mark.parametrize("told_size", [SIZE, None])
async def test_a_range_beyond_the_end_raises_range_not_satisfiable_even_if_the_416_states_no_length(
    told_size: int | None,
) -> None:
    def answer(ask: Ask) -> Reply:
        text = None if told_size is None else f"bytes */{told_size}"
        return refusal(416, more={"Content-Range": text}) if ask.has_range else whole()

    async with upstream(answer) as (source, asked):
        with pytest.raises(RangeNotSatisfiable) as caught:
            await open_resuming(source, ByteRange(SIZE, None), wait_seconds=2.0)
        assert caught.value.size == SIZE
        assert len(asked) == (2 if told_size is None else 1)


@pytest.mark.parametrize("asked_for", [SUFFIX, TAIL, ByteRange(0, 0)])
async def test_any_range_of_an_empty_file_raises_range_not_satisfiable(asked_for: ByteRange) -> None:
    for answer in (partial(part, file=b""), range_harms(lambda _ask: refusal(416))):
        empty: Answer = partial(lambda odd, ask: odd(ask) if ask.has_range else whole(b""), answer)
        async with upstream(empty) as (source, _):
            with pytest.raises(RangeNotSatisfiable) as caught:
                await open_resuming(source, asked_for, wait_seconds=2.0)
            assert caught.value.size == 0


async def test_a_read_from_a_server_without_faults_sends_only_one_request() -> None:
    for answer in (part, lambda _ask: whole(), partial(part, more=A)):
        for asked_for in (None, TAIL, ByteRange(None, 10)):
            if answer is not part and asked_for == ByteRange(None, 10):
                continue  # the tests of suffix ranges below cover this case
            async with upstream(answer) as (source, asked), reading(source, asked_for) as read:
                assert await rest_of(read)
                assert len(asked) == 1


async def test_cancelling_a_read_during_a_repeated_request_leaves_no_connection_open() -> None:
    """The test cancels the read at many different times: while a request is repeated without Range, while a suffix
    range is repeated with its absolute first byte, and between responses."""

    async def read_all(source: At, asked: ByteRange | None) -> None:
        await all_of(source, asked)

    for turns in range(0, 40, 2):
        for answer, asked_for in ((range_harms(lambda _ask: refusal(400)), None), (MISREAD["400"][0], SUFFIX)):
            async with upstream(by_turns(answer, cut_part, part)) as (source, _):
                task = spawn(read_all(source, asked_for), name="read")
                for _ in range(turns):
                    await asyncio.sleep(0)
                await cancel(task)


# Media URLs that have expired


STALE_STATUSES = (204, 205, 300, 304, 400, 401, 402, 403, 404, 406, 409, 410, 412, 418, 419, 440, 451, 474, 509)


@pytest.mark.parametrize("status", STALE_STATUSES)
@pytest.mark.parametrize("begun", [False, True], ids=["at first", "in mid-stream"])
async def test_a_url_whose_response_has_no_media_is_renewed_once(status: int, *, begun: bool) -> None:
    refuse: Answer = lambda _ask: refusal(status, b"" if status in (204, 205, 304) else b"no")  # noqa: E731
    async with (
        serving(part) as (fresh, _),
        upstream(by_turns(cut_part, refuse) if begun else refuse, fresh) as (source, _),
        reading(source) as read,
    ):
        assert await rest_of(read) == FILE
        assert (source.renewals, read.partial) == (1, True)


def page(_ask: Ask) -> Reply:
    return refusal(200, b"<html>This link has expired.</html>" * 9, {"Content-Type": "text/html"})


def unframed_page(_ask: Ask) -> Reply:
    return Reply(head(200, {"Content-Type": "text/html", "Connection": "close"}) + b"<html>expired</html>", "FIN")


def reset(_ask: Ask) -> Reply:
    return Reply(b"", "RST")


def loop(ask: Ask) -> Reply:
    return refusal(302, more={"Location": ask.url})


@pytest.mark.parametrize("answer", [page, unframed_page, lambda _ask: refusal(200, b""), reset, loop])
async def test_a_url_whose_response_during_a_read_has_no_media_is_renewed_once(answer: Answer) -> None:
    async with serving(part) as (fresh, _), upstream(by_turns(cut_part, answer), fresh) as (source, _):
        assert await all_of(source) == FILE
        assert source.renewals == 1


@pytest.mark.parametrize("answer", [reset, loop])
async def test_a_url_is_renewed_if_the_first_request_to_it_gets_no_response(answer: Answer) -> None:
    async with serving(part) as (fresh, _), upstream(answer, fresh) as (source, _), reading(source) as read:
        assert await rest_of(read) == FILE


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_a_url_is_not_renewed_if_its_server_answers_with_a_temporary_error(status: int) -> None:
    async with upstream(by_turns(lambda _ask: refusal(status), part)) as (source, _), reading(source) as read:
        assert await rest_of(read) == FILE
        assert source.renewals == 0


async def test_a_renewed_url_is_requested_with_range_although_the_old_url_refused_ranges() -> None:
    async with serving(part) as (fresh, asked), upstream(lambda _ask: refusal(400), fresh) as (source, stale):
        assert await all_of(source, TAIL) == FILE[100_000:]
        assert [ask.has_range for ask in stale + asked] == [True, False, True]


ODD_STATUSES = (202, 204, 205, 300, 304, 400, 401, 403, 404, 405, 409, 410, 416, 418, 429, 440, 451, 499, 500, 501)
SERVER_STATUSES = (502, 503, 504, 507, 509, 511, 520, 521, 522, 524, 527, 530, 598, 599)


def odd_status(status: int) -> Answer:
    return lambda _ask: refusal(status, b"" if status in (204, 205, 304) else b"no")


@pytest.mark.parametrize("asked_for", [None, TAIL, ByteRange(100_000, 250_000)], ids=["whole", "open", "closed"])
async def test_any_status_to_a_continuation_is_requested_again_as_long_as_attempts_remain(
    asked_for: ByteRange | None,
) -> None:
    """The URL of the media cannot be renewed, and each status comes once or twice."""

    async def case(*answers: Answer) -> str:
        async with upstream(by_turns(*answers)) as (source, _):
            expected = FILE if asked_for is None else FILE[100_000 : (asked_for.last or SIZE) + 1]
            return "all" if await all_of(source, asked_for) == expected else "other bytes"

    statuses = (*ODD_STATUSES, *SERVER_STATUSES)
    once = {f"{status} once": partial(case, cut_part, odd_status(status), part) for status in statuses}
    twice = {f"{each} twice": partial(case, cut_part, odd_status(each), odd_status(each), part) for each in statuses}
    found = await outcomes(once | twice)
    assert {name for name, each in found.items() if each != "all"} == set()


@pytest.mark.parametrize("status", [204, 404, 501, 524])
async def test_a_status_to_every_continuation_ends_the_read_after_three_more_requests(status: int) -> None:
    async with upstream(by_turns(cut_part, odd_status(status))) as (source, asked), reading(source) as read:
        with pytest.raises(UpstreamFailed, match=str(status)):
            await rest_of(read)
        assert len(asked) == 4


async def test_a_read_without_range_support_continues_after_an_odd_status_to_a_continuation() -> None:
    def case(status: int) -> Awaitable[str]:
        whole_again: Answer = lambda _ask: whole()  # noqa: E731
        return outcome(by_turns(lambda _ask: cut_whole(), odd_status(status), odd_status(status), whole_again))

    found = await outcomes({str(status): partial(case, status) for status in (*ODD_STATUSES, *SERVER_STATUSES)})
    assert set(found.values()) == {"all"}, found


@pytest.mark.parametrize("status", [202, 204, 304, 520, 521, 522, 524, 530, 599])
async def test_a_status_that_may_pass_is_requested_again_before_the_first_byte(status: int) -> None:
    async with upstream(by_turns(odd_status(status), part)) as (source, asked), reading(source, TAIL) as read:
        assert read.honoured
        assert await rest_of(read) == FILE[100_000:]
        assert len(asked) == 2


async def test_a_read_goes_on_at_its_url_if_the_url_cannot_be_renewed() -> None:
    async with upstream(by_turns(cut_part, odd_status(403), part)) as (source, _):

        async def fail() -> bool:
            source.renewals += 1
            raise ExtractionFailed("The page could not be read.")

        source.renew = fail  # type: ignore[method-assign]
        assert await all_of(source) == FILE
        assert source.renewals > 0


# Ranges whose total length is unknown, refused ranges, and ranges without their last byte


async def test_a_closed_range_of_a_file_of_unknown_length_is_read() -> None:
    for asked_for in (ByteRange(0, 511), ByteRange(100_000, 199_999), ByteRange(SIZE - 1, SIZE - 1)):
        async with upstream(without_total) as (source, asked), reading(source, asked_for) as read:
            assert asked_for.first is not None
            assert asked_for.last is not None
            extent = (read.extent.first, read.extent.end, read.extent.total, read.honoured)
            assert extent == (asked_for.first, asked_for.last + 1, None, True)
            assert await rest_of(read) == FILE[asked_for.first : asked_for.last + 1]
            assert len(asked) == 1


async def test_a_range_of_a_file_whose_length_is_known_needs_no_length_in_its_response() -> None:
    for asked_for, end in ((TAIL, SIZE), (ByteRange(SIZE - 10, SIZE + 10), SIZE), (ByteRange(5, 9), 10)):
        async with upstream(without_total) as (source, _):
            read = await open_resuming(source, asked_for, wait_seconds=2.0, total=SIZE)
            assert (read.extent.first, read.extent.end, read.extent.total) == (asked_for.first, end, SIZE)
            assert await rest_of(read) == FILE[asked_for.first : end]
            read.close()


async def test_a_continuation_may_leave_out_the_total_length() -> None:
    found = await outcomes(
        {
            "length known": lambda: outcome(by_turns(cut_part, without_total)),
            "closed range": lambda: outcome(
                by_turns(lambda ask: cut(without_total(ask)), without_total), ByteRange(0, SIZE - 1)
            ),
            "other bytes": lambda: outcome(by_turns(cut_part, partial(without_total, file=OTHER_FILE))),
            "length unknown": lambda: outcome(
                by_turns(cut_chunked, lambda ask: without_total(ask) if ask.has_range else whole())
            ),
        }
    )
    assert {name for name, each in found.items() if each != "all"} == {"other bytes"}


@pytest.mark.parametrize("told_size", ["*/0", "*/*", "*/-1", "*/", "", "*/1", "0-0/0"])
async def test_a_file_is_read_from_a_server_that_answers_every_range_with_416(told_size: str) -> None:
    answer = partial(refuses, content_range=f"bytes {told_size}")
    for asked_for in (None, TAIL, SUFFIX, ByteRange(0, 0), ByteRange(5, 9)):
        async with upstream(answer) as (source, asked):
            read = await open_resuming(source, asked_for, wait_seconds=2.0, total=SIZE)
            assert (read.extent.first, read.honoured) == (0, False)
            assert await rest_of(read) == FILE
            read.close()
            assert [ask.has_range for ask in asked].count(False) == 1
    assert await outcome(by_turns(lambda _ask: cut_whole(), answer)) == "all"
    assert await outcome(by_turns(cut_part, answer, part)) == "all"


async def test_a_range_beyond_the_end_is_refused_if_the_file_has_become_shorter() -> None:
    async with upstream(partial(part, file=FILE[:1000])) as (source, _):
        with pytest.raises(RangeNotSatisfiable) as caught:
            await open_resuming(source, ByteRange(5000, None), wait_seconds=2.0, total=SIZE)
        assert caught.value.size == 1000


@pytest.mark.parametrize("claims", [0, 1])
@pytest.mark.parametrize("window_bytes", [None, 70_000])
async def test_a_range_is_complete_although_the_media_server_leaves_out_its_last_byte(
    claims: int, window_bytes: int | None
) -> None:
    for asked_for in (ByteRange(0, 99), ByteRange(100, 199_999), ByteRange(0, 1), ByteRange(SIZE - 10, SIZE - 1)):
        async with (
            upstream(partial(exclusive, claims=claims)) as (source, asked),
            reading(source, asked_for, window_bytes=window_bytes) as read,
        ):
            assert (read.extent.first, read.honoured) == (asked_for.first, True)
            assert await rest_of(read) == FILE[asked_for.first : (asked_for.last or 0) + 1]
            assert len(asked) <= 5
    assert await outcome(partial(exclusive, claims=claims), window_bytes=window_bytes) == "all"
    assert await outcome(partial(exclusive, claims=claims, opens=1), TAIL, window_bytes=window_bytes) == "all"


async def test_one_byte_is_read_from_a_media_server_that_leaves_out_the_last_byte_of_a_range() -> None:
    async with upstream(exclusive) as (source, _):
        assert await all_of(source, ByteRange(7, 7)) == FILE
    assert await outcome(by_turns(cut_part, exclusive)) == "all"


async def test_a_range_whose_content_range_ends_one_byte_too_late_is_read() -> None:
    def late(ask: Ask) -> Reply:
        first, end = ask.bounds(SIZE)
        return part(ask, more={"Content-Range": f"bytes {first}-{end}/{SIZE}"})

    for asked_for in (ByteRange(0, 99), ByteRange(100, 199), TAIL, SUFFIX, ByteRange(SIZE - 1, None)):
        async with upstream(late) as (source, asked), reading(source, asked_for) as read:
            first, end = Ask(0, asked_for.first, asked_for.last, True, None, "").bounds(SIZE)
            assert (read.extent.first, read.extent.end, read.honoured) == (first, end, True)
            assert await rest_of(read) == FILE[first:end]
            assert len(asked) == 1
    assert await outcome(by_turns(cut_part, late)) == "all"


# Suffix ranges


def absolute_only(other: Callable[[Ask], Reply]) -> Answer:
    """Return a handler that serves ranges with a first byte itself, and passes suffix ranges to `other`."""
    return lambda ask: part(ask) if ask.first is not None or not ask.has_range else other(ask)


MISREAD: dict[str, tuple[Callable[[Ask], Reply], int]] = {
    "right": (part, 1),
    "right, but short": (partial(part, most=90), 1),
    "ignored": (lambda _ask: whole(), 2),
    "ignored, but 206": (lambda _ask: part(Ask(0, 0, None, True, None, "")), 2),
    "416": (lambda _ask: refusal(416), 3),
    "416 with the total": (lambda _ask: refusal(416, more={"Content-Range": f"bytes */{SIZE}"}), 2),
    "400": (lambda _ask: refusal(400), 3),
    "501": (lambda _ask: refusal(501), 3),
    "-n as 0-n": (lambda ask: part(Ask(0, 0, ask.last, True, None, "")), 2),
    "-n as n-": (lambda ask: part(Ask(0, ask.last, None, True, None, "")), 2),
    "no Content-Range": (named(None), 3),
    "no total": (named(f"bytes {SIZE - 100}-{SIZE - 1}/*"), 3),
    "malformed": (named(f"bytes={SIZE - 100}-{SIZE - 1}/{SIZE}"), 2),
}


@pytest.mark.parametrize("name", MISREAD)
async def test_a_suffix_range_that_the_server_misinterprets_is_requested_again_by_its_absolute_first_byte(
    name: str,
) -> None:
    answer, requests = MISREAD[name]
    async with upstream(absolute_only(answer)) as (source, asked), reading(source, SUFFIX) as read:
        assert (read.extent.first, read.extent.total, read.honoured) == (SIZE - 100, SIZE, True)
        assert await rest_of(read) == FILE[-100:]
        opening = (
            asked[: asked.index(next(ask for ask in asked if ask.first == SIZE - 100)) + 1]
            if requests > 1
            else asked[:1]
        )
        assert len(opening) == requests


@pytest.mark.parametrize("suffix_bytes", [SIZE - 1, SIZE, SIZE + 1, 2**63 - 1])
async def test_a_suffix_range_with_nearly_the_length_of_the_file_returns_the_right_bytes(suffix_bytes: int) -> None:
    for answer in (part, absolute_only(lambda _ask: whole()), absolute_only(lambda _ask: refusal(416))):
        async with upstream(answer) as (source, _), reading(source, ByteRange(None, suffix_bytes)) as read:
            assert await rest_of(read) == FILE[-suffix_bytes:]


async def test_a_suffix_range_from_a_server_without_range_support_returns_the_whole_file() -> None:
    for headers, requests in ((told(), 2), ({"Accept-Ranges": "none"}, 1)):
        async with upstream(partial(lambda more, _ask: whole(more=more), headers)) as (source, asked):
            assert await all_of(source, SUFFIX) == FILE
            assert len(asked) == requests
    async with upstream(range_harms(lambda _ask: refusal(400))) as (source, _):
        assert await all_of(source, SUFFIX) == FILE


@pytest.mark.parametrize(("total", "requests"), [(SIZE, 1), (SIZE + 7, 2), (SIZE - 7, 2), (50, 2), (2 * SIZE, 2)])
async def test_a_suffix_range_is_requested_by_its_absolute_first_byte_if_a_file_length_is_known_even_if_it_is_wrong(
    total: int, requests: int
) -> None:
    async with upstream(part) as (source, asked):
        read = await open_resuming(source, SUFFIX, wait_seconds=2.0, total=total)
        assert await rest_of(read) == FILE[-100:]
        read.close()
        assert len(asked) == requests
        assert all(ask.first is not None for ask in asked)


# Internet radio streams


@pytest.mark.parametrize("size", [2**64 - 1, 2**63 - 1, 2**53 - 1])
@pytest.mark.parametrize("length", [True, False], ids=["Content-Length", "no length"])
async def test_a_206_response_with_an_impossible_length_is_read_as_a_stream_of_unknown_length(
    size: int, *, length: bool
) -> None:
    answer = head(206, {"Content-Range": f"bytes 0-{size - 1}/{size}", "Content-Length": size if length else None})
    async with upstream(lambda _ask: Reply(answer + FILE, "FIN")) as (source, asked), reading(source) as read:
        assert (read.extent.end, read.extent.total, read.partial) == (None, None, False)
        given = b""
        while len(given) < SIZE:
            given += await read.read()
        assert given == FILE
        assert len(asked) == 1


@pytest.mark.parametrize("size", [2**64 - 1, 2**63 - 1])
async def test_a_range_request_for_an_internet_radio_stream_returns_the_stream_from_its_beginning(size: int) -> None:
    def radio(ask: Ask) -> Reply:
        claimed = f"bytes {ask.first}-{size - 1}/{size}" if ask.has_range else None
        return Reply(head(206 if ask.has_range else 200, {"Content-Range": claimed}) + FILE, "FIN")

    async with upstream(radio) as (source, _), reading(source, TAIL) as read:
        assert (read.extent.first, read.extent.end, read.honoured) == (0, None, False)
        assert await rest_of(read) == FILE


async def test_the_bytes_of_an_aborted_internet_radio_stream_are_not_joined_with_later_bytes() -> None:
    """After the connection is aborted, the reader compares only the first bytes of the new response, because skipping
    all bytes that it has read before would take too long."""

    def later(_ask: Ask) -> Reply:
        # the new response is too slow for a reader that waits for more bytes
        return Reply(head(200, {}) + OTHER_FILE[:100])

    def cut(_ask: Ask) -> Reply:
        return Reply(head(200, {"Transfer-Encoding": "chunked"}) + b"%x\r\n%s\r\n" % (SIZE, FILE), "FIN")

    async with upstream(by_turns(cut, later)) as (source, _), reading(source) as read:
        with pytest.raises(UpstreamFailed, match="changed"):
            await rest_of(read)
