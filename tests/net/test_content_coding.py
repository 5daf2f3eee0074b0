"""Tests that compressed response bodies are decoded in bounded steps while they are streamed."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from collections.abc import Awaitable, Callable

import brotli
import pytest

from serverpy.errors import Busy, UpstreamFailed
from serverpy.memory.room import NO_ROOM, Room
from serverpy.net.content_coding import STEP, Decoding, window_of
from serverpy.net.response_head import codings_of
from serverpy.tasks import cancel, spawn

TEXT = b"#EXTM3U, and other lines that are alike. " * 5000
NOISE = random.Random(3).randbytes(200_000)


def raw_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(data) + deflate.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
}


@pytest.mark.parametrize(
    ("values", "codings"),
    [
        ([], ()),
        (["gzip"], ("gzip",)),
        (["X-GZip"], ("gzip",)),
        ([" br "], ("br",)),
        (["gzip, br"], ("gzip", "br")),
        (["deflate", "gzip"], ("deflate", "gzip")),
        (["zstd;q=1"], ("zstd",)),
        (['"gzip"', "'br';q=1"], ("gzip", "br")),
        *(([word], ()) for word in ("", " ", "identity", "Identity", "none", "UTF-8", "binary", "aws-chunked", "8bit")),
        (["aws-chunked,gzip"], ("gzip",)),
        (["utf-8, identity"], ()),
    ],
)
def test_words_in_the_content_encoding_header_that_name_no_content_coding_are_ignored(
    values: list[str], codings: tuple[str, ...]
) -> None:
    assert codings_of(values) == codings


def pieces_of(data: bytes, size: int) -> Callable[[], Awaitable[bytes]]:
    pieces = iter([data[at : at + size] for at in range(0, len(data), size)])

    async def read() -> bytes:
        return next(pieces, b"")

    return read


async def decoded(codings: tuple[str, ...], data: bytes, size: int = 4096) -> bytes:
    decoding, whole = Decoding(codings, pieces_of(data, size), None), b""
    while piece := await decoding.read():
        assert len(piece) <= STEP
        whole += piece
    return whole


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize("coding", ENCODERS)
async def test_decoding_a_compressed_body_returns_the_original_bytes(coding: str, size: int) -> None:
    for body in (TEXT, NOISE[: size * 5000], b""):
        assert await decoded((coding,), ENCODERS[coding](body), size) == body


async def test_a_deflate_body_without_zlib_header_is_decoded() -> None:
    assert await decoded(("deflate",), raw_deflate(TEXT)) == TEXT


@pytest.mark.parametrize("size", [1, 5, 4096])
async def test_a_gzip_body_with_several_members_and_trailing_bytes_is_decoded(size: int) -> None:
    two = gzip.compress(b"one") + gzip.compress(b"two")
    for rest in (b"", b"\0\0\0\0", b"rest"):
        assert await decoded(("gzip",), two + rest, size) == b"onetwo"


@pytest.mark.parametrize("size", [1, 4096, 1 << 20])
async def test_several_content_codings_are_decoded_in_reverse_order(size: int) -> None:
    for body in (TEXT, NOISE[:9999], bytes(1 << 20), b""):
        assert await decoded(("gzip", "br"), brotli.compress(gzip.compress(body)), size) == body
        coded = zlib.compress(brotli.compress(gzip.compress(body)))
        assert await decoded(("gzip", "br", "deflate"), coded, size) == body


async def test_several_content_codings_of_which_one_is_truncated_raise_upstream_failed() -> None:
    whole = gzip.compress(NOISE)
    for data in (brotli.compress(whole[:-1]), brotli.compress(whole)[:-1], brotli.compress(b""), b""):
        with pytest.raises(UpstreamFailed, match="ended the compressed body too early"):
            await decoded(("gzip", "br"), data)


@pytest.mark.parametrize("coding", ENCODERS)
async def test_decoding_a_truncated_or_invalid_body_raises_upstream_failed(coding: str) -> None:
    data = ENCODERS[coding](NOISE)
    for wrong in (data[:-1], data[:1000], b"", b"<html>" + data):
        with pytest.raises(UpstreamFailed):
            await decoded((coding,), wrong)


async def test_decoding_a_gzip_body_with_a_wrong_checksum_raises_upstream_failed() -> None:
    data = bytearray(gzip.compress(TEXT))
    data[-5] ^= 1
    with pytest.raises(UpstreamFailed, match="invalid"):
        await decoded(("gzip",), bytes(data))


@pytest.mark.parametrize("coding", ["zstd", "compress", "dcb"])
def test_the_error_for_an_unsupported_content_coding_names_the_coding(coding: str) -> None:
    with pytest.raises(UpstreamFailed, match=coding):
        Decoding((coding,), pieces_of(b"", 1), None)


def test_the_number_of_content_codings_of_a_response_is_bounded() -> None:
    with pytest.raises(UpstreamFailed, match="too many"):
        Decoding(("gzip",) * 4, pieces_of(b"", 1), None)


@pytest.mark.parametrize("coding", ENCODERS)
async def test_a_decompression_bomb_is_decoded_only_on_demand_and_in_bounded_steps(coding: str) -> None:
    taken = 0
    bomb = ENCODERS[coding](bytes(8 * 1024 * 1024))
    read = pieces_of(bomb, 4096)

    async def counted() -> bytes:
        nonlocal taken
        piece = await read()
        taken += len(piece)
        return piece

    decoding = Decoding((coding,), counted, None)
    for _ in range(10):
        assert 0 < len(await decoding.read()) <= STEP
    assert taken <= 4096


@pytest.mark.parametrize("coding", ENCODERS)
async def test_other_tasks_run_between_the_steps_of_decoding_a_decompression_bomb(coding: str) -> None:
    turns = steps = 0
    decoding = Decoding((coding,), pieces_of(ENCODERS[coding](bytes(8 << 20)), 1 << 20), None)

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = spawn(other(), name="other")
    while await decoding.read():
        steps += 1
    await cancel(task)
    assert steps >= (8 << 20) // STEP
    assert turns >= steps - 1


@pytest.mark.parametrize("coding", ENCODERS)
async def test_a_decoder_charges_the_memory_of_its_buffers_to_the_budget_that_lends_it_bytes(coding: str) -> None:
    with pytest.raises(Busy):
        await Decoding((coding,), pieces_of(ENCODERS[coding](TEXT), 4096), Room(NO_ROOM)).read()

    lender = Counting()
    decoding = Decoding((coding,), pieces_of(ENCODERS[coding](TEXT), 4096), Room(lender))
    await decoding.read()
    assert lender.lent >= 128 * 1024
    decoding.close()
    assert lender.lent == 0


class Counting:
    lent = 0

    def try_grow(self, nbytes: int) -> bool:
        self.lent += nbytes
        return True

    def shrink(self, nbytes: int) -> None:
        self.lent -= nbytes


@pytest.mark.parametrize("bits", range(10, 25))
def test_the_window_size_of_brotli_is_read_from_the_first_byte_of_the_body(bits: int) -> None:
    assert window_of(brotli.compress(NOISE, lgwin=bits)[0]) == 1 << bits
