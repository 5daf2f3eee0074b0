"""Tests of the HTTP interface of the real server: ranges, file names, problem documents, and the endpoints about the
server."""

from __future__ import annotations

import hashlib
import random
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from serverpy.api.exposition import COUNTERS, HELP, LABELLED
from serverpy.api.health import Health
from serverpy.api.problems import STATUS
from serverpy.app import create_app
from serverpy.errors import LinkExpired, LinkInvalid
from serverpy.info import Info
from serverpy.sample.site import SampleSite
from serverpy.settings import Settings
from tests.server import Server, serving
from tests.wire import Answer

FILM = "/media/prog-180.mp4"
OF_LINKS = {LinkExpired, LinkInvalid}


@pytest.fixture(scope="module")
def film(site: SampleSite) -> bytes:
    return site.path("prog-180.mp4").read_bytes()


def ask_range(server: Server, value: str, page: str = FILM, **headers: str) -> Answer:
    return server.get(page, method="relay", headers={"Range": value, **headers})


# Ranges (RFC 9110 §14)


@pytest.mark.parametrize("page", [FILM, "/tube/watch/chunked"])
@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("bytes=0-1", 0, 1),
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, -1),
        ("bytes=1000000-", 1_000_000, -1),
        ("bytes=-1", -1, -1),
        ("bytes=-70000", -70_000, -1),
        ("bytes=-99999999", 0, -1),
        ("bytes=1000000-99999999", 1_000_000, -1),
        ("bytes=0-18446744073709551615", 0, -1),
    ],
)
def test_a_range_request_returns_the_requested_bytes_of_the_file(
    server: Server, site: SampleSite, page: str, value: str, first: int, last: int
) -> None:
    """The test uses two pages: the media server of the first page accepts every range, and that of the second page
    accepts only small ranges."""
    whole = site.path("prog-180.mp4" if page == FILM else "prog.mp4").read_bytes()
    answer = ask_range(server, value, page)
    first, last = first % len(whole), last % len(whole)
    assert (answer.status, answer.complete) == (206, True)
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
    assert answer.headers["content-length"] == str(last - first + 1)
    assert answer.headers["content-type"] == "video/mp4"
    assert hashlib.sha256(answer.body).hexdigest() == hashlib.sha256(whole[first : last + 1]).hexdigest()


def test_a_range_request_with_random_positions_returns_the_requested_slice_of_the_file(
    server: Server, film: bytes
) -> None:
    chance = random.Random(9110)
    for _ in range(50):
        first, last = sorted(chance.sample(range(len(film)), 2))
        form = chance.choice(["closed", "open", "suffix"])
        if form == "closed":
            answer, expected = ask_range(server, f"bytes={first}-{last}"), film[first : last + 1]
        elif form == "open":
            answer, expected = ask_range(server, f"bytes={first}-"), film[first:]
        else:
            answer, expected = ask_range(server, f"bytes=-{last}"), film[-last:]
        assert (answer.status, answer.complete) == (206, True)
        assert answer.body == expected


@pytest.mark.parametrize("value", ["bytes=1190468-", "bytes=99999999-", "bytes=99999999-999999999", "bytes=-0"])
def test_a_range_beyond_the_end_of_the_file_is_answered_with_416_and_the_length_of_the_file(
    server: Server, film: bytes, value: str
) -> None:
    answer = ask_range(server, value)
    assert (answer.status, answer.code) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(film)}"


@pytest.mark.parametrize(
    "value",
    [
        *("items=0-1", "bytes=0-1,5-9", "bytes=0-1, -1", "nonsense", "bytes=9-2", "bytes=--5", "bytes=-5--1"),
        *("bytes=0-9,5-14", "bytes=x", "bytes=99999999-,0-1"),
    ],
)
def test_a_range_header_that_the_server_may_ignore_is_answered_with_the_whole_file(
    server: Server, film: bytes, value: str
) -> None:
    answer = ask_range(server, value)
    assert (answer.status, "content-range" in answer.headers) == (200, False)
    assert answer.body == film


