"""Sizes and limits in headers: nothing is decoded."""

import os
import struct
from pathlib import Path

import pytest
from conftest import encoded, photo, png_chunk, write

from imgclf.core.errors import ImageError
from imgclf.images import header


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def frame(width: int, height: int) -> bytes:
    """The frame header of a grey JPEG."""
    return segment(0xC0, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")


def png_of(width: int, height: int) -> bytes:
    """The first bytes of a PNG with this size in its header."""
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def test_the_limit_of_pixels() -> None:
    """16,384 x 8,192 are 2^27, which is the limit; one row more is refused. No size is damaged."""
    assert header.header(png_of(16_384, 8192)) == header.Header("PNG", 16_384, 8192)
    for width, height in ((16_384, 8193), (1 << 27, 2), (1, (1 << 27) + 1)):
        with pytest.raises(ImageError, match=f"{width} x {height} pixels, more than the limit of 134 megapixels"):
            header.header(png_of(width, height))
    for width, height in ((0, 40), (40, 0), (0, 0)):
        with pytest.raises(ImageError, match="damaged PNG: its header has no valid size"):
            header.header(png_of(width, height))


def test_a_jpeg_whose_header_comes_after_megabytes_of_metadata(tmp_path: Path) -> None:
    """64 kB are read at first, then 16 MiB more; cameras write previews of megabytes before the size."""
    whole = encoded(photo(1), "JPEG")
    for count, found in ((0, True), (1, True), (2, True), (200, True), (260, False)):
        path = write(tmp_path / "x.jpg", whole[:2] + segment(0xE1, bytes(65_533)) * count + whole[2:])
        if found:
            assert header.read_header(path) == header.header(path.read_bytes()) == header.Header("JPEG", 60, 40)
        else:
            with pytest.raises(ImageError, match="damaged JPEG: its header has no valid size"):
                header.read_header(path)


def test_a_jpeg_without_a_size() -> None:
    for content in (b"\xff\xd8\xff\xe0\0\2", b"\xff\xd8" + frame(0, 40), b"\xff\xd8" + frame(60, 0)):
        with pytest.raises(ImageError, match="damaged JPEG: its header has no valid size"):
            header.header(content)


def test_the_size_of_an_avif_is_the_largest_of_its_images() -> None:
    """A thumbnail comes first or last; a wide image has more pixels than a high one."""

    def avif(*sizes: tuple[int, int]) -> bytes:
        boxes = b"".join(b"\0\0\0\x14ispe" + struct.pack(">III", 0, *size) for size in sizes)
        return b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + boxes

    for sizes in (((60, 40),), ((30, 20), (60, 40)), ((60, 40), (30, 20)), ((10, 100), (60, 40), (100, 10))):
        assert header.header(avif(*sizes)) == header.Header("AVIF", 60, 40)
    with pytest.raises(ImageError, match="damaged AVIF: its header cannot be read"):
        header.header(avif())


def test_the_size_of_a_jpeg_2000_is_without_its_offset() -> None:
    data = bytearray(encoded(photo(1), "JPEG2000", no_jp2=True))
    assert struct.unpack_from(">4I", data, 8) == (60, 40, 0, 0)
    struct.pack_into(">4I", data, 8, 67, 45, 7, 5)
    assert header.header(bytes(data)) == header.Header("JPEG 2000", 60, 40)


def test_an_extension_of_a_camera_counts_in_capitals_too(tmp_path: Path) -> None:
    plain = encoded(photo(1), "TIFF")
    for ending in (".nef", ".NEF", ".Dng"):
        with pytest.raises(ImageError, match="a camera RAW image"):
            header.header(plain, ending)
        with pytest.raises(ImageError, match="a camera RAW image"):
            header.read_header(write(tmp_path / f"x{ending}", plain))
    assert header.header(encoded(photo(1), "PNG"), ".nef").format == "PNG", "only a TIFF may be one"


def test_a_link_that_leads_back_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    with pytest.raises(ImageError, match="a loop of symbolic links") as caught:
        header.read_header(tmp_path / "a.jpg")
    assert caught.value.reason == "missing"
    os.symlink(tmp_path / "none.jpg", tmp_path / "c.jpg")
    with pytest.raises(ImageError, match="no such file"):
        header.read_header(tmp_path / "c.jpg")
