"""Tests of the messages between the server and its worker: messages are typed, have a size limit, and arrive
unchanged."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy import errors
from serverpy.errors import Busy, ExtractionFailed, ServerPYError
from serverpy.extraction import messages
from serverpy.extraction.messages import (
    Cancel,
    Configure,
    DownloadEnd,
    DownloadStarted,
    ErrorReply,
    Extract,
    Extracted,
    Format,
    Frames,
    MessageTooLarge,
    Page,
    Ping,
    Pong,
    RawApart,
    RawGone,
    RawWritten,
    Ready,
    Reply,
    Request,
    Select,
    Selected,
    StartDownload,
    WorkerOptions,
    WriteRaw,
)
from serverpy.extraction.sites import Sites
from serverpy.extraction.values import Cookie, Entry, Fragment, Media, Subtitle, Track
from serverpy.options import Network, Targets, Timeouts

MEDIA = Media(
    raw_id="r",
    id="1",
    title="Ünï 🎬",
    kind="video",
    extractor="site",
    webpage_url="https://site.example/",
    tracks=(Track(id="f", url="https://x.example/", protocol="https", ext="mp4", fragments=(Fragment(url="u"),)),),
    subtitles=(Subtitle(language="en", ext="vtt", url="u"),),
    cookies=(Cookie(name="n", value="v", domain=".x.example"),),
    expires=1.5,
)
OPTIONS = WorkerOptions(
    timeouts=Timeouts(stall=0.5),
    targets=Targets(allow_networks=("::1",), deny_ports=frozenset({1, 2}), own=(("::1", 80),)),
    network=Network(proxy="http://me:hush@proxy:1"),
    sites=Sites(deny=("a", "b")),
)
REQUESTS: tuple[Request, ...] = (
    Configure(options=OPTIONS, directory="/tmp/x"),
    Extract(id=1, url="https://site.example/"),
    Select(id=2, selector="b", formats=(Format(format_id="f", ext="mp4", protocol="https"),)),
    WriteRaw(id=3, raw_id="r", track_id="f"),
    StartDownload(id=4, track_id="f"),
    StartDownload(id=5, track_id="f", page=Page(url="https://site.example/", extractor="Site")),
    Cancel(id=4),
    Ping(id=6),
)
REPLIES: tuple[Reply, ...] = (
    Ready(yt_dlp="1", js_runtimes=("deno-2",), impersonation=True),
    Extracted(id=1, media=MEDIA),
    Extracted(
        id=1,
        media=Media(
            raw_id="p",
            id="2",
            title="",
            kind="playlist",
            extractor="",
            webpage_url="",
            entries=(Entry(media=MEDIA), Entry(url="u", duration=1.5)),
        ),
    ),
    Selected(id=2, choices=(("a", "b"), ("c",))),
    RawWritten(id=3),
    RawApart(id=3, page=Page(url="https://site.example/", extractor="Site")),
    DownloadStarted(id=3),
    DownloadEnd(id=3, bytes=10**12),
    Pong(id=6),
    ErrorReply(id=5, code="busy", message="No.", retry_after=3),
)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: type(each).__name__)
def test_the_worker_decodes_requests_as_the_server_encoded_them(request_: Request) -> None:
    [body] = Frames().feed(messages.encode(request_))
    assert messages.decode_request(body) == request_


@pytest.mark.parametrize("reply", REPLIES, ids=lambda each: type(each).__name__)
def test_the_server_decodes_replies_as_the_worker_encoded_them(reply: Reply) -> None:
    [body] = Frames().feed(messages.encode(reply))
    assert messages.decode_reply(body) == reply


@given(st.lists(st.integers(min_value=1, max_value=40), max_size=30))
def test_messages_are_decoded_correctly_from_chunks_of_any_size(cuts: list[int]) -> None:
    stream = b"".join(messages.encode(each) for each in REPLIES)

    def pieces() -> Iterator[bytes]:
        start = 0
        for cut in cuts:
            yield stream[start : start + cut]
            start += cut
        yield stream[start:]

    frames = Frames()
    got = [messages.decode_reply(body) for piece in pieces() for body in frames.feed(piece)]
    assert got == list(REPLIES)


def test_a_message_over_its_size_limit_is_neither_encoded_nor_decoded() -> None:
    with pytest.raises(MessageTooLarge):
        messages.encode(Extract(id=1, url="x" * messages.MAX_MESSAGE_BYTES))
    with pytest.raises(MessageTooLarge):
        list(Frames().feed(b"\xff\xff\xff\xff"))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"type":"Extract","id":1,"url":"u"}', b'{"type":"Stats","id":"x"}', b"\x80"]
)
def test_decoding_an_invalid_reply_raises_decode_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        messages.decode_reply(body)


def all_errors() -> list[type[ServerPYError]]:
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, ServerPYError)]
    return [each for each in classes if hasattr(each, "code")] + [RawGone]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda each: each.__name__)
def test_an_error_of_every_class_arrives_unchanged_through_the_pipe(kind: type[ServerPYError]) -> None:
    crossed = messages.to_error(messages.error_reply(1, kind("Why.")))
    assert (type(crossed), str(crossed)) == (kind, "Why.")


def test_the_retry_after_of_a_busy_error_arrives_unchanged_through_the_pipe() -> None:
    crossed = messages.to_error(messages.error_reply(1, Busy("Later.", 42)))
    assert isinstance(crossed, Busy)
    assert crossed.retry_after == 42


def test_an_unknown_error_code_is_decoded_as_extraction_failed() -> None:
    assert type(messages.to_error(ErrorReply(id=1, code="nonsense", message="x"))) is ExtractionFailed


@given(st.text(st.characters(codec=None, categories=("Cs", "Ll", "So")), max_size=20))
def test_any_text_arrives_unchanged_through_the_pipe_except_that_lone_surrogates_are_replaced(text: str) -> None:
    """JSON cannot represent a lone surrogate."""
    clean = text.encode("utf-8", "replace").decode()
    for sent, arrived in (
        (messages.error_reply(7, ExtractionFailed(text)), messages.error_reply(7, ExtractionFailed(clean))),
        (Selected(id=7, choices=((text,),)), Selected(id=7, choices=((clean,),))),
        (Extracted(id=7, media=replace(MEDIA, title=text)), Extracted(id=7, media=replace(MEDIA, title=clean))),
    ):
        [body] = Frames().feed(messages.encode(sent))
        assert messages.decode_reply(body) == arrived