def test_a_range_is_served_if_its_if_range_matches_and_otherwise_the_whole_file_is_served(
    server: Server, film: bytes
) -> None:
    """Only a strong validator in If-Range can match (RFC 9110 §13.1.5)."""
    headers = server.get(FILM, method="relay", verb="HEAD").headers
    etag, modified = headers["etag"], headers["last-modified"]
    holds = {value: ask_range(server, "bytes=5-9", **{"If-Range": value}) for value in (etag, modified)}
    fails = {
        value: ask_range(server, "bytes=5-9", **{"If-Range": value})
        for value in (f"W/{etag}", '"other"', "Sat, 01 Jan 2000 00:00:00 GMT", "nonsense")
    }
    assert {value: (answer.status, answer.body) for value, answer in holds.items()} == dict.fromkeys(
        holds, (206, film[5:10])
    )
    assert {value: (answer.status, answer.body == film) for value, answer in fails.items()} == dict.fromkeys(
        fails, (200, True)
    )


def test_if_range_without_range_has_no_effect(server: Server, film: bytes) -> None:
    answer = server.get(FILM, method="relay", headers={"If-Range": '"other"'})
    assert (answer.status, answer.body) == (200, film)


def test_head_ignores_the_range_header(server: Server, film: bytes) -> None:
    """Range is defined only for GET (RFC 9110 §14.2)."""
    answer = server.get(FILM, verb="HEAD", method="relay", headers={"Range": "bytes=5-9"})
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, str(len(film)), b"")
    answer = server.get(FILM, verb="HEAD", method="relay", headers={"Range": "bytes=9-2"})
    assert answer.status == 200


@pytest.mark.parametrize("fault", ["norange", "norange206"])
@pytest.mark.parametrize("value", ["bytes=0-9", "bytes=5-9", "bytes=-9"])
def test_a_range_request_for_media_of_a_site_without_range_support_returns_the_whole_file(
    server: Server, film: bytes, fault: str, value: str
) -> None:
    answer = ask_range(server, value, f"/page/fault/{fault}/prog-180.mp4")
    assert (answer.status, answer.complete, "content-range" in answer.headers) == (200, True, False)
    assert answer.body == film


def test_a_range_request_for_a_method_without_range_support_returns_the_whole_file(server: Server, film: bytes) -> None:
    answer = server.get(FILM, method="embedded", headers={"Range": "bytes=5-9"})
    assert (answer.status, answer.headers["accept-ranges"], answer.body) == (200, "none", film)


# File names


def disposition(answer: Answer) -> tuple[str, str]:
    """Return the disposition type and the file name, as a client that supports `filename*` reads them."""
    match = re.fullmatch(r"(\w+); filename=\"[^\"]*\"; filename\*=UTF-8''(\S+)", answer.headers["content-disposition"])
    assert match
    return match[1], unquote(match[2], errors="strict")


@pytest.mark.parametrize(
    ("page", "params", "expected"),
    [
        ("/page/prog", {}, ("inline", "A progressive film.mp4")),
        ("/page/prog", {"download": 1}, ("attachment", "A progressive film.mp4")),
        ("/page/webm", {"download": 0}, ("inline", "VP9 and Opus.webm")),
        ("/page/unicode", {}, ("inline", "映画「サンプル」🎬 _quoted_ _ it's größer & _more_.mp4")),
        ("/page/prog", {"filename": "mein größter Film.mkv"}, ("inline", "mein größter Film.mp4")),
        ("/page/prog", {"filename": "../../x\r\nSet-Cookie: a=b"}, ("inline", "_.._x__Set-Cookie_ a=b.mp4")),
        ("/page/prog", {"filename": "x.mp4.html"}, ("inline", "x.mp4.html.mp4")),
        ("/page/prog", {"filename": "x" * 256}, ("inline", "x" * 200 + ".mp4")),
        ("/page/mp3", {"filename": "ｘ＂; filename=＂evil．exe"}, ("inline", "ｘ＂; filename=＂evil．exe.mp3")),
    ],
)
def test_the_file_name_of_a_response_is_the_title_of_the_media_or_the_name_chosen_by_the_client(
    server: Server, page: str, params: Mapping[str, Any], expected: tuple[str, str]
) -> None:
    answer = server.get(page, verb="HEAD", **params)
    assert disposition(answer) == expected
    assert "set-cookie" not in answer.headers


