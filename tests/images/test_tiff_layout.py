"""The layout that the tags of a TIFF declare: every limit, and every value that is refused, by exact tags."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import tiffs
from tiffs import BLACK_0, CMYK, PALETTE, RGB, YCBCR, Layout

from imgclf.core.errors import ImageError
from imgclf.images import decode
from imgclf.images.formats import tiff_layout
from imgclf.images.formats.tiff_layout import check

NONE: tuple[int, ...] = ()
FIELDS = {
    "width": 256, "height": 257, "bits": 258, "compression": 259, "colours": 262, "strips": 273, "orientation": 274,
    "samples": 277, "rows": 278, "sizes": 279, "planar": 284, "predictor": 317, "palette": 320, "tile_width": 322,
    "tile_height": 323, "tiles": 324, "tile_sizes": 325, "inks": 332, "extra": 338, "format": 339, "luma": 529,
    "subsampling": 530, "reference": 532,
}  # fmt: skip
STANDARD = {
    "luma": (299, 1000, 587, 1000, 114, 1000), "subsampling": (1, 1),
    "reference": (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1),
}  # fmt: skip


def tags(**fields: int | tuple[int, ...]) -> tiff_layout.Tags:
    """Tags of 6 x 4 grey pixels of 8 bits in one strip, with these changes; () removes a tag."""
    grey = {"width": 6, "height": 4, "bits": 8, "colours": 1, "strips": 8, "sizes": 24}
    values = {FIELDS[name]: value if isinstance(value, tuple) else (value,) for name, value in {**grey, **fields}.items()}
    return {tag: value for tag, value in values.items() if value}


def layout(**fields: Any) -> tiff_layout.Layout:
    return check(tags(**fields), "<")


def refusal(**fields: Any) -> str:
    with pytest.raises(ImageError) as caught:
        layout(**fields)
    return caught.value.reason


def rgb(**fields: Any) -> dict[str, Any]:
    return {"colours": RGB, "samples": 3, "bits": (8, 8, 8), "sizes": 72, **fields}


def test_what_tags_mean_that_are_missing() -> None:
    """One sample of one bit, uncompressed, in one strip, upright."""
    made = layout(bits=NONE, sizes=NONE)
    assert (made.bits, made.is_float, made.compression, made.samples, made.alpha) == (1, False, 1, 1, 0)
    assert (made.planar, made.tiled, made.tall, made.wide, made.predictor, made.orientation) == (False, False, 4, 6, 1, 1)
    assert made.pieces == ((8, 4),), "four rows of one byte each"
    assert layout(rows=0).tall == 4
    assert layout(rows=(1 << 32) - 1).tall == 4
    assert layout(rows=3, strips=(8, 26), sizes=(18, 6)).pieces == ((8, 18), (26, 6))
    assert not layout(planar=2).planar, "one sample has no planes"
    assert layout(extra=2).alpha == 0, "one sample is no alpha"


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 0}, {"height": 0}, {"width": NONE}, {"height": NONE}, {"colours": RGB}, {"colours": CMYK, "samples": 3},
        {"tile_width": 0, "tile_height": 16}, {"tile_width": 16, "tile_height": 0}, {"tile_width": 16},
        {"strips": NONE}, {"rows": 2}, {"rows": 2, "strips": (8, 20)}, {"rows": 2, "sizes": (12, 12)},
        {"compression": 5, "sizes": NONE}, {"colours": PALETTE}, {"colours": PALETTE, "palette": (0,) * 767},
        {"colours": PALETTE, "palette": (0,) * 769},
    ],
)  # fmt: skip
def test_tags_that_contradict_themselves_are_damaged(fields: dict[str, Any]) -> None:
    assert refusal(**fields) == "damaged"


@pytest.mark.parametrize(
    "fields",
    [
        {"colours": NONE}, {"colours": 8}, {"bits": 17}, {"bits": 24}, {"bits": 32}, {"bits": 0}, {"format": 2}, {"format": 4},
        {"bits": 16, "format": 2}, {"bits": 24, "format": 3}, {"bits": 8, "format": 3},
        rgb(bits=(8, 8, 16)), rgb(format=(1, 1, 3)), rgb(samples=5), {"samples": 3},
        {"colours": CMYK, "samples": 5, "bits": (8,) * 5}, {"colours": PALETTE, "samples": 2, "palette": (0,) * 768},
        {"colours": 0, "samples": 2, "extra": 1}, {"compression": 50_000},
        {"compression": 4}, {"compression": 2, "samples": 2, "bits": (1, 1)}, {"compression": 3, "bits": 2},
        {"compression": 7, "bits": 16}, {"compression": 7, "colours": PALETTE, "palette": (0,) * 768},
        {"compression": 7, "colours": CMYK, "samples": 4},
        {"compression": 7, "colours": CMYK, "samples": 4, "planar": 2, "strips": (8,) * 4, "sizes": (9,) * 4},
        {"compression": 7, "samples": 2},
        {"compression": 7, **rgb(samples=4)}, {"compression": 7, **rgb(colours=YCBCR, planar=2)},
        {"bits": 32, "format": 3, "colours": CMYK, "samples": 4}, {"bits": 32, "format": 3, "colours": PALETTE},
        {"colours": CMYK, "samples": 4, "bits": 16}, {"colours": CMYK, "samples": 4, "inks": 2},
        {"predictor": 2}, {"compression": 32773, "predictor": 2}, {"compression": 5, "predictor": 4},
        {"compression": 5, "predictor": 2, "bits": 4}, {"compression": 5, "predictor": 2, "bits": 12},
        {"compression": 5, "predictor": 3}, {"compression": 8, "predictor": 3, "bits": 16},
    ],
)  # fmt: skip
def test_layouts_that_are_unsupported(fields: dict[str, Any]) -> None:
    assert refusal(**fields) == "unsupported"


def test_layouts_beside_those_that_are_unsupported() -> None:
    for fields in (
        {"bits": 1}, {"bits": 16}, {"bits": 16, "format": 3}, {"bits": 64, "format": 3}, {"compression": 4, "bits": 1},
        {"compression": 7}, {"compression": 7, **rgb()},
        {"compression": 7, **rgb(samples=4, planar=2, strips=(8,) * 4, sizes=(9,) * 4)},
        {"compression": 5, "predictor": 2, "bits": 16}, {"compression": 8, "predictor": 3, "bits": 32, "format": 3},
        {"compression": 32946, "predictor": 2}, {"samples": 2, "extra": 1}, {"colours": 0, "samples": 2, "extra": 2},
        {"colours": CMYK, "samples": 4, "inks": 1}, {"colours": PALETTE, "palette": (0,) * 768},
        {"colours": PALETTE, "bits": 4, "palette": (0,) * 48},
    ):  # fmt: skip
        layout(**fields)
    made = layout(**rgb(bits=(8, 8, 8, 32), format=(1, 1, 1, 3)))
    assert (made.bits, made.is_float) == (8, False), "only as many values as samples count"


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({}, True), ({"luma": NONE, "reference": NONE}, True), ({"subsampling": NONE}, False), ({"subsampling": (2, 1)}, False),
        ({"reference": (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)}, False),
        ({"luma": (2126, 10_000, 7152, 10_000, 722, 10_000)}, False),
        ({"luma": (2989, 10_000, 5871, 10_000, 1140, 10_000)}, True),
        ({"bits": (16, 16, 16)}, False), ({"compression": 7, "subsampling": NONE, "reference": (16, 1) * 6}, True),
    ],
)  # fmt: skip
def test_only_the_usual_ycbcr_is_read_outside_jpeg(fields: dict[str, Any], fits: bool) -> None:
    """The colours of video and high definition have other weights: by those of JFIF they would be wrong."""
    given = {**rgb(colours=YCBCR), **STANDARD, **fields}
    if fits:
        assert layout(**given).photometric == YCBCR
    else:
        assert refusal(**given) == "unsupported"


def test_limits_are_those_that_are_named() -> None:
    """Exactly the limit is accepted, one more is not: pieces, bytes of a row, bytes altogether."""
    most = tiff_layout.MAX_PIECES
    assert most == 1 << 17
    long = {"width": 1, "rows": 1, "strips": (8,) * (most + 1), "sizes": (1,) * (most + 1)}
    assert len(layout(**{**long, "height": most}).pieces) == most
    assert refusal(**{**long, "height": most + 1}) == "unsupported"
    assert layout(width=1 << 24, height=1).row_bytes == tiff_layout.MAX_ROW == 1 << 24
    assert refusal(width=(1 << 24) + 1, height=1) == "too-large"
    assert layout(width=1 << 24, height=64).width == 1 << 24, "64 rows of 16 MiB are 1 GiB"
    assert tiff_layout.MAX_BYTES == 1 << 30
    assert refusal(width=1 << 24, height=65) == "too-large"
    assert refusal(width=1 << 24, height=64, bits=16) == "too-large"
    assert layout(width=(1 << 27) - 7, height=1, bits=1).row_bytes == 1 << 24, "of bits, the last byte is begun"


def test_places_of_tiles_and_planes() -> None:
    made = layout(**rgb(tile_width=4, tile_height=3, planar=2, tiles=tuple(range(12)), tile_sizes=(12,) * 12))
    found = list(made.places())
    assert [place[:3] for place in found[:5]] == [(0, 0, 0), (0, 0, 4), (0, 3, 0), (0, 3, 4), (1, 0, 0)]
    assert [place[3] for place in found] == [(number, 12) for number in range(12)]
    assert (made.depth, made.row_bytes) == (1, 4)
    assert layout(**rgb(bits=(4, 4, 4), width=3)).row_bytes == 5, "nine samples of four bits"
    strips = layout(**rgb(tile_width=6, tile_height=4, strips=8, sizes=72))
    assert strips.pieces == ((8, 72),), "some writers give tiles the tags of strips"
    packed = layout(**rgb(compression=5, tile_width=6, tile_height=4, strips=8, sizes=50))
    assert packed.pieces == ((8, 50),)


# -- directories --------------------------------------------------------------------------------------------------------------


def directory(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A little-endian TIFF of one directory: (tag, type, count, value or offset)."""
    content = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + content + struct.pack("<I", following)


