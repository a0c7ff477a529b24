"""Test byte-based TIFF compressions against the encoders of Pillow and zlib, and at the limits of tables and blocks."""

import io
import random
import zlib

import numpy as np
import pytest
from PIL import Image

from imgclf.images.formats import unpacking


def packed(content: bytes, compression: str) -> bytes:
    """Return the strip of a grey TIFF of one row, as libtiff compresses it."""
    buffer = io.BytesIO()
    pixels = np.frombuffer(content, np.uint8)[None]
    Image.fromarray(pixels).save(buffer, "TIFF", compression=compression)
    image = Image.open(io.BytesIO(buffer.getvalue()))
    start, count = image.tag_v2[273][0], image.tag_v2[279][0]  # type: ignore[attr-defined]
    return buffer.getvalue()[start : start + count]


def unpacked(compression: int, piece: bytes, size: int) -> bytes:
    return b"".join(map(bytes, unpacking.CODECS[compression](memoryview(piece), size)))


def contents() -> list[bytes]:
    chance = random.Random(0)
    noise = chance.randbytes(70_000)
    runs = b"".join(bytes([chance.randrange(256)]) * chance.randrange(1, 300) for _run in range(600))
    return [b"x", b"ab" * 3, bytes(1000), noise, runs, noise[:5000] + bytes(200_000) + noise[:5000], bytes(range(256)) * 40]


@pytest.mark.parametrize(("compression", "name"), [(5, "tiff_lzw"), (8, "tiff_adobe_deflate"), (32773, "packbits")])
def test_data_compressed_by_libtiff_is_unpacked(compression: int, name: str) -> None:
    for content in contents():
        piece = packed(content, name)
        assert unpacked(compression, piece, len(content)) == content
        for size in (1, len(content) // 2):
            assert unpacked(compression, piece, size) == content[:size], "no more than the requested size"
        rows = b"".join(map(bytes, unpacking.blocks(compression, memoryview(piece), len(content), 1)))
        assert rows == content


def test_packbits_runs() -> None:
    """Test the example of TIFF 6.0. A count of 128 has no effect, and a truncated literal run is an error."""
    example = bytes([0xFE, 0xAA, 0x02, 0x80, 0x00, 0x2A, 0xFD, 0xAA, 0x03, 0x80, 0x00, 0x2A, 0x22, 0xF7, 0xAA])
    expected = bytes.fromhex("AA AA AA 80 00 2A AA AA AA AA 80 00 2A 22 AA AA AA AA AA AA AA AA AA AA")
    assert unpacked(32773, example, 99) == expected
    assert unpacked(32773, b"\x80" + example[:2] + b"\x80\x80" + example[2:], 99) == expected
    assert unpacked(32773, bytes([127]) + bytes(range(128)), 200) == bytes(range(128))
    assert unpacked(32773, bytes([129, 7]), 200) == b"\x07" * 128
    assert unpacked(32773, example + b"\xfe", 99) == expected, "a count without a byte is ignored"
    with pytest.raises(ValueError, match="a run is longer than the data"):
        unpacked(32773, b"\x02ab", 99)


def test_lzw_codes() -> None:
    """Codes have 9 bits. 256 clears the table, 257 ends the data, and a code may be the one that is being added."""

    def written(*codes: int) -> bytes:
        bits = "".join(f"{code:09b}" for code in codes)
        return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")

    assert unpacked(5, written(256, 65, 258, 66, 257), 99) == b"AAAB"
    assert unpacked(5, written(256, 65, 256, 66, 257, 67), 99) == b"AB"
    assert unpacked(5, written(256, 65, 66, 258, 259), 99) == b"ABABBA"
    assert unpacked(5, written(256, 257), 99) == b""
    for codes in ((256, 300), (256, 65, 259), (256, 65, 66, 260)):
        with pytest.raises(ValueError, match="a code that is not in the table yet"):
            unpacked(5, written(*codes), 99)


def test_deflate_is_read_to_its_checksum() -> None:
    content = random.Random(1).randbytes(200_000)
    piece = zlib.compress(content)
    assert unpacked(8, piece, len(content)) == content
    assert unpacked(32946, piece, len(content)) == content
    broken = piece[:-1] + bytes([piece[-1] ^ 1])
    with pytest.raises(ValueError, match="cannot be inflated"):
        unpacked(8, broken, len(content))
    assert unpacked(8, zlib.compress(content + b"more"), len(content)) == content
    assert len(unpacked(8, piece[:1000], len(content))) < len(content)


def test_blocks_have_whole_rows_and_none_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "BLOCK", 50)
    content = random.Random(2).randbytes(300)
    for compression, piece in ((1, content), (8, zlib.compress(content))):
        found = [bytes(block) for block in unpacking.blocks(compression, memoryview(piece), 30, 10)]
        assert b"".join(found) == content
        assert all(len(block) % 30 == 0 for block in found)
        assert len(found) > 3
    assert [len(part) for part in unpacking.CODECS[1](memoryview(content), 120)] == [50, 50, 20]
    for piece in (content[:299], content[:0]):
        with pytest.raises(ValueError, match="rows are missing"):
            list(unpacking.blocks(1, memoryview(piece), 30, 10))