# Problem documents

SECRET = "hush5ecret"


@dataclass(frozen=True)
class Refused:
    """A request to /stream that the server refuses with `status` and `code`. In `url`, `{site}` stands for the origin
    of the sample site, and `{closed}` for a port on which no server listens."""

    url: str
    status: int
    code: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.url, *(f"{name}={value}" for name, value in self.params.items())])


PAGE = f"{{site}}/page/prog?key={SECRET}"
REFUSED = [
    # Invalid URLs and parameters
    *(
        Refused(url, 400, "invalid_url")
        for url in (
            *("", "prog", "-o", "--exec=x", "//127.0.0.1/x", "file:///etc/passwd", "data:video/mp4,x"),
            *("ftp://example.com/x", "javascript:1", "ytsearch:x", "http://", "http:///x", "http://[::1/x"),
            *("http://user:pass@example.com/", "http://user@example.com/", "http://example.com:99999/"),
            *(
                "http://example.com/a b",
                "http://example.com/\r\nx",
                "http://example.com/\x00",
                "http://example.com/\x7f",
            ),
            *("http://example.com\\@127.0.0.1/", "{site}/page/prog#__youtubedl_smuggle=%7B%7D"),
            *("{site}/page/prog#__youtubedl%5fsmuggle=%7B%7D", "http://example.com/" + "x" * 9000),
        )
    ),
    *(
        Refused(PAGE, 400, "invalid_parameter", params)
        for params in (
            *({"method": "magic"}, {"to": "exe"}, {"item": 0}, {"item": -1}, {"item": "two"}, {"download": "maybe"}),
            *({"start": 5}, {"end": 5}, {"start": 1, "end": 2}, {"start": "soon"}),
            *({"format": "best["}, {"format": "(("}, {"format": "b[height<<3]"}),
        )
    ),
    Refused(PAGE, 422, "unsupported_conversion", {"to": "mp3"}),
    Refused("{site}/tube/watch/pair-webm", 422, "unsupported_conversion", {"format": "bv+ba"}),
    # Forbidden addresses
    *(
        Refused(url, 403, "target_forbidden")
        for url in (
            *("http://127.0.0.1:1/x", "http://localhost:9/x", "http://[::1]/x", "http://169.254.169.254/latest"),
            *("http://10.0.0.1/x", "http://0x7f.1/x", "http://[::ffff:127.0.0.1]/x"),
            *("{site}/redirect?to=http%3A//127.0.0.1%3A1/x", "{site}/redirect?to=http%3A//169.254.169.254/"),
        )
    ),
    # Failures of the extraction
    Refused("{site}/page/none", 404, "media_not_found"),
    Refused("{site}/no/such/page", 404, "media_not_found"),
    Refused("{site}/tube/watch/gone", 404, "media_not_found"),
    Refused(PAGE, 404, "format_not_found", {"format": "b[height=1]"}),
    Refused(PAGE, 404, "format_not_found", {"format": "no-such-format"}),
    Refused("{site}/page/hls-ts", 404, "format_not_found", {"format": "no-such-format"}),
    Refused(PAGE, 404, "item_not_found", {"item": 2}),
    Refused("{site}/tube/playlist/list-3", 404, "item_not_found", {"item": 4}),
    Refused("{site}/tube/post/photos", 404, "item_not_found", {"item": 99}),
    Refused("{site}/tube/watch/geo", 403, "geo_restricted"),
    Refused("{site}/tube/watch/login", 403, "login_required"),
    Refused("{site}/tube/watch/drm", 403, "drm_protected"),
    Refused("{site}/tube/watch/crash", 502, "extraction_failed"),
    Refused("{site}/page/loop", 502, "extraction_failed"),
    Refused("http://127.0.0.1:{closed}/x", 502, "upstream_failed"),
    Refused("http://no-such-host.invalid/x", 502, "upstream_failed"),
    # invalid query parameters are refused
    Refused("{site}/page/empty", 502, "upstream_failed"),
    Refused("{site}/page/empty-media", 502, "upstream_failed"),
    Refused("{site}/page/dead", 502, "upstream_failed"),
    Refused("{site}/page/html-media", 415, "not_media"),
    *(Refused(f"{{site}}/page/fault/status={status}/prog.mp4", 502, "upstream_failed") for status in (403, 404, 503)),
]


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_refused_request_gets_the_expected_status_and_problem_code(
    server: Server, site: SampleSite, case: Refused
) -> None:
    url = case.url.replace("{site}", site.http).replace("{closed}", str(site.closed_port))
    answer = server.ask(f"/stream?{query(url=url, **case.params)}")
    check_problem(answer, case.status, case.code)
    assert answer.seconds < 20  # the server reports the error at once, without waiting for a timeout
    server.settled()