def test_the_first_of_two_entries_of_a_tag_counts() -> None:
    data = directory((256, 4, 1, 6), (256, 4, 1, 600), (257, 3, 1, 4), (257, 99, 1, 7), (262, 3, 0, 0), (9999, 4, 1, 5))
    assert tiff_layout.read_tags(io.BytesIO(data)) == {256: (6,), 257: (4,)}


def test_values_that_are_in_the_entry_or_elsewhere() -> None:
    data = directory((258, 3, 2, 8 | 16 << 16), (273, 3, 3, 26 + 12 + 4), (529, 5, 1, 42)) + struct.pack("<3H", 7, 8, 9)
    data = data.replace(struct.pack("<I", 42), struct.pack("<I", 8 + 2 + 36 + 4)) + bytes(2)
    assert tiff_layout.read_tags(io.BytesIO(data))[258] == (8, 16)
    assert tiff_layout.read_tags(io.BytesIO(data))[273] == (7, 8, 9)


def test_a_tag_of_too_many_values_is_unsupported_before_they_are_read() -> None:
    most = tiff_layout.MAX_VALUES
    assert most == 1 << 18
    for count, reason in ((most, "damaged"), (most + 1, "unsupported"), ((1 << 32) - 1, "unsupported")):
        with pytest.raises(ImageError) as caught:
            tiff_layout.read_tags(io.BytesIO(directory((273, 4, count, 100))))
        assert caught.value.reason == reason, count
    whole = directory((320, 3, most, 8 + 2 + 12 + 4)) + b"\1\0" * most
    assert tiff_layout.read_tags(io.BytesIO(whole))[320] == (1,) * most


