"""Tests of conditional requests to the real server (RFC 9110 §13), and of the order in which the server evaluates
preconditions, If-Range and Range."""

from __future__ import annotations

import pytest

from serverpy.sample.site import SampleSite
from tests.server import Server, answers_under_way
from tests.wire import Answer

FILM = "/media/prog-180.mp4"
PAIR = "/tube/watch/pair"
OLD, NEW = "Sat, 01 Jan 2000 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
OTHER = '"other"'


def ask(server: Server, page: str = FILM, verb: str = "GET", method: str = "relay", **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.get(page, verb=verb, method=method, headers=fields)


@pytest.mark.parametrize("page", [FILM, PAIR])
@pytest.mark.parametrize("verb", ["GET", "HEAD"])
def test_a_client_whose_cached_copy_is_current_gets_status_304(server: Server, page: str, verb: str) -> None:
    whole = ask(server, page, "HEAD")
    etag = whole.headers["etag"]
    for fields in (
        {"If_None_Match": etag},
        {"If_None_Match": f"W/{etag}"},
        {"If_None_Match": etag, "Range": "bytes=0-9"},
    ):
        answer = ask(server, page, verb, **fields)
        assert (answer.status, answer.body, answer.complete) == (304, b"", True)
        for name in ("etag", "cache-control", "last-modified"):
            assert answer.headers.get(name) == whole.headers.get(name)
        assert "date" in answer.headers
        assert not {"content-length", "content-type", "transfer-encoding", "content-range"} & answer.headers.keys()
    assert ask(server, page, verb, If_None_Match=OTHER).status == 200
    server.settled()


def test_date_preconditions_are_evaluated_if_the_request_has_no_etag_precondition(server: Server) -> None:
    modified = ask(server, verb="HEAD").headers["last-modified"]
    assert ask(server, If_Modified_Since=modified).status == 304
    assert ask(server, If_Modified_Since=NEW, Range="bytes=0-9").status == 304
    assert ask(server, If_Modified_Since=OLD, Range="bytes=0-9").status == 206
    assert ask(server, If_Unmodified_Since=modified, Range="bytes=0-9").status == 206
    assert ask(server, If_Unmodified_Since=OLD).code == "precondition_failed"


@pytest.mark.parametrize("page", [FILM, PAIR])
@pytest.mark.parametrize("verb", ["GET", "HEAD"])
def test_a_failed_precondition_is_answered_with_412(server: Server, page: str, verb: str) -> None:
    etag = ask(server, page, "HEAD").headers["etag"]
    for value in (OTHER, f"W/{etag}"):
        answer = ask(server, page, verb, If_Match=value, Range="bytes=0-9")
        assert answer.status == 412
        assert answer.headers["cache-control"] == "no-store"
        if verb == "GET":
            assert answer.code == "precondition_failed"
    for value in ("*", etag, f"{OTHER}, {etag}"):
        assert ask(server, page, verb, If_Match=value).status == 200
    server.settled()


def test_a_cache_that_revalidates_gets_the_new_body_if_the_media_has_changed(server: Server, site: SampleSite) -> None:
    """The media changes after a client has stored a copy, and before the client revalidates its copy."""
    page = "/page/fault/changes=told,id=revalidate/prog-180.mp4"
    first = ask(server, page)
    second = ask(server, page, If_None_Match=first.headers["etag"], If_Modified_Since=first.headers["last-modified"])
    assert (first.status, second.status) == (200, 200)
    assert first.headers["etag"] != second.headers["etag"]
    assert first.body != second.body
    again = ask(server, page, If_None_Match=second.headers["etag"])
    assert again.status == 304


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Range": "bytes=99999999-"}, 416),
        ({"Range": "bytes=99999999-", "If-Range": "{etag}"}, 416),
        ({"Range": "bytes=99999999-", "If-Range": OTHER}, 200),
        ({"Range": "bytes=99999999-", "If-Range": OLD}, 200),
        ({"Range": "bytes=-0", "If-Range": OTHER}, 200),
        ({"Range": "bytes=-0", "If-Range": "{etag}"}, 416),
        ({"Range": "bytes=9-2", "If-Range": OTHER}, 200),
        ({"Range": "bytes=99999999-", "If-None-Match": "{etag}"}, 304),
        ({"Range": "bytes=99999999-", "If-Match": OTHER}, 412),
        ({"Range": "bytes=99999999-", "If-Match": "{etag}"}, 416),
        ({"Range": "bytes=0-9", "If-Range": OTHER, "If-None-Match": "{etag}"}, 304),
        ({"Range": "bytes=0-9", "If-Range": OTHER, "If-None-Match": OTHER}, 200),
    ],
)
@pytest.mark.parametrize("page", [FILM, PAIR])
def test_range_is_evaluated_after_the_preconditions_and_after_if_range(
    server: Server, page: str, fields: dict[str, str], status: int
) -> None:
    whole = ask(server, page, "HEAD").headers
    values = {name: value.replace("{etag}", whole["etag"]) for name, value in fields.items()}
    answer = ask(server, page, **values)
    assert answer.status == status
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{whole['content-length']}"
    if status == 200:
        assert len(answer.body) == int(whole["content-length"])
    server.settled()


def test_a_request_with_two_range_header_fields_gets_the_whole_file(server: Server) -> None:
    target = server.target(FILM, method="relay")
    head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=0-9\r\nRange: bytes=5-9\r\n\r\n"
    with server.send(head.encode()) as exchange:
        assert exchange.rest().status == 200


@pytest.mark.parametrize("fields", [{"Range": "bytes=9-2"}, {"Range": "bytes=99999999-", "If_Range": OTHER}])
def test_a_streaming_method_without_range_support_ignores_invalid_range_and_if_range_headers(
    server: Server, fields: dict[str, str]
) -> None:
    for value in (fields, {**fields, "Range": "bytes=-0"}):
        answer = ask(server, method="embedded", **value)
        assert (answer.status, answer.complete) == (200, True)
        assert not {"etag", "last-modified", "content-range"} & answer.headers.keys()


def test_for_a_response_without_validators_the_only_if_match_value_that_holds_is_the_asterisk(server: Server) -> None:
    """Responses of `embedded` have no ETag, so no ETag listed in If-Match matches (RFC 9110 §13.1.1)."""
    assert ask(server, method="embedded", If_Match=OTHER).status == 412
    assert ask(server, method="embedded", If_Match="*", If_None_Match=OTHER, If_Unmodified_Since=OLD).status == 200


def test_the_server_closes_the_upstream_connection_before_it_sends_a_304(server: Server, site: SampleSite) -> None:
    """A client that does not read its 304 response must not keep the connection to the media server open."""
    page = "/media/large-64.mp4"
    etag = ask(server, page, "HEAD").headers["etag"]
    for verb, fields in (("GET", {"If-None-Match": etag}), ("GET", {"If-Match": OTHER}), ("HEAD", {})):
        with server.open(page, verb=verb, method="relay", headers=fields) as exchange:
            exchange.head()
            server.settled()
            assert answers_under_way(site) == 0