def query(**params: object) -> str:
    return "&".join(f"{name}={quote(str(value), safe='')}" for name, value in params.items())


def check_problem(answer: Answer, status: int, code: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json", answer
    document = answer.json()
    assert (answer.status, document["code"], document["status"]) == (status, code, status), document
    assert {"type", "title", "detail"} <= document.keys()
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    text = answer.body.decode()
    assert SECRET not in text
    assert not re.search(r"\b127\.|\b10\.0|169\.254|::1|localhost|Traceback|\.py\b|/home/|site-packages", text), text


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/stream", "invalid_parameter"),
        ("/stream?url=http://example.com/%ff", "invalid_url"),
        ("/stream?url=http://example.com/\xff", "invalid_url"),
        ("/stream?url=http://example.com/%00", "invalid_url"),
        ("/stream?url=http://example.com/&format=%ff", "invalid_parameter"),
        ("/info", "invalid_parameter"),
        ("/info?url=file:///etc/passwd", "invalid_url"),
    ],
)
def test_an_invalid_query_is_refused(server: Server, target: str, code: str) -> None:
    check_problem(server.ask(target), 400, code)


def test_a_url_may_be_sent_without_percent_encoding(server: Server, site: SampleSite) -> None:
    """curl does not percent-encode URLs: it sends `/stream?url=…/käse` as UTF-8."""
    url = f"{site.http}/page/unicode?käse=🧀".encode().decode("latin-1")
    assert server.ask(f"/stream?url={url}", verb="HEAD").status == 200
    assert any(asked.query == {"käse": "🧀"} for asked in site.requests)


def test_a_malformed_http_request_is_answered_with_a_problem_document(server: Server) -> None:
    with server.send(b"GET /stream?url=a b HTTP/9\r\n\r\n") as exchange:
        check_problem(exchange.rest(), 400, "bad_request")


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: +5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Content-Length : 5\r\n",
        b"X: a\r\n Content-Length: 5\r\n",
        b"X: a\rContent-Length: 5\r\n",
        b"X: a\nContent-Length: 5\n",
        b"X\0: a\r\n",
    ],
)
def test_a_request_that_a_proxy_could_parse_in_another_way_is_refused(server: Server, fields: bytes) -> None:
    """If a proxy in front of the server sees the end of the request at another byte, the proxy takes a part of this
    request for the next client's request."""
    head = b"POST /links HTTP/1.1\r\nHost: 127.0.0.1\r\n" + fields + b"\r\n"
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head + b"0\r\n\r\nGET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert b'"code": "bad_request"' in received


@pytest.mark.parametrize("verb", ["GET", "HEAD"])
@pytest.mark.parametrize("target", ["/stream?url=http://example.com/", "/nowhere/", "/ready?"])
def test_a_url_of_ten_megabytes_is_refused_with_414(server: Server, verb: str, target: str) -> None:
    answer = server.ask(target + "x" * 10_000_000, verb=verb)
    assert answer.status == 414
    if verb == "GET":
        check_problem(answer, 414, "url_too_long")