def test_where_the_next_directory_is() -> None:
    data = directory((256, 4, 1, 6), following=1234)
    start = tiff_layout.read_start(io.BytesIO(data))
    assert start == tiff_layout.Start("<", False, 8)
    assert tiff_layout.read_directory(io.BytesIO(data), start, 8, {256}) == ({256: (6,)}, 1234)
    assert tiff_layout.read_directory(io.BytesIO(data[:-1]), start, 8, {256}) == ({256: (6,)}, 0)
    assert tiff_layout.read_directory(io.BytesIO(data), start, 8, {257}) == ({}, 1234)
    for cut in (7, 4):
        with pytest.raises(ImageError, match="damaged or truncated TIFF"):
            tiff_layout.read_start(io.BytesIO(data[:cut]))


def test_offsets_of_more_than_32_bits_are_read() -> None:
    """Only those of strips and tiles may be so large."""
    big = Layout("u8", BLACK_0, big=True)
    values = np.zeros((8, 8, 1), np.uint8)
    far = tiffs.written(big, values, {273: (16, ((1 << 40) + 8, 9))})
    assert tiff_layout.read_tags(io.BytesIO(far))[273] == ((1 << 40) + 8, 9)
    for value, fits in (((1 << 32) - 1, True), (1 << 32, False)):
        data = tiffs.written(big, values, {274: (16, (value,))})
        if fits:
            assert tiff_layout.read_tags(io.BytesIO(data))[274] == (value,)
        else:
            with pytest.raises(ImageError, match="damaged"):
                tiff_layout.read_tags(io.BytesIO(data))


def test_an_uncompressed_tiff_without_sizes_of_its_strips_is_decoded() -> None:
    values = tiffs.samples(Layout("u8", BLACK_0), 1)
    data = tiffs.written(Layout("u8", BLACK_0, rows=1000), values, {279: (4, NONE)})
    np.testing.assert_array_equal(decode.decode(data), tiffs.expected(Layout("u8", BLACK_0), values))
