from __future__ import annotations

import http.client
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pytest

from serverpy.sample import SampleSite
from serverpy.sample.faults import Faults, Tokens, parse_faults
from serverpy.sample.wire import Framing

from .raw import Answer, ask, connect, receive


def fault(site: SampleSite, spec: str, *headers: str, name: str = "audio.mp3", **options: Any) -> Answer:
    return ask(f"{site.http}/fault/{spec}/media/{name}", *headers, **options)


def test_a_fault_specification_is_parsed_to_its_faults() -> None:
    assert parse_faults("throttle=100,cut=5,norange") == Faults(throttle=100, cut=5, ignores_range=True)
    assert parse_faults("closelength,delay=0.5") == Faults(framing=Framing.CLOSE, delay=0.5)
    assert parse_faults("etag=flip,status=503") == Faults(fresh_etag=True, status=503)


@pytest.mark.parametrize(
    "spec", ["", "unknown", "cut", "cut=-1", "cut=x", "delay=x", "etag=same", "status=200", "changes=x"]
)
def test_a_request_with_an_invalid_fault_specification_is_answered_with_400(site: SampleSite, spec: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_faults(spec)
    assert fault(site, spec).status == 400


def test_the_fault_cut_ends_each_body_with_fin_after_the_given_number_of_bytes(site: SampleSite) -> None:
    whole = site.path("audio.mp3").read_bytes()
    first = fault(site, "cut=70000")
    second = fault(site, "cut=70000", "Range: bytes=70000-")
    assert (first.end, first.body) == ("fin", whole[:70_000])
    assert (second.end, second.body) == ("fin", whole[70_000:140_000])
    assert fault(site, "cut=70000", "Range: bytes=140000-").end == "length"


def test_a_reset_fault_ends_the_body_with_rst_after_the_given_number_of_bytes(site: SampleSite) -> None:
    answer = fault(site, "rst=100000")
    assert answer.end == "rst"
    assert answer.body == site.path("audio.mp3").read_bytes()[:100_000]


def test_the_fault_cut_with_0_bytes_still_sends_the_response_head(site: SampleSite) -> None:
    answer = fault(site, "cut=0")
    assert (answer.status, answer.body, answer.end) == (200, b"", "fin")


def test_a_stall_fault_stops_sending_and_keeps_the_connection_open(site: SampleSite) -> None:
    answer = fault(site, "stall=1000", silence_seconds=1.0)
    assert (answer.end, len(answer.body)) == ("silence", 1000)


def test_the_norange_fault_makes_the_site_send_the_whole_file_without_accept_ranges(site: SampleSite) -> None:
    answer = fault(site, "norange", "Range: bytes=100-")
    assert (answer.status, answer.body) == (200, site.path("audio.mp3").read_bytes())
    assert "accept-ranges" not in answer.headers


def test_the_norange206_fault_answers_any_range_request_with_a_206_of_the_whole_file(site: SampleSite) -> None:
    whole = site.path("audio.mp3").read_bytes()
    answer = fault(site, "norange206", "Range: bytes=100-")
    assert (answer.status, answer.body) == (206, whole)
    assert answer.headers["content-range"] == f"bytes 0-{len(whole) - 1}/{len(whole)}"


def test_the_nolength_fault_sends_a_chunked_body(site: SampleSite) -> None:
    answer = fault(site, "nolength", until_end=True, silence_seconds=1.0)
    assert "content-length" not in answer.headers
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body.endswith(b"0\r\n\r\n")


def test_a_chunked_body_that_the_fault_cut_truncates_has_no_last_chunk(site: SampleSite) -> None:
    answer = fault(site, "nolength,cut=1000", until_end=True)
    assert (answer.end, answer.body[:5]) == ("fin", b"3e8\r\n")
    assert not answer.body.endswith(b"0\r\n\r\n")


def test_the_closelength_fault_sends_a_body_with_neither_content_length_nor_chunks(site: SampleSite) -> None:
    answer = fault(site, "closelength", until_end=True)
    assert (answer.end, answer.body) == ("fin", site.path("audio.mp3").read_bytes())
    assert {"content-length", "transfer-encoding"}.isdisjoint(answer.headers)
    assert fault(site, "closelength,cut=500", until_end=True).body == answer.body[:500]


def test_the_status_fault_sets_the_status(site: SampleSite) -> None:
    assert fault(site, "status=503").status == 503


def test_the_malformed_fault_sends_a_response_that_is_not_http(site: SampleSite) -> None:
    address = urlsplit(f"{site.http}/fault/malformed/media/audio.mp3")
    with connect(address.geturl()) as client:
        client.sendall(f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        assert receive(client) == b"SERVICE TEMPORARILY OFFLINE\r\n\r\n"
        assert receive(client) == "fin"


def test_the_noalpn_fault_applies_only_to_clients_that_offer_no_alpn() -> None:
    with SampleSite(https_port=0) as site:
        assert site.https is not None
        address = urlsplit(site.https)
        tls = ssl.create_default_context(cafile=site.ca_file)
        assert status(address, tls) == 503
        tls.set_alpn_protocols(["http/1.1"])
        assert status(address, tls) == 200
        assert fault(site, "noalpn,status=503").status == 503


def status(address: SplitResult, tls: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection(address.hostname or "", address.port, context=tls)
    with closing(connection):
        connection.request("GET", "/fault/noalpn,status=503/media/audio.mp3")
        return connection.getresponse().status


def test_the_retry_fault_sets_retry_after(site: SampleSite) -> None:
    assert fault(site, "status=429,retry=7").headers["retry-after"] == "7"


def test_the_times_fault_limits_the_other_faults_to_the_first_requests(site: SampleSite) -> None:
    spec = "status=503,times=2,id=only-the-first"
    assert [fault(site, spec).status for _ in range(3)] == [503, 503, 200]
    assert fault(site, "status=503,times=2,id=another").status == 503


@pytest.mark.parametrize("how", ["told", "silent"])
def test_the_changes_fault_changes_the_bytes_of_the_file_at_an_address(site: SampleSite, how: str) -> None:
    first, second = (fault(site, f"changes={how},id=changing") for _ in range(2))
    assert len(first.body) == len(second.body)
    assert all(before != after for before, after in zip(first.body[:1000], second.body[:1000], strict=True))
    assert (first.headers["etag"] == second.headers["etag"]) is (how == "silent")


def test_the_delay_fault_delays_the_head_of_the_response(site: SampleSite) -> None:
    assert fault(site, "delay=0.3").seconds >= 0.3


def test_the_etag_flip_fault_changes_the_etag_at_each_request_but_not_the_bytes(site: SampleSite) -> None:
    first, second = fault(site, "etag=flip"), fault(site, "etag=flip")
    assert first.headers["etag"] != second.headers["etag"]
    assert first.body == second.body
    assert fault(site, "etag=flip", "Range: bytes=5-", f"If-Range: {first.headers['etag']}").status == 200


def test_the_throttle_fault_sends_a_body_at_the_given_rate(site: SampleSite) -> None:
    answer = fault(site, "throttle=400000")
    assert len(answer.body) == site.path("audio.mp3").stat().st_size
    assert answer.seconds > len(answer.body) / 400_000 * 0.8


def test_faults_apply_to_segments_and_manifests(site: SampleSite) -> None:
    assert len(ask(f"{site.http}/fault/cut=1000/hls/ts/high-0.ts").body) == 1000
    assert ask(f"{site.http}/fault/delay=0/dash/manifest.mpd").status == 200


def test_an_expiring_token_limits_the_total_number_of_bytes_of_all_responses(site: SampleSite) -> None:
    page = ask(f"{site.http}/page/fault/expire=1000/audio.mp3").body.decode()
    url = site.http + page.partition('src="')[2].partition('"')[0]
    assert ask(url, "Range: bytes=0-599").end == "length"
    rest = ask(url, "Range: bytes=600-")
    assert (rest.status, rest.end, len(rest.body)) == (206, "fin", 400)
    assert ask(url).status == 403
    assert ask(url.partition("?")[0]).status == 403


def test_each_request_of_an_expiring_page_issues_a_new_token(site: SampleSite) -> None:
    url = f"{site.http}/page/fault/expire=1000/audio.mp3"
    assert ask(url).body != ask(url).body


def test_concurrent_responses_with_the_same_token_share_its_byte_limit(site: SampleSite) -> None:
    page = ask(f"{site.http}/page/fault/expire=100000/audio.mp3").body.decode()
    url = site.http + page.partition('src="')[2].partition('"')[0]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: ask(url), range(2)))
    bodies = [len(answer.body) for answer in answers if answer.status == 200]
    assert sum(bodies) == 100_000


def test_a_token_that_was_never_issued_allows_no_bytes() -> None:
    assert Tokens().left("x") == 0