@pytest.mark.parametrize("path", ["/stream", "/ready"])
def test_request_headers_of_a_megabyte_are_refused(server: Server, path: str) -> None:
    for headers in ({"X-Long": "x" * 1_000_000}, {f"X-{number}": "x" * 1000 for number in range(1000)}):
        check_problem(server.get("/page/prog", path=path, headers=headers), 431, "headers_too_large")


@pytest.mark.parametrize(
    ("verb", "target", "status", "code"),
    [
        ("POST", "/stream?url=ftp://x&item=0", 405, "method_not_allowed"),
        ("DELETE", "/stream?url=%ff", 405, "method_not_allowed"),
        ("GET", "/nowhere?url=%ff", 404, "not_found"),
        ("GET", "/stream?item=0&url=ftp://x", 400, "invalid_url"),
        ("GET", "/stream?format=%ff&url=ftp://x", 400, "invalid_url"),
        ("GET", "/stream?to=mkv&url=ftp://x", 400, "invalid_url"),
        ("GET", "/stream?end=5&url=http://127.0.0.1:1/", 400, "invalid_parameter"),
        ("GET", "/stream?item=0&url=http://127.0.0.1:1/", 400, "invalid_parameter"),
        ("GET", "/stream?url=http://127.0.0.1:1/", 403, "target_forbidden"),
    ],
)
def test_the_server_checks_the_method_first_and_then_the_url_and_then_the_parameters_of_a_request(
    server: Server, verb: str, target: str, status: int, code: str
) -> None:
    """The server evaluates Range and If-Match only if the method, the URL and the parameters are valid."""
    answer = server.ask(target, verb=verb, headers={"Range": "bytes=9-2", "If-Match": '"other"'})
    check_problem(answer, status, code)


def test_an_extraction_that_exceeds_extract_timeout_is_answered_with_504(site: SampleSite) -> None:
    """The page takes 60 s to respond, while EXTRACT_TIMEOUT is 1 s."""
    with serving(site, extract_timeout=1, stall_timeout=60) as server:
        for method in ("auto", "subprocess"):
            answer = server.get(f"/page/slow?seconds=60&key={SECRET}", method=method)
            check_problem(answer, 504, "extraction_timeout")
            assert 0.9 < answer.seconds < 30
            server.settled()
        check_problem(server.get("/tube/watch/slow", path="/info"), 504, "extraction_timeout")
        server.settled()


@pytest.mark.parametrize("method", ["auto", "subprocess"])
def test_an_extraction_from_a_silent_site_is_answered_with_504(hurried: Server, method: str) -> None:
    """STALL_TIMEOUT ends the extraction, because it is shorter than EXTRACT_TIMEOUT."""
    answer = hurried.get(f"/page/slow?seconds=30&key={SECRET}", method=method)
    check_problem(answer, 504, "extraction_timeout")
    hurried.settled()


def test_a_stream_from_a_silent_media_server_is_answered_with_504(hurried: Server) -> None:
    check_problem(hurried.get("/page/fault/delay=30/prog.mp4", method="relay"), 504, "upstream_timeout")
    hurried.settled()


@pytest.mark.parametrize(
    ("page", "params", "status", "code"),
    [
        ("/page/none", {}, 404, "media_not_found"),
        ("/page/prog", {"format": "best["}, 400, "invalid_parameter"),
        ("/page/prog", {"format": "nothing"}, 404, "format_not_found"),
        ("/tube/playlist/list-3", {"item": 4}, 404, "item_not_found"),
        ("/tube/watch/geo", {}, 403, "geo_restricted"),
        ("http://127.0.0.1:1/", {}, 403, "target_forbidden"),
        ("/tube/watch/pair-webm", {"format": "bv+ba"}, 422, "unsupported_conversion"),
    ],
)
def test_subprocess_fails_with_the_same_errors_as_the_other_methods(
    server: Server, page: str, params: Mapping[str, Any], status: int, code: str
) -> None:
    check_problem(server.get(page, method="subprocess", **params), status, code)
    server.settled()


