"""Test headers against the published layouts: signatures, endings, JPEG segments, declared depths and scaling."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from conftest import encoded, photo, png_chunk
from PIL import Image

from imgclf.core.errors import ImageError
from imgclf.images import decode
from imgclf.images.formats import declared, filetypes, jpeg, scaling

SIGNATURES: dict[str, tuple[tuple[int, bytes], ...]] = {
    "JPEG XL": ((0, b"\xff\x0a"), (0, b"\0\0\0\x0cJXL ")),
    "JPEG XR": ((0, b"II\xbc\x01"),),
    "DICOM": ((128, b"DICM"),),
    "PSD": ((0, b"8BPS\0"),),
    "XCF": ((0, b"gimp xcf "),),
    "EXR": ((0, b"\x76\x2f\x31\x01"),),
    "HDR": ((0, b"#?RADIANCE"), (0, b"#?RGBE")),
    "PFM": ((0, b"PF\n"), (0, b"Pf\n")),
    "FITS": ((0, b"SIMPLE  ="),),
    "EPS": ((0, b"%!PS"), (0, b"\xc5\xd0\xd3\xc6")),
    "EMF": ((0, b"\xd7\xcd\xc6\x9a"), (40, b" EMF")),
    "Sun raster": ((0, b"\x59\xa6\x6a\x95"),),
    "DDS": ((0, b"DDS "),),
    "QOI": ((0, b"qoif"),),
    "PAM": ((0, b"P7\n"),),
    "BPG": ((0, b"BPG\xfb"),),
    "FLIF": ((0, b"FLIF"),),
    "DjVu": ((0, b"AT&TFORM"),),
    "SGI": ((0, b"\x01\xda\0\1"), (0, b"\x01\xda\1\1"), (0, b"\x01\xda\1\2")),
}
RAW_SIGNATURES = {
    "CR2": ((8, b"CR\x02"),), "CR3": ((4, b"ftypcrx "),), "CRW": ((6, b"HEAPCCDR"),), "RW2": ((0, b"IIU\0"),),
    "ORF": ((0, b"IIRO"), (0, b"IIRS"), (0, b"MMOR")), "RAF": ((0, b"FUJIFILMCCD-RAW"),), "MRW": ((0, b"\0MRM"),),
    "X3F": ((0, b"FOVb"),), "IIQ": ((8, b"IIIITMMR"), (8, b"IIIICwaR")), "ARI": ((0, b"ARRI\x12\x34\x56\x78"),),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "place"), [(kind, place) for kind, places in SIGNATURES.items() for place in places])
def test_every_byte_of_a_signature_counts(kind: str, place: tuple[int, bytes]) -> None:
    offset, magic = place
    head = bytes([7] * offset) + magic + bytes([7] * 40)
    assert filetypes.other(head) == kind
    assert filetypes.refusal(head) == ("unsupported", filetypes.OTHERS[kind].refusal())
    assert filetypes.is_image(head, "")
    for changed in range(offset, offset + len(magic)):
        broken = bytearray(head)
        broken[changed] ^= 0x40
        assert filetypes.other(bytes(broken)) != kind
    assert filetypes.other(b"\x07" + head) != kind


@pytest.mark.parametrize(("kind", "place"), [(kind, place) for kind, places in RAW_SIGNATURES.items() for place in places])
def test_every_byte_of_a_camera_signature_counts(kind: str, place: tuple[int, bytes]) -> None:
    offset, magic = place
    head = bytes([7] * offset) + magic + bytes([7] * 40)
    assert filetypes.refusal(head) == ("unsupported", filetypes.raw_refusal(kind))
    for changed in range(offset, offset + len(magic)):
        broken = bytearray(head)
        broken[changed] ^= 0x40
        assert filetypes.raw_refusal(kind) not in filetypes.refusal(bytes(broken))


def test_formats_without_a_signature_need_their_ending() -> None:
    targa = bytes([0, 0, 2]) + bytes(13) + bytes([24, 0])
    assert {filetypes.other(targa, ending) for ending in (".tga", ".icb", ".vda", ".vst")} == {"Targa"}
    assert {filetypes.other(targa, ending) for ending in (".png", "")} == {None}
    for place, value in ((1, 2), (2, 4), (16, 12)):
        assert filetypes.other(bytes([*targa[:place], value, *targa[place + 1 :]]), ".tga") is None
    assert filetypes.other(targa[:17], ".tga") is None
    for head in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):
        assert filetypes.other(head + bytes(40), ".nii") == "NIfTI"
        assert filetypes.other(head + bytes(40), ".png") is None
        assert filetypes.refusal(head + bytes(40), ".nii")[1].startswith("a NIfTI volume, which imgclf does not read")
    assert filetypes.other(b"<?xml version='1.0'?><g/>", ".svg") == "SVG"
    assert filetypes.other(b"<?xml version='1.0'?><g/>", ".xml") is None
    assert filetypes.other(b"\n\5\1\x08" + bytes(60)) == "PCX"
    for broken in (b"\n\5\1", b"\n\1\1\x08", b"\n\5\2\x08", b"\n\5\1\3", b"\r\5\1\x08"):
        assert filetypes.other(broken + bytes(0 if len(broken) == 3 else 60)) is None
    for kind in (1, 2):
        for count, expected in ((0, None), (1, "ICO"), (255, "ICO"), (256, None)):
            assert filetypes.other(struct.pack("<HHH4B", 0, kind, count, 16, 16, 0, 0)) == expected
    assert filetypes.other(struct.pack("<HHH4B", 0, 1, 1, 16, 16, 0, 1)) is None


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"  <!DOCTYPE html><p>", "not an image but an HTML page"), (b"<HTML>", "not an image but an HTML page"),
        (b"<head>", "not an image but an HTML page"), (b"%PDF-1.7", "not an image but a PDF; export its pages as PNG"),
        (b"PK\x03\x04", "not an image but a ZIP archive"), (b"\0\0\0\x18ftypisom", "not an image but a video (isom)"),
        (b"\0\0\0\x18ftypqt  ", "not an image but a video (qt)"), (b"hello", "not an image"), (b"", "not an image"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_named(head: bytes, words: str) -> None:
    reason, message = filetypes.refusal(head)
    assert reason == "not-an-image"
    assert message == words or message.startswith(f"{words},")
    assert not filetypes.is_image(head, "")


def test_endings_include_those_of_pillow() -> None:
    names = {"JPEG": "JPEG", "PNG": "PNG", "GIF": "GIF", "BMP": "BMP", "DIB": "BMP", "WEBP": "WEBP", "TIFF": "TIFF",
             "AVIF": "AVIF", "JPEG2000": "JPEG 2000", "MPO": "JPEG"}  # fmt: skip
    others = {"PSD": "PSD", "DDS": "DDS", "SGI": "SGI", "TGA": "Targa", "PCX": "PCX", "ICO": "ICO", "CUR": "ICO", "EPS": "EPS",
              "FITS": "FITS", "WMF": "EMF", "QOI": "QOI"}  # fmt: skip
    Image.init()
    known = {ending: kind for ending, kind in Image.registered_extensions().items() if kind in names}
    assert len(known) > 15
    assert [ending for ending, kind in known.items() if not filetypes.is_valid_extension(ending.upper(), names[kind])] == []
    foreign = {ending: kind for ending, kind in Image.registered_extensions().items() if kind in others}
    missing = [ending for ending, kind in foreign.items() if ending not in filetypes.OTHERS[others[kind]].extensions]
    assert set(missing) <= {".rgba"}
    assert {ending for ending in (".ppm", ".pgm", ".pbm", ".pnm") if not filetypes.is_valid_extension(ending, "PNM")} == set()
    cameras = ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl"
    endings = {*foreign, *cameras.split(), ".sr2", ".srw", ".x3f"} - {".rgba"}
    assert [ending for ending in endings if not filetypes.is_unsupported_extension(ending.upper())] == []
    assert not filetypes.is_unsupported_extension(".heic")
    assert [filetypes.FORMATS[kind][0] for kind in ("JPEG", "TIFF", "PNM")] == [".jpg", ".tif", ".ppm"]
    cut = {"a/x.png": "a/x", "a/x.HEIC": "a/x", "a/x 1.5 m": "a/x 1.5 m", "a/.png": "a/.png", "IMG.2021": "IMG.2021"}
    assert {path: filetypes.without_image_extension(path) for path in cut} == cut


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff", "JPEG"), (b"\xff\xd8\xfe", None), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"), (b"GIF88a", None),
        (b"BM\1\2\3\4\0\0\0\0", "BMP"), (b"BM\1\2\3\4\0\0\0\1", None), (b"RIFF\1\2\3\4WEBP", "WEBP"),
        (b"RIFF\1\2\3\4WAVE", None), (b"XIFF\1\2\3\4WEBP", None), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"),
        (b"MM\0+", "TIFF"), (b"II\0*", None), (b"MM*\0", None),
        (b"\0\0\0\x18ftypavif", "AVIF"), (b"\0\0\0\x18ftypavis", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"), (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", None),
        (b"\0\0\0\x0cjP  ", "JPEG 2000"), (b"\xff\x4f\xff\x51", "JPEG 2000"), (b"\xff\x4f\xff\x52", None),
        *((f"P{number} 1".encode(), "PNM") for number in range(1, 7)), (b"P7 1", None), (b"P0 1", None), (b"P5x1", None),
        (b"P5", None), (b"P5#", None), (b"P5\t", "PNM"), (b"", None),
    ],
)  # fmt: skip
def test_the_format_by_the_first_bytes(head: bytes, kind: str | None) -> None:
    assert filetypes.sniff(head) == kind
    assert filetypes.sniff(head.ljust(32, b"\x07") if len(head) > 2 else head) == kind


@pytest.mark.parametrize(
    "brand", [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"]
)
def test_brands_of_heic(brand: bytes) -> None:
    head = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0"
    assert filetypes.other(head) == "HEIC"
    assert filetypes.refusal(head)[0] == "unsupported"
    assert filetypes.refusal(head.replace(brand, b"isom")) == ("not-an-image", "not an image but a video (isom)")


def test_icons_and_pcx_by_all_bytes_that_count() -> None:
    icon, pcx = b"\0\0\1\0\2\0\x10\x10\0\0", b"\n\5\1\x08"
    for head in (icon, b"\0\0\2\0" + icon[4:], icon[:4] + b"\xff\0" + icon[6:]):
        assert filetypes.other(head) == "ICO"
    for place, value in ((2, 3), (3, 1), (4, 0), (5, 1), (9, 1)):
        assert filetypes.other(bytes([*icon[:place], value, *icon[place + 1 :]])) is None
    assert [filetypes.other(bytes([10, version, 1, 8])) for version in range(7)] == ["PCX", None, *["PCX"] * 4, None]
    assert [bits for bits in range(10) if filetypes.other(bytes([10, 5, 1, bits])) == "PCX"] == [1, 2, 4, 8]
    assert filetypes.other(b"\n\5\0\x08") is None
    assert filetypes.other(pcx[:3]) is None


@pytest.mark.parametrize(
    ("text", "ending", "expected"),
    [
        (b"<svg>", "", "SVG"), (b"<!DOCTYPE svg [", ".svg", "SVG"), (b"<!doctype svg><svg>", "", "SVG"),
        (b"<?xml?><SVG>", "", "SVG"),
        (b"<?xml?><g>", "", None), (b"<?xml?><g>", ".xml", None), (b"<?xml?><g>", ".svg", "SVG"),
        (b"<html><svg>", ".svg", None),
    ],
)  # fmt: skip
def test_vector_images(text: bytes, ending: str, expected: str | None) -> None:
    assert filetypes.other(text, ending) == expected


# -- JPEG ---------------------------------------------------------------------------------------------------------------------


def segment(marker: int, content: bytes, length: int | None = None) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2 if length is None else length) + content


def frame(marker: int = 0xC0, width: int = 16, height: int = 16, factors: tuple[int, ...] = (0x11,), **options: Any) -> bytes:
    parts = b"".join(bytes([number, factor, 0]) for number, factor in enumerate(factors, 1))
    return segment(marker, struct.pack(">BHHB", 8, height, width, len(factors)) + parts, **options)


def scan(*names: int, first: int = 0, last: int = 63, bits: int = 0, data: bytes = b"\x12\x34", **options: Any) -> bytes:
    inner = bytes([len(names), *(value for name in names for value in (name, 0)), first, last, bits])
    return segment(0xDA, inner, **options) + data


def interval(units: int) -> bytes:
    return segment(0xDD, struct.pack(">H", units))


RESTARTS = b"\x12\xff\xd0\x34\xff\xd1\x56\xff\xd2\x78"  # three markers, four intervals


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (frame() + scan(1), True),
        (frame(0xC1) + scan(1), True),
        (frame(0xC3) + scan(1), False),
        (frame(), False),
        (scan(1), False),
        (frame(factors=(0x11,) * 4) + scan(1, 2, 3, 4), True),
        (frame(factors=(0x11,) * 5) + scan(1, 2, 3, 4, 5), False),
        (frame(factors=(0x11, 0x11)) + scan(1), False),
        (frame(factors=(0x11, 0x11)) + scan(1) + scan(2), True),
        (frame(length=10) + scan(1), False),
        (frame() + scan(1, length=9), False),
        (frame() + scan(1, last=64), False),
        (frame() + scan(1, first=2, last=1), False),
        (frame() + scan(1, first=1, last=1), True),
        (frame() + scan(1) * 500, True),
        (frame() + scan(1) * 501, False),
        (frame() + b"\x00\x00\x00\x00", False),
        (segment(0xE0, b"x" * 9) + segment(0xFE, b"") + frame() + scan(1), True),
        (b"\xff\xbf\0\2" + frame() + scan(1), False),
        (frame(0xC2) + scan(1), True),
        (frame(0xC2) + scan(1, bits=1), False),
        (frame(0xC2) + scan(1, bits=1) + scan(1, bits=0x10), True),
        (frame(0xC2) + scan(1, first=0, last=0) + scan(1, first=1, last=62), False),
        (frame(0xC2) + scan(1, first=0, last=0) + scan(1, first=1, last=63), True),
        (frame(0xC2) + interval(4) + scan(1), False),
        (frame() + interval(1) + scan(1, data=RESTARTS), True),  # 16 x 16 pixels are four units
        (frame() + interval(2) + scan(1, data=RESTARTS), False),
        (frame(width=17) + interval(1) + scan(1, data=RESTARTS), False),
        (frame(width=24) + interval(2) + scan(1, data=RESTARTS[:4]), False),
        (frame(width=24) + interval(2) + scan(1, data=RESTARTS[:7]), True),
        (frame(factors=(0x22, 0x11)) + interval(1) + scan(1, 2, data=b"\x12"), True),  # one unit of 16 x 16
        (frame(factors=(0x21, 0x11)) + interval(1) + scan(1, 2, data=b"\x12\xff\xd0\x34"), True),
        (frame(factors=(0x12, 0x11)) + interval(1) + scan(1, 2, data=b"\x12\xff\xd0\x34"), True),
        (frame(factors=(0x22,)) + interval(1) + scan(1, data=RESTARTS), True),  # factors have no effect on a single component
        (frame(factors=(0x11, 0x11)) + interval(1) + scan(1, data=RESTARTS) + scan(2, data=RESTARTS), False),
    ],
)
def test_missing_scans_of_a_jpeg_are_found(content: bytes, expected: bool) -> None:
    assert jpeg.jpeg_reaches_last_scan(b"\xff\xd8" + content) == expected


def test_the_frame_of_a_jpeg() -> None:
    """The frame header may follow padding, markers without content and segments, but not a start or end marker."""
    before = b"\xff\xe0\0\3x" + b"\xff\x01" + b"\xff\xd3" + b"\xff\xff\xff\xfe\0\2" + b"junk"
    for marker in (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xCF):
        data = b"\xff\xd8" + before + frame(marker, width=300, height=513)
        assert jpeg.jpeg_frame(data) == (marker, 300, 513)
        assert jpeg.jpeg_size(data) == (300, 513)
        assert jpeg.jpeg_frame(data[: data.index(struct.pack(">HH", 513, 300)) + 3]) is None
    tables = segment(0xC4, b"x") + segment(0xC8, b"x") + segment(0xCC, b"x")
    assert jpeg.jpeg_frame(b"\xff\xd8" + tables + frame()) == (0xC0, 16, 16)
    for stop in (b"\xff\xd8", b"\xff\xd9"):
        assert jpeg.jpeg_size(b"\xff\xd8" + stop + frame()) is None
    assert jpeg.jpeg_size(b"\xff\xd8\xff\xe0\0") is None
    most = b"\xff\x01" * (jpeg.MAX_SEGMENTS - 1)
    assert jpeg.jpeg_size(b"\xff\xd8" + most + frame()) == (16, 16)
    assert jpeg.jpeg_size(b"\xff\xd8" + most + b"\xff\x01" + frame()) is None


def test_the_end_of_a_jpeg() -> None:
    end = b"\xff\xd9"
    body = b"\xff\xd8" + segment(0xE0, end) + b"\xff\xff" + b"\xff\x01" + frame() + scan(1, data=b"\x12\xff\0\xff\xd3\x34")
    assert jpeg.jpeg_end(body + end) == len(body) + 2
    assert jpeg.jpeg_end(body + end + b"more" + end) == len(body) + 2
    two = body + segment(0xDD, b"\0\0") + scan(1)
    assert jpeg.jpeg_end(two + end + b"x") == len(two) + 2
    assert jpeg.jpeg_end(body + b"x") is None
    assert jpeg.jpeg_end(b"\xff\xd8" + segment(0xE0, end) + b"x" + end + b"x") is None
    assert jpeg.jpeg_end(b"\xff\xd8" + end) == 4


# -- declared depths ----------------------------------------------------------------------------------------------------------


def png(kind: int, *chunks: bytes) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + png_chunk(b"IDAT", b"xx")


@pytest.mark.parametrize(
    ("kind", "bits", "expected"),
    [
        (0, (12,), (12,)), (2, (10, 11, 12), (10, 11, 12)), (4, (12, 9), (12, 12, 12, 9)), (6, (1, 2, 3, 16), (1, 2, 3, 16)),
        (0, (12, 12), ()), (2, (12,), ()), (3, (8, 8, 8), ()), (0, (0,), ()), (0, (17,), ()), (0, (16,), (16,)), (0, (), ()),
    ],
)  # fmt: skip
def test_significant_bits_of_a_png(kind: int, bits: tuple[int, ...], expected: tuple[int, ...]) -> None:
    chunk = png_chunk(b"sBIT", bytes(bits))
    assert declared.png_significant_bits(png(kind, chunk)) == expected
    assert declared.png_significant_bits(png(kind, png_chunk(b"tEXt", b"a\0b"), chunk)) == expected
    assert declared.png_significant_bits(png(kind) + chunk) == (), "a chunk after the pixels has no effect"


def test_the_transparent_grey_level_of_a_png() -> None:
    assert declared.png_transparent_grey(png(0, png_chunk(b"tRNS", b"\x12\x34"))) == 0x1234
    assert declared.png_transparent_grey(png(0, png_chunk(b"tRNS", b"\x12\x34\x56"))) == 0x1234
    assert declared.png_transparent_grey(png(0, png_chunk(b"tRNS", b"\x12"))) is None
    assert declared.png_transparent_grey(png(2, png_chunk(b"tRNS", b"\x12\x34"))) is None
    assert declared.png_transparent_grey(png(0)) is None


@pytest.mark.parametrize(("flags", "depth"), [(0x00, 8), (0x40, 10), (0x60, 12), (0x20, 8), (0x9F, 8), (0xDF, 10)])
def test_the_depth_of_an_avif(flags: int, depth: int) -> None:
    assert declared.avif_depth(b"0000ftypavif" + b"av1C\x81\x04" + bytes([flags, 0])) == depth
    assert declared.avif_depth(b"av1C\x81\x04" + bytes([flags])) == depth
    assert declared.avif_depth(b"av1C\x81\x04") == declared.avif_depth(b"0" * 20) == 8


def bitmap(head: int, bits: int, packed: int, *masks: int) -> bytes:
    inner = struct.pack("<IiiHHIIiiII", head, 4, 4, 1, bits, packed, 0, 0, 0, 0, 0)
    return b"BM" + bytes(12) + inner + struct.pack(f"<{len(masks)}I", *masks)


RGB = (0xFF0000, 0xFF00, 0xFF)


@pytest.mark.parametrize(
    ("content", "depths", "has_alpha"),
    [
        (bitmap(12, 24, 0), (8, 8, 8), False),
        (bitmap(40, 24, 0), (8, 8, 8), False),
        (bitmap(40, 16, 0), (5, 5, 5), False),
        (bitmap(40, 32, 0, *RGB, 0xFF000000), (8, 8, 8), False),
        (bitmap(40, 16, 3, 0xF800, 0x7E0, 0x1F, 0), (5, 6, 5), False),
        (bitmap(40, 16, 3, 0x7C00, 0x3E0, 0x1F, 0), (5, 5, 5), False),
        (bitmap(40, 16, 3, 0x7C00, 0x3E0, 0x1E, 0), (), False),
        (bitmap(40, 32, 3, *RGB, 0xFF000000), (8, 8, 8), False),
        (bitmap(40, 32, 6, *RGB, 0xFF000000), (8, 8, 8), True),
        (bitmap(56, 32, 3, *RGB, 0xFF000000), (8, 8, 8), True),
        (bitmap(108, 32, 3, *RGB, 0), (8, 8, 8), False),
        (bitmap(124, 32, 3, *RGB, 0xFF), (8, 8, 8), True),
        (bitmap(124, 32, 3, *RGB[::-1], 0xFF000000), (), True),
        (bitmap(124, 16, 3, 0xF800, 0x7E0, 0x1F, 0x8000), (5, 6, 5), False),
    ],
)
def test_colour_masks_of_a_bmp(content: bytes, depths: tuple[int, ...], has_alpha: bool) -> None:
    assert declared.bmp(content) == declared.Bmp(depths, has_alpha)


def test_components_of_a_jpeg_2000() -> None:
    """Files of Pillow, and files with a changed field in the SIZ segment."""
    for mode, count, has_alpha in (("L", 1, False), ("RGB", 3, False), ("RGBA", 4, True)):
        found = declared.jpeg_2000(encoded(photo(1, 16, 16).convert(mode), "JPEG2000"))
        assert found == declared.Jpeg2000(count, 8, has_alpha, True)
    deep = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 256)
    assert declared.jpeg_2000(encoded(deep, "JPEG2000")).bits == 16
    plain = encoded(photo(1, 16, 16), "JPEG2000", no_jp2=True)
    start = plain.index(b"\xff\x4f\xff\x51")
    assert declared.jpeg_2000(plain) == declared.Jpeg2000(3, 8, False, True)
    odd = {42: 0x87, 43: 2, 44: 2, 45: 11, 19: 1, 23: 1, 35: 1, 39: 1}  # sign, sampling, another depth, an offset
    for place, value in {**odd, 11: 9}.items():
        changed = bytearray(plain)
        changed[start + place] = value
        assert declared.jpeg_2000(bytes(changed)).bits == (0 if place in odd else 8), place


def test_colours_of_a_jpeg_2000() -> None:
    """Grey and RGB by number, any by an ICC profile; no palette; a fourth band is alpha if its channel is one."""
    data = encoded(photo(1, 16, 16).convert("RGBA"), "JPEG2000")
    colour, channels, start = data.index(b"colr"), data.index(b"cdef"), data.index(b"\xff\x4f\xff\x51")

    def changed(place: int, value: int) -> declared.Jpeg2000:
        return declared.jpeg_2000(bytes([*data[:place], value, *data[place + 1 :]]))

    assert (data[colour + 4], data[colour + 10]) == (1, 16)
    assert [number for number in range(256) if changed(colour + 10, number).is_plain] == [16, 17]
    assert changed(colour + 4, 2).is_plain, "an ICC profile"
    assert not declared.jpeg_2000(data[:start] + b"\0\0\0\x08pclr" + data[start:]).is_plain
    assert data[channels + 24 : channels + 30] == b"\0\3\0\1\0\0"
    for place in (25, 27):
        assert not changed(channels + place, 2).has_alpha
    assert not declared.jpeg_2000(data[:channels] + b"cdeg" + data[channels + 4 :]).has_alpha


# -- scaling ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [1, 2, 3, 15, 100, 254, 255, 256, 1023, 4095, 65534, 65535])
def test_samples_are_scaled_by_the_declared_depth_and_rounded(full: int) -> None:
    """Values are rounded to the nearest of 256 levels. A half may be rounded up or down."""
    for kind in (np.uint8, np.uint16):
        most = int(np.iinfo(kind).max)
        values = np.arange(most + 1).astype(kind).reshape(-1, 16)
        found = scaling.to_uint8(values, full)
        assert (found.dtype, found.shape) == (np.uint8, values.shape)
        exact = np.minimum(values.astype(np.float64) * 255 / full, 255)
        assert np.abs(found - exact).max() <= 0.5 + 1e-9
        assert found.ravel()[0] == 0
        assert found.ravel()[min(full, most)] == round(min(full, most) * 255 / full)
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert scaling.to_uint8(eight, 255) is eight


def test_floats_are_black_at_0_and_white_at_1() -> None:
    values = np.array([[-0.25, 0.0, 0.25], [0.5, 1.0, 1.25]], np.float32)
    assert scaling.unit_to_uint8(values, "a TIFF").tolist() == [[0, 0, 64], [128, 255, 255]]
    for wrong in (-0.2501, 1.2501, float("nan"), float("inf")):
        with pytest.raises(ImageError, match=r"a TIFF with floating-point values from .* only 0 to 1 is supported") as error:
            scaling.unit_to_uint8(np.array([[0.5, wrong]], np.float32), "a TIFF")
        assert error.value.reason == "unsupported"


def test_transparency_is_composited_over_white() -> None:
    """Test every colour with every alpha, in more rows than one strip has."""
    colour, alpha = np.mgrid[0:256, 0:256].astype(np.uint8)
    rows = np.concatenate([colour, colour[:3]])
    over = np.repeat(rows[..., None], 3, axis=2)
    scaling.over_white(over, np.concatenate([alpha, alpha[:3]]))
    exact = rows * (np.concatenate([alpha, alpha[:3]]) / 255) + (255.0 - np.concatenate([alpha, alpha[:3]]))
    assert np.abs(over - exact[..., None]).max() <= 0.5
    over = np.repeat(colour[..., None], 3, axis=2)
    scaling.over_white(over, alpha, premultiplied=True)
    np.testing.assert_array_equal(over[..., 0], np.minimum(colour.astype(int) + 255 - alpha, 255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_equal_those_of_pillow(orientation: int) -> None:
    from PIL import ImageOps

    image = photo(1, 7, 5)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(image, "PNG", exif=exif))))
    np.testing.assert_array_equal(scaling.orient(np.asarray(image), orientation), np.asarray(turned))


@pytest.mark.parametrize(
    "content", [b"P1\n3 2\n0 1 0\n1 1 0\n", b"P1 3 2 010110", b"P1\n3 2\n01 01\n10\n", b"P4\n3 2\n\x40\xc0"]
)
def test_bilevel_pnm_equals_that_of_pillow(content: bytes) -> None:
    """1 is black. The plain format needs no spaces between digits."""
    expected = np.array([[255, 0, 255], [0, 0, 255]], np.uint8)
    np.testing.assert_array_equal(decode.decode(content), np.repeat(expected[..., None], 3, axis=2))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content)).convert("L")), expected)
    if content.startswith(b"P1"):
        for wrong in (content.replace(b"0", b"2"), content[:-4]):
            with pytest.raises(ImageError, match="PNM"):
                decode.decode(wrong)