def test_an_unknown_path_and_a_wrong_request_method_are_answered_with_problem_documents(server: Server) -> None:
    check_problem(server.ask("/nowhere"), 404, "not_found")
    answer = server.get("/page/prog", verb="POST")
    check_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD"  # Allow lists all allowed methods (RFC 9110 §10.2.1)


def test_the_server_keeps_the_request_id_of_a_client_if_it_is_safe_in_a_log(server: Server) -> None:
    assert server.ask("/ready", headers={"X-Request-ID": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    for bad in ("a b", "x" * 65, "<script>"):
        assert server.ask("/ready", headers={"X-Request-ID": bad}).headers["x-request-id"] != bad


# The endpoints `/info`, `/health`, `/ready` and `/metrics`


def test_info_has_exactly_the_fields_of_the_documented_contract(server: Server, site: SampleSite) -> None:
    info = server.get("/tube/watch/full", path="/info").json()
    assert info.keys() == {
        "id",
        "title",
        "uploader",
        "duration",
        "kind",
        "thumbnail",
        "webpage_url",
        "extractor",
        "default",
        "formats",
        "subtitles",
        "images",
        "entries",
    }
    names = {
        "id",
        "ext",
        "protocol",
        "vcodec",
        "acodec",
        "width",
        "height",
        "fps",
        "bitrate",
        "size",
        "size_exact",
        "language",
        "note",
        "methods",
        "to",
    }
    assert all(each.keys() == names for each in info["formats"])
    assert (info["title"], info["uploader"], info["kind"]) == ("SampleTube film: full", "The Sample Channel", "video")
    assert info["thumbnail"] == f"{site.http}/media/photo-1.jpg"
    by_id = {each["id"]: each for each in info["formats"]}
    film = by_id["360"]
    assert (film["size"], film["size_exact"]) == (site.path("prog.mp4").stat().st_size, True)
    assert film["methods"] == ["relay", "embedded", "subprocess"]
    assert film["to"] == ["source", "mp4"]
    assert {"de", "en"} <= {each["language"] for each in info["subtitles"]}


@pytest.mark.parametrize(
    ("page", "kind", "entries", "images"),
    [
        ("/page/mp3", "audio", 0, 0),
        ("/tube/playlist/list-12", "playlist", 12, 0),
        ("/tube/post/photos", "images", 5, 5),
        ("/tube/live/now", "live", 0, 0),
        ("/page/two", "playlist", 2, 0),
    ],
)
def test_info_reports_the_kind_of_media_on_a_page(
    server: Server, page: str, kind: str, entries: int, images: int
) -> None:
    info = server.get(page, path="/info").json()
    assert (info["kind"], len(info["entries"]), len(info["images"])) == (kind, entries, images)


def test_info_fails_with_the_same_errors_as_stream(server: Server) -> None:
    check_problem(server.get("/tube/watch/geo", path="/info"), 403, "geo_restricted")
    check_problem(server.get("http://127.0.0.1:1/", path="/info"), 403, "target_forbidden")


def test_health_has_exactly_the_fields_of_the_documented_contract(server: Server) -> None:
    health = server.health()
    assert health.keys() == {
        "status",
        "version",
        "yt_dlp",
        "uptime",
        "memory",
        "worker",
        "streams",
        "waiting",
        "upstreams",
        "threads",
        "fds",
        "children",
        "buffered_bytes",
        "budget",
        "loop_lag",
    }
    assert (health["status"], health["worker"]) == ("ok", "running")
    assert health["memory"]["pss"] > health["memory"]["uss"] > 1 << 20
    assert health["memory"]["worker"]["pss"] > 1 << 20
    assert (health["budget"]["used"], health["streams"]) == (0, 0)
    assert health["children"] in (1, 2)  # a download process runs for a while after an embedded stream


def test_health_reports_a_running_stream_with_its_bytes(server: Server) -> None:
    with server.open("/media/large-64.mp4", receive_bytes=4096) as exchange:
        exchange.read(1)
        health = server.health()
        assert (health["streams"], health["upstreams"]) == (1, 1)
        assert health["budget"]["used"] > 0
    server.settled()


def test_metrics_have_the_values_of_health_in_the_format_of_prometheus(server: Server) -> None:
    answer = server.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family.samples for family in text_string_to_metric_families(answer.body.decode())}
    labelled = {name for name, *_ in LABELLED.values()}
    found = {name: samples[0].value for name, samples in families.items() if name not in labelled}
    assert found.keys() == {name for name, _ in (HELP | COUNTERS).values()}
    assert labelled <= families.keys()
    assert found["serverpy_budget_total_bytes"] == server.health()["budget"]["total"]
    assert found["serverpy_streams"] == 0


def test_ready_is_answered_with_ok(server: Server) -> None:
    answer = server.ask("/ready")
    assert (answer.status, answer.json()) == (200, {"status": "ok"})


def test_the_openapi_document_lists_every_error_of_stream(server: Server) -> None:
    paths = server.ask("/openapi.json").json()["paths"]
    assert {"/stream", "/info", "/health", "/ready", "/metrics"} <= paths.keys()
    found = errors_in(paths["/stream"]["get"]["responses"])
    listed = {(status, kind.code) for kind, (status, _) in STATUS.items() if kind not in OF_LINKS}
    assert found == listed | OF_ALL
    of_links = {(STATUS[kind][0], kind.code) for kind in (LinkInvalid, LinkExpired)}
    of_keys = {(401, "key_required"), (401, "key_invalid")}
    assert errors_in(paths["/s/{token}/{filename}"]["get"]["responses"]) == (found | of_links) - of_keys


def test_the_page_of_the_http_api_lists_every_route_and_every_error_of_the_openapi_document(server: Server) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "http-api.md").read_text(encoding="utf-8")
    paths = server.ask("/openapi.json").json()["paths"]
    assert {path for path in paths if path not in page} == set()
    codes = {code for path in paths.values() for each in path.values() for _, code in errors_in(each["responses"])}
    assert {code for code in codes if f"`{code}`" not in page} == set()
    parameters = [each["name"] for each in paths["/stream"]["get"]["parameters"] if each["in"] == "query"]
    assert {name for name in parameters if f"`{name}`" not in page} == set()


OF_ALL = {
    (400, "bad_request"), (405, "method_not_allowed"), (413, "too_large"), (414, "url_too_long"),
    (421, "host_unknown"), (429, "rate_limited"), (431, "headers_too_large"), (500, "internal"), (503, "busy"),
    (503, "draining"),
}  # fmt: skip
"""The errors with which the server may refuse a request for any of its routes."""


def test_the_openapi_document_lists_the_errors_of_every_operation_and_their_header_fields() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    of_keys = {(401, "key_required"), (401, "key_invalid"), (403, "key_forbids")}
    assert {"/stream", "/info", "/health", "/ready", "/metrics", "/links", "/streams", "/login", "/logout"} <= set(
        paths
    )
    for path, operations in paths.items():
        for verb, operation in operations.items():
            answers = operation["responses"]
            assert errors_in(answers) >= (OF_ALL | of_keys if "security" in operation else OF_ALL), (verb, path)
            counted = path in ("/stream", "/info", "/links")
            assert ("RateLimit-Limit" in answers["429"]["headers"]) == counted, (verb, path)
            assert all("Retry-After" in answers[status]["headers"] for status in ("429", "503"))
            assert "Allow" in answers["405"]["headers"]
            if "401" in answers:
                assert "WWW-Authenticate" in answers["401"]["headers"]
    assert (404, "not_found") in errors_in(paths["/streams/{id}"]["delete"]["responses"])


def errors_in(responses: dict[str, Any]) -> set[tuple[int, str]]:
    return {
        (int(status), code)
        for status, answer in responses.items()
        for code in answer.get("content", {}).get("application/problem+json", {}).get("examples", {})
    }


def test_the_openapi_document_names_the_ways_to_send_an_api_key(server: Server) -> None:
    schema = server.ask("/openapi.json").json()
    schemes = schema["components"]["securitySchemes"]
    assert schemes.keys() == {"bearer", "basic", "api-key", "session"}
    secured = {
        path for path, operations in schema["paths"].items() if any("security" in each for each in operations.values())
    }
    assert secured == {"/stream", "/info", "/health", "/metrics", "/links", "/streams", "/streams/{id}"}
    assert schema["paths"]["/stream"]["get"]["security"] == [{}, *({name: []} for name in schemes)]
    assert schema["paths"]["/login"]["post"]["requestBody"]["content"].keys() == {
        "application/json",
        "application/x-www-form-urlencoded",
    }


def test_the_openapi_document_describes_the_header_fields_and_media_types_of_stream(server: Server) -> None:
    paths = server.ask("/openapi.json").json()["paths"]["/stream"]
    fields = {verb: {each["name"] for each in paths[verb]["parameters"] if each["in"] == "header"} for verb in paths}
    conditional = {"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"}
    assert fields == {"get": {"Range", "If-Range", *conditional}, "head": conditional}
    for status in ("200", "206"):
        answer = paths["get"]["responses"][status]
        assert {"video/mp4", "video/mp2t", "audio/mpeg", "video/webm", "text/vtt"} <= answer["content"].keys()
        assert {"ETag", "Cache-Control", "Accept-Ranges"} <= answer["headers"].keys()
    assert "Content-Range" in paths["get"]["responses"]["206"]["headers"]
    assert {"304", "412", "416"} <= paths["get"]["responses"].keys()


def test_only_pages_of_allowed_origins_may_read_the_responses(site: SampleSite, server: Server) -> None:
    asked = {"Origin": "https://app.example"}
    assert "access-control-allow-origin" not in server.ask("/ready", headers=asked).headers
    with serving(site, cors_origins="https://app.example") as open_to_one:
        for target in ("/ready", "/nowhere", "/stream?url=x", open_to_one.target("/page/mp3")):
            answer = open_to_one.ask(target, headers=asked)
            assert answer.headers["access-control-allow-origin"] == "https://app.example", target
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert "Content-Range" in answer.headers["access-control-expose-headers"]
        other = open_to_one.ask("/ready", headers={"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers
        preflight = {**asked, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}
        assert open_to_one.ask("/stream", verb="OPTIONS", headers=preflight).status == 200


def test_the_wildcard_in_cors_origins_lets_every_page_read_responses_but_only_without_credentials(
    site: SampleSite,
) -> None:
    with serving(site, cors_origins="*") as open_to_all:
        headers = open_to_all.ask("/ready", headers={"Origin": "https://app.example"}).headers
        assert headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in headers


def test_a_whole_file_sent_because_if_range_does_not_match_has_its_usual_headers(server: Server) -> None:
    plain = server.get("/page/prog")
    whole = server.get("/page/prog", headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (whole.status, whole.body) == (200, plain.body)
    for name in ("accept-ranges", "etag", "last-modified", "content-length"):
        assert whole.headers[name] == plain.headers[name]
    assert "content-range" not in whole.headers


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_health_ready_and_metrics_accept_head(server: Server, path: str) -> None:
    answer = server.ask(path, verb="HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_the_openapi_document_lists_the_method_head_and_only_errors_that_can_occur(server: Server) -> None:
    paths = server.ask("/openapi.json").json()["paths"]
    assert set(paths["/stream"]) == {"get", "head"}
    assert "422" not in paths["/info"]["get"]["responses"]
    assert "422" in paths["/stream"]["get"]["responses"]


@pytest.mark.parametrize("model", [Info, Health])
def test_the_examples_in_the_openapi_document_are_valid_responses(model: type[BaseModel]) -> None:
    (example,) = model.model_json_schema()["examples"]
    assert model.model_validate(example).model_dump() == example
