"""Make damaged, unusual and malicious files, always the same ones: `files` makes their bytes, `plant` a data folder of them."""

import contextlib
import dataclasses
import os
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tiffs
from conftest import bomb, encoded, make_classes, photo, png_chunk, write
from PIL import Image
from planted import scene

CLASSES = ("-b*[1]", "g'$(x)\"%s", "rød 日本")  # names with special characters of shells, globs and format strings
GOOD = 30  # valid images of each class, enough to train a small network


@dataclasses.dataclass(frozen=True)
class Hostile:
    """One file. usable: whether it contains an image; None if both results are acceptable.

    whole: the file before it was truncated or a bit was flipped.
    """

    name: str
    kind: str
    content: bytes
    usable: bool | None = None
    whole: bytes = b""


def files() -> list[Hostile]:
    """Return all hostile files. No two have the same name, and no two usable ones are near-duplicates."""
    makers = (
        truncated, flipped, misnamed, impostors, empty, png_lies, jpeg_lies, gif_lies, bmp_lies, webp_lies, tiff_lies,
        box_lies, pnm_lies, bombs, orientations, broken_exif, modes, layouts, sizes, animations, trailing, named,
    )  # fmt: skip
    return [file for maker in makers for file in maker()]


# -- valid images of every kind -------------------------------------------------------------------------------------------


def _image(seed: int, mode: str = "RGB") -> Image.Image:
    image = scene(seed, 48, 36)
    if mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        return image
    return image.convert(mode)


def _saved(form: str, mode: str = "RGB", **options: object) -> Callable[[int], bytes]:
    return lambda seed: encoded(_image(seed, mode), form, **options)


def png(
    size: tuple[int, int], rows: bytes, *, depth: int = 8, colour: int = 2, interlace: int = 0, before: bytes = b""
) -> bytes:
    """Make a PNG. rows: pixels with a filter byte before each row. before: chunks before the pixels."""
    head = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlace)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", head)
        + before
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def _rows(pixels: np.ndarray) -> bytes:
    """Return (h, ...) pixels as unfiltered rows of a PNG."""
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def _interlaced_png(seed: int) -> bytes:
    pixels = np.asarray(_image(seed))
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b"".join(_rows(pixels[y::down, x::across]) for x, y, across, down in passes)
    return png((48, 36), rows, interlace=1)


def _deep_png(seed: int) -> bytes:
    pixels = np.asarray(_image(seed)).astype(">u2") * 257
    return png((48, 36), _rows(pixels), depth=16)


def _plain_ppm(seed: int) -> bytes:
    return b"P3 48 36 255\n" + " ".join(map(str, np.asarray(_image(seed)).ravel())).encode() + b"\n"


def _codestream(seed: int) -> bytes:
    data = encoded(_image(seed), "JPEG2000")
    return data[data.index(b"\xff\x4f\xff\x51") :]


WHOLE: dict[str, tuple[str, Callable[[int], bytes]]] = {  # extension, and a function from a seed to the bytes
    "jpeg": ("jpg", _saved("JPEG", quality=90)),
    "progressive jpeg": ("jpeg", _saved("JPEG", progressive=True)),
    "jpeg with restarts": ("jpg", _saved("JPEG", restart_marker_blocks=2)),
    "grey jpeg": ("jpg", _saved("JPEG", "L")),
    "cmyk jpeg": ("jpg", _saved("JPEG", "CMYK")),
    "png": ("png", _saved("PNG")),
    "interlaced png": ("png", _interlaced_png),
    "palette png": ("png", _saved("PNG", "P")),
    "16-bit png": ("png", _deep_png),
    "grey-alpha png": ("png", _saved("PNG", "LA")),
    "gif": ("gif", _saved("GIF")),
    "bmp": ("bmp", _saved("BMP")),
    "webp": ("webp", _saved("WEBP")),
    "lossless webp": ("webp", _saved("WEBP", lossless=True)),
    "transparent webp": ("webp", _saved("WEBP", "RGBA")),
    "tiff": ("tif", _saved("TIFF")),
    "lzw tiff": ("tiff", _saved("TIFF", compression="tiff_lzw")),
    "deflate tiff": ("tif", _saved("TIFF", compression="tiff_adobe_deflate")),
    "jpeg tiff": ("tif", _saved("TIFF", compression="jpeg")),
    "fax tiff": ("tif", _saved("TIFF", "1", compression="group4")),
    "bigtiff": ("tif", _saved("TIFF", big_tiff=True)),
    "avif": ("avif", _saved("AVIF")),
    "jpeg 2000": ("jp2", _saved("JPEG2000")),
    "jpeg 2000 codestream": ("j2k", _codestream),
    "ppm": ("ppm", _saved("PPM")),
    "pgm": ("pgm", _saved("PPM", "L")),
    "pbm": ("pbm", _saved("PPM", "1")),
    "plain ppm": ("ppm", _plain_ppm),
}


# -- damage -----------------------------------------------------------------------------------------------------------------


def truncated() -> Iterator[Hostile]:
    """Truncate every kind at positions from the first byte to the last."""
    for number, (what, (ending, make)) in enumerate(WHOLE.items()):
        length = len(make(1000 + 100 * number))
        cuts = {1, 2, 7, 16, 33, length // 8, length // 3, length // 2, length * 4 // 5, length - 20, length - 1}
        for place, cut in enumerate(sorted(cuts)):
            whole = make(1000 + 100 * number + place)
            cut = min(cut, len(whole) - 1) if cut < length - 20 else len(whole) - (length - cut)
            usable = None if len(whole) - cut <= 2 else False
            yield Hostile(f"{what} cut at {cut:06d} of {len(whole)}.{ending}", "truncated", whole[:cut], usable, whole)


def flipped() -> Iterator[Hostile]:
    """Flip one bit of every kind, chosen by seed: twice in the first 64 bytes, otherwise anywhere."""
    for number, (what, (ending, make)) in enumerate(WHOLE.items()):
        for place in range(7):
            seed = 5000 + 100 * number + place
            whole = make(seed)
            data = bytearray(whole)
            at = random.Random(seed).randrange(64 if place < 2 else len(data))
            data[at] ^= 1 << random.Random(seed + 1).randrange(8)
            yield Hostile(f"{what} {place} with a bit flipped at {at:06d}.{ending}", "flipped", bytes(data), whole=whole)


# -- names and contents that disagree --------------------------------------------------------------------------------------


def misnamed() -> Iterator[Hostile]:
    """Name valid images of every format with a wrong extension, a doubled one, or none."""
    first = {}
    for what, (ending, make) in WHOLE.items():
        first.setdefault(ending.replace("jpeg", "jpg").replace("tiff", "tif"), (what, make))
    endings = [*first, *first]
    for number, (ending, (what, make)) in enumerate(first.items()):
        other = endings[endings.index(ending) + 1]
        for place, wrong in enumerate((f".{other}", ".txt", ".zip", f".{ending}.{other}", "", f".{ending.upper()}", ".")):
            yield Hostile(f"a {what} named{wrong}", "misnamed", make(10_000 + 100 * number + place), True)


def impostors() -> Iterator[Hostile]:
    """Make files that are not images, or that imgclf does not read, most of them with the name of an image."""
    chance = random.Random(1)
    inner = encoded(_image(11_000))
    for name, content in {
        "photoshop.psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 36, 48, 8, 3) + bytes(64),
        "photoshop.jpg": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 36, 48, 8, 3) + bytes(64),
        "photo.heic": box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", bytes(60)),
        "photo as mif1.jpg": box(b"ftyp", b"mif1\0\0\0\0mif1heic") + box(b"meta", bytes(60)),
        "film.mp4": box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41") + box(b"mdat", bytes(60)),
        "film.jpg": box(b"ftyp", b"qt  \0\0\0\0qt  ") + box(b"mdat", bytes(60)),
        "a brand of control characters.jpg": box(b"ftyp", b"\x1b[1m\0\0\0\0\r\n\t\x07"),
        "a brand of other bytes.jpg": box(b"ftyp", b"\xff\xfe\x80\x9b\0\0\0\0"),
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script>alert(1)</script></svg>",
        "drawing.png": b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>",
        "billion laughs.svg": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><l>&b;</l>',
        "document.pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n",
        "document with a jpeg inside.jpg": b"%PDF-1.7\nstream\n" + inner + b"\nendstream\n%%EOF\n",
        "notes.txt": b"remember the milk\n",
        "notes.jpg": "œuvre, naïve, 日本\n".encode() * 30,
        "notes in UTF-16.jpg": "remember the milk\n".encode("utf-16"),
        "begins with BM.bmp": b"BMW is a car, and this is a text about it.\n",
        "begins with P5.pgm": b"P5 is a level of the tower; P6 the next.\n",
        "begins with GIF.gif": b"GIF is pronounced in two ways.\n",
        "page.html": b"<!DOCTYPE html><html><body><img src=x onerror=alert(1)></body></html>",
        "page.jpg": b"\n\n  <HTML><head><title>404 Not Found</title></head></HTML>",
        "answer.json": b'{"error": "not found", "deep": ' + b"[" * 3000 + b"]" * 3000 + b"}",
        "answer.jpg": b'{"url": "http://example.com/photo.jpg"}',
        "script.php.jpg": b"<?php system($_GET['c']); ?>",
        "shell.jpg": b"#!/bin/sh\nrm -rf /\n",
        "program.jpg": b"\x7fELF\2\1\1" + bytes(60),
        "program.exe": b"MZ\x90\0" + bytes(60),
        "java.jpg": b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(60),
        "archive.jpg": b"PK\x03\x04" + bytes(60),
        "archive.zip": b"PK\x05\x06" + bytes(18),
        "archive.gz": zlib.compress(bytes(9000), wbits=31),
        "archive.rar": b"Rar!\x1a\7\1\0" + bytes(60),
        "icon.ico": b"\0\0\1\0\1\0" + bytes(60),
        "icon.jpg": encoded(_image(11_001), "ICO"),
        "targa.tga": encoded(_image(11_002), "TGA"),
        "pcx.jpg": encoded(_image(11_003), "PCX"),
        "sgi.jpg": encoded(_image(11_004), "SGI"),
        "postscript.eps": encoded(_image(11_005), "EPS"),
        "dds.jpg": encoded(_image(11_006), "DDS"),
        "xbm.jpg": encoded(_image(11_007, "1"), "XBM"),
        "sun raster.jpg": b"\x59\xa6\x6a\x95" + struct.pack(">7I", 4, 4, 24, 48, 1, 0, 0) + bytes(48),
        "radiance.hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 4 +X 4\n" + bytes(64),
        "openexr.exr": b"\x76\x2f\x31\x01\2\0\0\0" + bytes(60),
        "float map.pfm": b"PF\n4 4\n-1.0\n" + bytes(192),
        "arbitrary map.pam": b"P7\nWIDTH 4\nHEIGHT 4\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + bytes(48),
        "jpeg xl.jxl": b"\xff\x0a" + bytes(60),
        "jpeg xl in boxes.jpg": box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ") + bytes(60),
        "qoi.jpg": b"qoif" + struct.pack(">IIBB", 4, 4, 3, 0) + bytes(60),
        "flif.jpg": b"FLIF" + bytes(60),
        "dicom.jpg": bytes(128) + b"DICM" + bytes(60),
        "fits.jpg": b"SIMPLE  =                    T" + b" " * 60,
        "gimp.xcf": b"gimp xcf v011\0" + bytes(60),
        "canon raw.cr2": b"II*\0\x10\0\0\0CR\2\0" + bytes(60),
        "database.jpg": b"SQLite format 3\0" + bytes(60),
        "music.wav.jpg": b"RIFF\x24\0\0\0WAVEfmt " + bytes(60),
        "pickle.jpg": b"\x80\x04\x95cos\nsystem\n(S'touch pwned'\ntR.",
        "noise.jpg": chance.randbytes(3000),
        "noise without an ending": chance.randbytes(300),
        "zeros.jpg": bytes(3000),
        "ones.png": b"\xff" * 3000,
        "line ends.jpg": b"\r\n" * 1000,
        "one byte.jpg": b"\xff",
        "one space.png": b" ",
        "one zero.gif": b"\0",
        "a jpeg behind a byte.jpg": b"\0" + encoded(_image(11_010)),
        "a png behind a mark of order.png": b"\xef\xbb\xbf" + encoded(_image(11_011), "PNG"),
        "a png with line ends changed.png": encoded(_image(11_012), "PNG").replace(b"\r\n", b"\n"),
        "a jpeg as base64.jpg": b"data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD/",
        "a jpeg in hexadecimal.jpg": encoded(_image(11_013)).hex().encode(),
        "a jpeg backwards.jpg": encoded(_image(11_014))[::-1],
        "a jpeg read as text.jpg": encoded(_image(11_015)).decode("latin-1").encode(),
    }.items():
        yield Hostile(f"impostor {name}", "impostor", content, False)
    for name, head in MAGIC.items():
        yield Hostile(f"only the head of a {name}", "impostor", head, False)
        yield Hostile(f"noise behind the head of a {name}", "impostor", head + chance.randbytes(500), False)
        yield Hostile(f"zeros behind the head of a {name}", "impostor", head + bytes(500), False)


MAGIC = {
    "jpg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF89a", "bmp": b"BM\0\0\0\0\0\0\0\0",
    "webp": b"RIFF\0\0\0\0WEBP", "tif": b"II*\0", "big.tif": b"MM\0+", "avif": b"\0\0\0\x1cftypavif",
    "jp2": b"\0\0\0\x0cjP  \r\n\x87\n", "j2k": b"\xff\x4f\xff\x51", "ppm": b"P6 ",
}  # fmt: skip


def empty() -> Iterator[Hostile]:
    for ending in ("jpg", "png", "gif", "bmp", "webp", "tif", "avif", "jp2", "ppm", "txt", "zip", "tar.gz", ""):
        yield Hostile(f"empty{'.' if ending else ''}{ending}", "empty", b"", False)


# -- false headers ----------------------------------------------------------------------------------------------------------


def png_lies() -> Iterator[Hostile]:
    rows = _rows(np.asarray(_image(12_000)))
    good = encoded(_image(12_001), "PNG")

    def chunks(*inserted: bytes) -> bytes:
        return good[:33] + b"".join(inserted) + good[33:]

    pieces = b"".join(png_chunk(b"IDAT", bytes([byte])) for byte in zlib.compress(_rows(np.asarray(_image(12_002)))))
    two = png_chunk(b"acTL", struct.pack(">II", 2, 0))
    control = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 20_000, 20_000, 0, 0, 1, 10, 0, 0))
    for name, content, usable in (
        ("claims 2147483647 x 2147483647", png((2**31 - 1, 2**31 - 1), rows), False),
        ("claims 4294967295 x 1", png((2**32 - 1, 1), rows), False),
        ("claims 1 x 2147483647", png((1, 2**31 - 1), rows), False),
        ("claims 0 x 0", png((0, 0), rows), False),
        ("claims 0 x 36", png((0, 36), rows), False),
        ("claims 48 x 3600", png((48, 3600), rows), False),
        ("claims 16000 x 8000 of little data", png((16_000, 8_000), rows), False),
        ("claims 3 bits", png((48, 36), rows, depth=3), False),
        ("claims colours of kind 5", png((48, 36), rows, colour=5), False),
        ("claims interlacing of kind 9", png((48, 36), rows, interlace=9), False),
        ("has a filter of kind 200", png((48, 36), b"\xc8" + rows[1:]), False),
        ("has a palette of none", png((48, 36), _rows(np.zeros((36, 48), np.uint8)), colour=3), None),
        ("has pixels beyond its palette", png((48, 36), _rows(np.full((36, 48), 9, np.uint8)), colour=3,
                                              before=png_chunk(b"PLTE", bytes(6))), None),
        ("has no pixels", good[:33] + good[-12:], False),
        ("has its head twice", good[:33] + good[8:], None),
        ("has a wrong sum in its head", good[:29] + b"\0\0\0\0" + good[33:], False),
        ("has a chunk of 2 GB", chunks(b"\x7f\xff\xff\xfftEXt"), False),
        ("has a chunk of negative length", chunks(b"\xff\xff\xff\xfftEXt"), False),
        ("has a critical chunk of no name", chunks(png_chunk(b"QQQQ", b"x")), None),
        ("has 5000 empty texts", chunks(*[png_chunk(b"tEXt", b"a\0")] * 5000), None),
        ("has its pixels in pieces of a byte", good[:33] + pieces + good[-12:], True),
        ("is animated with no frame", chunks(png_chunk(b"acTL", bytes(8))), None),
        ("is animated with 4294967295 frames", chunks(png_chunk(b"acTL", b"\xff" * 8)), None),
        ("has a frame of 20000 x 20000", chunks(two, control), None),
        ("was made for a telephone", good[:8] + png_chunk(b"CgBI", b"\x50\0\x20\2") + good[8:], None),
    ):  # fmt: skip
        yield Hostile(f"png that {name}.png", "lie", content, usable)


def segment(marker: int, content: bytes, length: int | None = None) -> bytes:
    """Make a segment of a JPEG. length: the length that it claims."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2 if length is None else length) + content


def jpeg_lies() -> Iterator[Hostile]:
    def sized(width: int, height: int, seed: int) -> bytes:
        data = bytearray(encoded(_image(seed), subsampling=0))
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
        return bytes(data)

    def changed(marker: bytes, at: int, to: bytes, seed: int) -> bytes:
        data = bytearray(encoded(_image(seed)))
        start = data.index(marker) + at
        data[start : start + len(to)] = to
        return bytes(data)

    def inserted(extra: bytes, seed: int) -> bytes:
        data = encoded(_image(seed))
        return data[:2] + extra + data[2:]

    def without(marker: int, seed: int) -> bytes:
        data = encoded(_image(seed))
        start = data.index(bytes([0xFF, marker]))
        return data[:start] + data[start + 2 + struct.unpack_from(">H", data, start + 2)[0] :]

    progressive = encoded(_image(12_100, "L"), progressive=True)
    scan = progressive.rindex(b"\xff\xda")
    ycck = bytearray(encoded(_image(12_101, "CMYK")))
    ycck[ycck.index(b"Adobe") + 11] = 2
    thumbnail = segment(0xE1, b"Exif\0\0" + encoded(_image(12_102)))
    for name, content, usable in (
        ("claims 65535 x 65535", sized(65535, 65535, 12_103), False),
        ("claims 65500 x 2000 of little data", sized(65500, 2000, 12_104), False),
        ("claims 0 x 0", sized(0, 0, 12_105), False),
        ("claims no height", sized(48, 0, 12_106), False),
        ("claims a row more", sized(48, 44, 12_107), None),
        ("has 255 components", changed(b"\xff\xc0", 9, b"\xff", 12_108), False),
        ("has 12 bits", changed(b"\xff\xc0", 4, b"\x0c", 12_109), False),
        ("has sampling factors of 15", changed(b"\xff\xc0", 11, b"\xff", 12_110), False),
        ("claims to be lossless", changed(b"\xff\xc0", 1, b"\xc3", 12_111), False),
        ("claims to be arithmetically coded", changed(b"\xff\xc0", 1, b"\xc9", 12_112), None),
        ("claims to be hierarchical", changed(b"\xff\xc0", 1, b"\xc5", 12_113), False),
        ("has a code table of 255 of each length", changed(b"\xff\xc4", 5, b"\xff" * 16, 12_114), False),
        ("lacks its code tables", without(0xC4, 12_115), None),
        ("lacks its quantisation", without(0xDB, 12_116), None),
        ("has a segment of no length", inserted(segment(0xE5, b"", 0), 12_117), None),
        ("has a segment of length 1", inserted(segment(0xE5, b"", 1), 12_118), None),
        ("has a segment that goes on for ever", inserted(segment(0xE5, b"", 65535), 12_119), None),
        ("begins twice", inserted(b"\xff\xd8", 12_120), None),
        ("has 300 kB of padding", inserted(b"\xff" * 300_000, 12_121), True),
        ("has 2000 segments", inserted(segment(0xEF, b"x") * 2000, 12_122), True),
        ("has 1300 kB of colour profile", inserted(
            b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([n + 1, 20]) + bytes(65_000)) for n in range(20)), 12_123), True),
        ("has the largest comment", inserted(segment(0xFE, b"\x1b[31m\n" * 10_900), 12_124), True),
        ("has an image in its EXIF", inserted(thumbnail, 12_125), True),
        ("has 400 scans", progressive[:scan] + progressive[scan:-2] * 400 + b"\xff\xd9", None),
        ("has colours of YCCK", bytes(ycck), True),
        ("ends with half a mark", encoded(_image(12_126))[:-1], True),
        ("ends without a mark", encoded(_image(12_127))[:-2], True),
    ):  # fmt: skip
        yield Hostile(f"jpeg that {name}.jpg", "lie", content, usable)


def gif_lies() -> Iterator[Hostile]:
    def gif(canvas: tuple[int, int], *blocks: bytes) -> bytes:
        return b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80, 0, 0) + b"\0\0\0\xff\x80\x40" + b"".join(blocks) + b";"

    def frame(left: int, top: int, width: int, height: int, pixels: bytes = b"\2\2\x4c\1\0") -> bytes:
        return b"," + struct.pack("<HHHHB", left, top, width, height, 0) + pixels  # pixels: one, of colour 1

    for name, content, usable in (
        ("claims 65535 x 65535", gif((65535, 65535), frame(0, 0, 1, 1)), False),
        ("claims 6000 x 6000 for one pixel", gif((6_000, 6_000), frame(0, 0, 1, 1)), None),
        ("claims 0 x 0", gif((0, 0), frame(0, 0, 1, 1)), False),
        ("has a frame beside its canvas", gif((4, 4), frame(40, 40, 1, 1)), None),
        ("has a frame larger than its canvas", gif((4, 4), frame(0, 0, 60_000, 60_000)), None),
        ("has a frame of no size", gif((4, 4), frame(0, 0, 0, 0)), None),
        ("has no frame", gif((4, 4)), False),
        ("has codes of 255 bits", gif((4, 4), frame(0, 0, 4, 4, b"\xff\2\x4c\1\0")), False),
        ("has a code that is not there yet", gif((4, 4), frame(0, 0, 4, 4, b"\2\2\xf4\7\0")), None),
        ("has a comment without an end", gif((4, 4), b"!\xfe" + b"\x01x" * 50_000), False),
        ("has 3000 frames", gif((3, 3), *[frame(0, 0, 1, 1)] * 3000), None),
        ("has no palette", b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0, 0, 0) + frame(0, 0, 1, 1) + b";", None),
        ("has colours of an unknown block", gif((4, 4), b"\x99\1x\0", frame(0, 0, 1, 1)), None),
        ("has a frame smaller than its canvas", gif((64, 48), frame(9, 9, 1, 1)), True),
        ("has frames smaller than its canvas", gif((50, 70), frame(9, 9, 1, 1), frame(0, 0, 1, 1)), True),
    ):
        yield Hostile(f"gif that {name}.gif", "lie", content, usable)


def bmp_lies() -> Iterator[Hostile]:
    def bmp(
        width: int,
        height: int,
        pixels: bytes,
        *,
        bits: int = 24,
        packed: int = 0,
        used: int = 0,
        more: bytes = b"",
        offset: int = 0,
    ) -> bytes:
        at = offset or 54 + len(more)
        head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packed, len(pixels), 2835, 2835, used, 0)
        return b"BM" + struct.pack("<IHHI", 54 + len(more) + len(pixels), 0, 0, at) + head + more + pixels

    def pixels(seed: int) -> bytes:
        return np.asarray(_image(seed))[::-1, :, ::-1].tobytes()

    indices = np.random.default_rng(12_300).integers(0, 256, (36, 48), dtype=np.uint8)
    palette = np.random.default_rng(12_301).integers(0, 256, (256, 4), dtype=np.uint8).tobytes()
    short = np.random.default_rng(12_302).integers(0, 32768, (36, 48)).astype("<u2").tobytes()
    runs = b"".join(bytes([48, row * 7]) + b"\0\0" for row in range(36)) + b"\0\1"
    core = b"BM" + struct.pack("<IHHIIHHHH", 26 + 48 * 36 * 3, 0, 0, 26, 12, 48, 36, 1, 24)
    for name, content, usable in (
        ("claims 2147483647 x 2147483647", bmp(2**31 - 1, 2**31 - 1, bytes(60)), False),
        ("claims 48 x -2147483648", bmp(48, -(2**31), bytes(60)), False),
        ("claims -48 x 36", bmp(-48, 36, pixels(12_303)), False),
        ("claims 65536 x 65536", bmp(65536, 65536, bytes(60)), False),
        ("claims 0 x 0", bmp(0, 0, bytes(60)), False),
        ("claims 12000 x 11000 of little data", bmp(12_000, 11_000, bytes(60)), False),
        ("claims 2147483648 colours", bmp(48, 36, indices.tobytes(), bits=8, used=2**31, more=palette), None),
        ("has 3 bits a pixel", bmp(48, 36, pixels(12_304), bits=3), False),
        ("has its pixels behind its end", bmp(48, 36, pixels(12_305), offset=2**31), False),
        ("has its pixels in its head", bmp(48, 36, pixels(12_306), offset=2), None),
        ("is packed in an unknown way", bmp(48, 36, pixels(12_307), packed=77), False),
        ("has runs beyond its rows", bmp(48, 36, b"\xff\1" * 300 + b"\0\1", bits=8, packed=1, more=palette), None),
        ("jumps out of its rows", bmp(48, 36, b"\0\2\xff\xff" * 300 + b"\0\1", bits=8, packed=1, more=palette), None),
        ("is packed in runs", bmp(48, 36, runs, bits=8, packed=1, more=palette), True),
        ("runs from the top down", bmp(48, -36, pixels(12_308)), True),
        ("has 8 bits a pixel", bmp(48, 36, indices.tobytes(), bits=8, more=palette), True),
        ("has 15 bits a pixel", bmp(48, 36, short, bits=16), True),
        ("has 32 bits a pixel", bmp(48, 36, np.asarray(_image(12_309).convert("RGBA")).tobytes(), bits=32), True),
        ("is of another system", core + pixels(12_310), True),
        ("ends after two rows", bmp(48, 36, b"\x30\x09\0\0\x30\x4d\0\1", bits=8, packed=1, more=palette), None),
        ("jumps over most pixels", bmp(48, 36, b"\x0a\x09\0\2\5\3\x0a\x1e\0\1", bits=8, packed=1, more=palette), None),
        ("has 4 bits in short runs", bmp(48, 36, runs.replace(b"\x30", b"\x11"), bits=4, packed=2, more=palette[:64]), None),
        ("has colours from other bits", bmp(48, 36, short, bits=16, packed=3, more=struct.pack("<III", 15, 240, 3840)), False),
        (
            "has a fourth byte and masks",
            bmp(
                48,
                36,
                np.asarray(_image(12_311).convert("RGBA")).tobytes(),
                bits=32,
                packed=3,
                more=struct.pack("<III", 0xFF0000, 0xFF00, 0xFF),
            ),
            True,
        ),
    ):
        yield Hostile(f"bmp that {name}.bmp", "lie", content, usable)


def riff(*chunks: tuple[bytes, bytes], size: int | None = None) -> bytes:
    """Make a WEBP. size: the size that it claims."""
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1) for name, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def webp_lies() -> Iterator[Hostile]:
    def canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
        return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")

    def frame(seed: int) -> tuple[bytes, bytes]:
        data = encoded(_image(seed), "WEBP")
        return data[12:16], data[20 : 20 + struct.unpack_from("<I", data, 16)[0]]

    def lossless(width: int, height: int) -> tuple[bytes, bytes]:
        return b"VP8L", b"\x2f" + struct.pack("<I", width - 1 | (height - 1) << 14) + bytes(60)

    large = bytearray(encoded(_image(12_400), "WEBP"))
    large[26:30] = struct.pack("<HH", 16383, 16383)
    for name, content, usable in (
        ("claims 16777216 x 16777216", riff(canvas(1 << 24, 1 << 24), frame(12_401)), False),
        ("claims 16383 x 16383", bytes(large), False),
        ("claims 16384 x 16384 without loss", riff(lossless(16384, 16384)), False),
        ("claims 11000 x 11000 of little data", riff(lossless(11_000, 11_000)), False),
        ("has a canvas of another size", riff(canvas(64, 64), frame(12_402)), None),
        ("has a canvas of 11000 x 11000", riff(canvas(11_000, 11_000), frame(12_403)), None),
        ("has a canvas and no frame", riff(canvas(48, 36)), False),
        ("is animated without a frame", riff(canvas(48, 36, 2), (b"ANIM", bytes(6))), False),
        ("claims 4 GB", riff(frame(12_404), size=2**32 - 1), None),
        ("claims no bytes", riff(frame(12_405), size=0), None),
        ("has a chunk of 4 GB", riff(canvas(48, 36), frame(12_406)) + b"EXIF\xff\xff\xff\xff", None),
        (
            "has a transparency of noise",
            riff(canvas(48, 36, 16), (b"ALPH", random.Random(2).randbytes(90)), frame(12_407)),
            None,
        ),
        ("has 300 kB of EXIF", riff(canvas(48, 36, 8), frame(12_408), (b"EXIF", exif(6) + bytes(300_000))), True),
    ):
        yield Hostile(f"webp that {name}.webp", "lie", content, usable)


def tiff(
    tags: dict[int, tuple[int, int, int | bytes]],
    pixels: bytes = b"",
    *,
    following: int | None = None,
    count: int | None = None,
) -> bytes:
    """Make a TIFF with one directory after the pixels, which start at byte 8.

    tags: type, number of values, and the value, or the bytes of several values. following: offset of the next directory, -1 for
    this one again. count: the number of tags that it claims.
    """
    pixels += b"\0" * (len(pixels) & 1)
    at = 8 + len(pixels)
    behind = at + 2 + 12 * len(tags) + 4
    entries, more = b"", b""
    for tag, (type_, number, value) in sorted(tags.items()):
        if isinstance(value, bytes) and len(value) > 4:
            entries += struct.pack("<HHII", tag, type_, number, behind + len(more))
            more += value
        else:
            raw = value.ljust(4, b"\0") if isinstance(value, bytes) else struct.pack("<I", value & 0xFFFFFFFF)
            entries += struct.pack("<HHI", tag, type_, number) + raw
    next_one = at if following == -1 else following or 0
    number = len(tags) if count is None else count
    return b"II*\0" + struct.pack("<I", at) + pixels + struct.pack("<H", number) + entries + struct.pack("<I", next_one) + more


def tags(
    width: int, height: int, size: int, **changed: tuple[int, int, int | bytes]
) -> dict[int, tuple[int, int, int | bytes]]:
    """Return the tags of an 8-bit RGB image in one strip of `size` bytes; keywords such as t259 replace tags by number."""
    usual: dict[int, tuple[int, int, int | bytes]] = {
        256: (4, 1, width), 257: (4, 1, height), 258: (3, 3, struct.pack("<HHH", 8, 8, 8)), 259: (3, 1, 1), 262: (3, 1, 2),
        273: (4, 1, 8), 277: (3, 1, 3), 278: (4, 1, height), 279: (4, 1, size),
    }  # fmt: skip
    return usual | {int(name[1:]): value for name, value in changed.items()}


def tiff_lies() -> Iterator[Hostile]:
    def made(seed: int, width: int = 48, height: int = 36, **changed: tuple[int, int, int | bytes]) -> bytes:
        pixels = np.asarray(_image(seed)).tobytes()
        return tiff(tags(width, height, len(pixels), **changed), pixels)

    def tiled(seed: int, side: int) -> bytes:
        return made(seed, t322=(4, 1, side), t323=(4, 1, side), t324=(4, 1, 8), t325=(4, 1, 9))

    def values(array: np.ndarray, form: int, photometric: int = 1) -> bytes:
        """Make a grey image whose values are not bytes."""
        raw = array.tobytes()
        bits = (3, 1, 8 * array.itemsize)
        return tiff(
            tags(
                array.shape[1], array.shape[0], len(raw), t258=bits, t262=(3, 1, photometric), t277=(3, 1, 1), t339=(3, 1, form)
            ),
            raw,
        )

    ramp = np.random.default_rng(12_500).random((36, 48))
    pixels = np.asarray(_image(12_501)).tobytes()
    usual = tags(48, 36, len(pixels))
    two = bytearray(tiff(usual, np.asarray(_image(12_502)).tobytes(), following=-1))
    first = struct.unpack_from("<I", two, 4)[0]
    second = len(two)
    two[first + 2 + 12 * 9 : first + 6 + 12 * 9] = struct.pack("<I", second)
    two += struct.pack("<H", 0) + struct.pack("<I", first)
    squeezed = zlib.compress(bytes(50_000_000), 9)
    for name, content, usable in (
        ("claims 2000000000 x 2000000000", made(12_503, 2_000_000_000, 2_000_000_000), False),
        ("claims 65535 x 65535", made(12_504, 65535, 65535), False),
        ("claims 12000 x 11000 of little data", made(12_505, 12_000, 11_000), False),
        ("claims 0 x 0", made(12_506, 0, 0), False),
        ("claims a row more", made(12_507, 48, 37), None),
        ("has a directory that follows itself", tiff(usual, np.asarray(_image(12_508)).tobytes(), following=-1), None),
        ("has directories in a circle", bytes(two), None),
        ("has a directory in its head", b"II*\0\0\0\0\0" + bytes(60), False),
        ("has a directory behind its end", b"II*\0\xff\xff\xff\x7f" + bytes(60), False),
        ("has 65535 tags", tiff(usual, pixels, count=65535), None),
        ("has no tags", tiff({}, pixels), False),
        ("has strips behind its end", made(12_509, t273=(4, 1, 2**31)), False),
        ("has strips of 4 GB", made(12_510, t279=(4, 1, 2**32 - 1)), None),
        ("has 2147483647 strips", made(12_511, t273=(4, 2**31 - 1, 8), t279=(4, 2**31 - 1, 8), t278=(4, 1, 1)), False),
        ("has strips of no rows", made(12_512, t278=(4, 1, 0)), None),
        ("has one strip of any height", made(12_513, t278=(4, 1, 2**32 - 1)), True),
        ("has 65535 bits a value", made(12_514, t258=(3, 1, 65535)), False),
        ("has 65535 values a pixel", made(12_515, t277=(3, 1, 65535)), False),
        ("has 2 values a pixel", made(12_516, t277=(3, 1, 2), t258=(3, 2, 0x00080008), t262=(3, 1, 1)), None),
        ("has 7 bits a value", made(12_517, t258=(3, 3, struct.pack("<HHH", 7, 7, 7))), None),
        ("is packed in an unknown way", made(12_518, t259=(3, 1, 60_000)), False),
        ("is packed as slides are", made(12_525, t259=(3, 1, 33_003)), False),
        ("is packed by LZW and is not", made(12_526, t259=(3, 1, 5)), None),
        ("is deflated and is not", made(12_527, t259=(3, 1, 8)), False),
        ("has its width twice, and is larger", tiff(tags(16_000, 16_000, 5184), b"").replace(
            struct.pack("<HHII", 257, 4, 1, 16_000), struct.pack("<HHII", 256, 4, 1, 48)), False),
        ("has colours of an unknown kind", made(12_519, t262=(3, 1, 60_000)), None),
        ("has a predictor of kind 65535", made(12_520, t317=(3, 1, 65535)), None),
        ("has tiles of 2147483648", tiled(12_521, 2**31), False),
        ("has tiles of 65536 x 65536", tiled(12_522, 65536), False),
        ("has directories below that are itself", made(12_523, t330=(4, 1, 5192), t34665=(4, 1, 5192)), None),
        ("unpacks to 50 MB", tiff(tags(48, 36, len(squeezed), t259=(3, 1, 8)), squeezed), None),
        ("has colours in planes", tiff(
            tags(48, 36, 0, t273=(4, 3, struct.pack("<III", 8, 1736, 3464)), t279=(4, 3, struct.pack("<III", 1728, 1728, 1728)),
                 t284=(3, 1, 2)), np.asarray(_image(12_524)).transpose(2, 0, 1).tobytes()), True),
        ("has numbers from 0 to 1", values(ramp.astype("<f4"), 3), True),
        ("has numbers from 0 to 1 of 64 bits", values(ramp.astype("<f8") * 0.9, 3), None),
        ("has half numbers", values((ramp * 0.8).astype("<f2"), 3), None),
        ("has numbers that are none", values(np.where(ramp > 0.5, np.nan, ramp).astype("<f4"), 3), False),
        ("has numbers without bounds", values(np.where(ramp > 0.5, np.inf, ramp).astype("<f4"), 3), False),
        ("has numbers below 0", values((ramp - 0.5).astype("<f4"), 3), False),
        ("has numbers above all", values((ramp * 1e30).astype("<f4"), 3), False),
        ("has signed bytes", values((ramp * 200 - 100).astype("<i1"), 2), None),
        ("has signed words", values((ramp * 20_000 - 10_000).astype("<i2"), 2), None),
        ("has words of 32 bits", values((ramp * 4e9).astype("<u4"), 1), None),
        ("has signed words of 32 bits", values((ramp * 1e9).astype("<i4"), 2), None),
        ("has words of 64 bits", values((ramp * 1e18).astype("<u8"), 1), None),
        ("has complex numbers", values(ramp.astype("<c8"), 6), None),
        ("is white at 0", values((ramp * 190).astype("<u1"), 1, photometric=0), True),
    ):  # fmt: skip
        yield Hostile(f"tiff that {name}.tif", "lie", content, usable)


def box(kind: bytes, content: bytes, size: int | None = None) -> bytes:
    """Make a box of an ISO media file. size: the size that it claims."""
    return struct.pack(">I", len(content) + 8 if size is None else size) + kind + content


def box_lies() -> Iterator[Hostile]:
    """Make JPEG 2000 and AVIF files."""

    def changed(form: str, after: bytes, at: int, to: bytes, seed: int) -> bytes:
        data = bytearray(encoded(_image(seed), form))
        start = data.index(after) + len(after) + at
        data[start : start + len(to)] = to
        return bytes(data)

    size, shape = b"\xff\x51", b"ispe"
    nested = b""
    for _depth in range(2000):
        nested = box(b"meta", nested)
    begin = box(b"ftyp", b"avif\0\0\0\0mif1avif")
    signature = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    stream = _codestream(12_600)
    for name, content, usable in (
        ("jp2 that claims 4294967295 x 4294967295", changed("JPEG2000", b"ihdr", 0, b"\xff" * 8, 12_601), False),
        ("jp2 that claims 16000 x 16000 in its stream alone", changed(
            "JPEG2000", size, 4, struct.pack(">II", 16_000, 16_000), 12_602), False),
        ("jp2 that claims 11000 x 11000 in its box alone", changed(
            "JPEG2000", b"ihdr", 0, struct.pack(">II", 11_000, 11_000), 12_603), None),
        ("jp2 that claims 0 x 0", changed("JPEG2000", b"ihdr", 0, bytes(8), 12_604), False),
        ("jp2 with tiles of a pixel", changed("JPEG2000", size, 20, struct.pack(">II", 1, 1), 12_605), False),
        ("jp2 without its last tiles", encoded(_image(12_614), "JPEG2000", tile_size=(16, 16))[:-600] + b"\xff\xd9", False),
        ("jp2 with tiles of none", changed("JPEG2000", size, 20, bytes(8), 12_606), False),
        ("jp2 with 16384 components", changed("JPEG2000", size, 36, b"\x40\0", 12_607), False),
        ("jp2 with boxes of no length", signature + box(b"jp2h", b"", 0) + box(b"jp2c", stream), None),
        ("jp2 with a box shorter than its head", signature + box(b"jp2h", b"", 3) + box(b"jp2c", stream), None),
        ("jp2 with a box of 16 EB", signature + box(b"jp2h", b"\xff" * 8, 1) + box(b"jp2c", stream), None),
        ("jp2 with boxes 2000 deep", signature + nested + box(b"jp2c", stream), None),
        ("j2k that claims 11000 x 11000 of little data", stream[:8] + struct.pack(">II", 11_000, 11_000) + stream[16:], False),
        ("j2k that claims to begin at its end", stream[:16] + struct.pack(">II", 48, 36) + stream[24:], False),
        ("avif that claims 4294967295 x 4294967295", changed("AVIF", shape, 4, b"\xff" * 8, 12_608), False),
        ("avif that claims 4000 x 4000", changed("AVIF", shape, 4, struct.pack(">II", 4000, 4000), 12_609), None),
        ("avif that claims 1 x 1", changed("AVIF", shape, 4, struct.pack(">II", 1, 1), 12_610), None),
        ("avif that claims 0 x 0", changed("AVIF", shape, 4, bytes(8), 12_611), False),
        ("avif without a size", encoded(_image(12_612), "AVIF").replace(b"ispe", b"free"), False),
        ("avif with its pixels behind its end", changed("AVIF", b"iloc", 16, b"\x7f\xff\xff\xff", 12_613), None),
        ("avif with boxes 2000 deep", begin + nested, False),
        ("avif with 60000 sizes", begin + box(b"meta", b"ispe\0\0\0\0\0\0\0\x30\0\0\0\x24" * 6000), False),
        ("avif with nothing behind its name", begin, False),
    ):  # fmt: skip
        yield Hostile(f"{name}.{name[:4].strip()}", "lie", content, usable)


def pnm_lies() -> Iterator[Hostile]:
    def pixels(seed: int) -> bytes:
        return np.asarray(_image(seed)).tobytes()

    deep = np.random.default_rng(12_700).integers(0, 65536, (36, 48)).astype(">u2").tobytes()
    bits = " ".join(map(str, np.random.default_rng(12_701).integers(0, 2, 48 * 36))).encode()
    for name, content, usable in (
        ("claims 99999 x 99999.ppm", b"P6 99999 99999 255\n" + pixels(12_702), False),
        ("claims 12000 x 11000 of little data.ppm", b"P6 12000 11000 255\n" + pixels(12_703), False),
        ("claims a size of 800000 digits.ppm", b"P6 " + b"9" * 800_000 + b" 36 255\n" + pixels(12_704), False),
        ("claims -48 x 36.ppm", b"P6 -48 36 255\n" + pixels(12_705), False),
        ("claims 0 x 0.ppm", b"P6 0 0 255\n", False),
        ("claims words for numbers.ppm", b"P6 wide high 255\n" + pixels(12_706), False),
        ("claims values up to 0.ppm", b"P6 48 36 0\n" + pixels(12_707), False),
        ("claims values up to 70000.ppm", b"P6 48 36 70000\n" + pixels(12_708) * 2, False),
        ("claims values up to 100.ppm", b"P6 48 36 100\n" + bytes(value % 101 for value in pixels(12_709)), None),
        ("has 16 bits.pgm", b"P5 48 36 65535\n" + deep, True),
        ("has a comment without an end.ppm", b"P6 #" + b"x" * 100_000, False),
        ("has 10000 comments.ppm", b"P6\n" + b"#\n" * 10_000 + b"48 36 255\n" + pixels(12_710), None),
        ("has lines of Windows.ppm", b"P6\r\n48 36\r\n255\n" + pixels(12_711), True),
        ("has values beyond its top.ppm", b"P3 4 4 9 " + b"200 " * 48, None),
        ("has letters among its numbers.ppm", b"P3 48 36 255 " + b"12 x9 " * 5000, False),
        ("is bits in plain.pbm", b"P1 48 36\n" + bits + b"\n", True),
        ("is bits without spaces.pbm", b"P1\n48 36\n" + bits[::-1].replace(b" ", b"") + b"\n", True),
    ):
        yield Hostile(f"pnm that {name}", "lie", content, usable)


def bombs() -> Iterator[Hostile]:
    """Make small files that would fill the memory or keep a decoder busy."""
    zeros = zlib.compress(bytes(50_000_000), 9)
    good = encoded(_image(12_800), "PNG")
    wide = Image.new("1", (16_384, 8_192))
    wide.paste(1, (0, 0, 8_000, 4_000))
    unpacked = _rows(np.asarray(_image(12_801))) + bytes(50_000_000)
    for name, content, usable in (
        ("of 20000 x 20000.png", bomb(), False),
        ("of as many pixels as may be.png", encoded(wide, "PNG"), True),
        ("with 50 MB behind its pixels.png", png((48, 36), unpacked), None),
        ("with a colour profile of 50 MB.png", good[:33] + png_chunk(b"iCCP", b"x\0\0" + zeros) + good[33:], None),
        ("with 10 texts of 50 MB.png", png((48, 36), _rows(np.asarray(_image(12_802))),
                                           before=png_chunk(b"zTXt", b"x\0\0" + zeros) * 10), None),
        ("with 300 kB of EXIF.png", png((48, 36), _rows(np.asarray(_image(12_803))),
                                      before=png_chunk(b"eXIf", exif(1)[6:] + bytes(300_000))), True),
        ("of 2000 x 2000 in one colour.jp2", encoded(Image.new("RGB", (2000, 2000), (9, 99, 199)), "JPEG2000"), True),
        ("of 4000 x 4000 in one colour.gif", encoded(Image.new("RGB", (4000, 4000), (9, 99, 199)), "GIF"), True),
    ):  # fmt: skip
        yield Hostile(f"bomb {name}", "bomb", content, usable)


# -- valid but rare --------------------------------------------------------------------------------------------------------


def exif(orientation: int, *, start: bytes = b"Exif\0\0") -> bytes:
    return start + b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)


def with_exif(ending: str, block: bytes, seed: int) -> bytes:
    """Make a valid image with this EXIF block, inserted by hand because Pillow would repair it."""
    data = encoded(_image(seed), {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[ending])
    if ending == "jpg":
        return data[:2] + segment(0xE1, block) + data[2:]
    if ending == "png":
        return data[:33] + png_chunk(b"eXIf", block.removeprefix(b"Exif\0\0")) + data[33:]
    frame = (data[12:16], data[20 : 20 + struct.unpack_from("<I", data, 16)[0]])
    canvas = bytes([8, 0, 0, 0]) + (47).to_bytes(3, "little") + (35).to_bytes(3, "little")
    return riff((b"VP8X", canvas), frame, (b"EXIF", block.removeprefix(b"Exif\0\0")))


def orientations() -> Iterator[Hostile]:
    for value in (*range(10), 65535):
        for number, ending in enumerate(("jpg", "png", "webp")):
            content = with_exif(ending, exif(value), 13_000 + 10 * min(value, 11) + number)
            yield Hostile(f"orientation {value}.{ending}", "orientation", content, True)
        pixels = np.asarray(_image(13_200 + min(value, 11))).tobytes()
        made = tiff(tags(48, 36, len(pixels), t274=(3, 1, value)), pixels)
        yield Hostile(f"orientation {value}.tif", "orientation", made, True if 1 <= value <= 8 else None)


def broken_exif() -> Iterator[Hostile]:
    turned = exif(6)
    for number, (name, block) in enumerate(
        {
            "empty": b"Exif\0\0",
            "cut off": turned[:17],
            "with a directory behind its end": b"Exif\0\0II*\0\xff\xff\xff\x7f",
            "with 65535 tags": turned[:14] + b"\xff\xff" + turned[16:],
            "with a directory that follows itself": turned[:-4] + b"\x08\0\0\0",
            "in two orders of bytes": b"Exif\0\0MM*\0" + turned[10:],
            "of noise": b"Exif\0\0" + random.Random(3).randbytes(200),
            "of text": b"Exif\0\0II<script>alert(1)</script>",
            "with an orientation of 4294967295 values": turned.replace(b"\1\0\0\0\6", b"\xff\xff\xff\xff\6"),
            "with an orientation that is a text": turned.replace(b"\x12\1\3\0", b"\x12\1\2\0"),
        }.items()
    ):
        for place, ending in enumerate(("jpg", "png", "webp")):
            yield Hostile(f"exif {name}.{ending}", "exif", with_exif(ending, block, 13_300 + 10 * number + place), True)


def modes() -> Iterator[Hostile]:
    """Make images of all bit depths and colour types."""
    deep = np.random.default_rng(13_500).integers(0, 65536, (36, 48, 4)).astype(">u2")
    palette = _image(13_501, "P")
    few = Image.new("P", (48, 36))
    few.putdata(np.random.default_rng(13_502).integers(0, 3, 48 * 36).tolist())
    few.putpalette([0, 0, 0, 200, 100, 50, 20, 90, 230])
    for name, content in {
        "16 bits grey.png": png((48, 36), _rows(deep[:, :, 0]), depth=16, colour=0),
        "16 bits grey and alpha.png": png((48, 36), _rows(deep[:, :, 1:3]), depth=16, colour=4),
        "16 bits colour.png": png((48, 36), _rows(deep[:, :, :3]), depth=16, colour=2),
        "16 bits colour and alpha.png": png((48, 36), _rows(deep), depth=16, colour=6),
        "12 bits in 16.png": png((48, 36), _rows((deep[:, :, 3] >> 4).astype(">u2")), depth=16, colour=0),
        "1 bit.png": encoded(_image(13_503, "1"), "PNG"),
        "1 bit.bmp": encoded(_image(13_504, "1"), "BMP"),
        "1 bit.tif": encoded(_image(13_505, "1"), "TIFF"),
        "1 bit.gif": encoded(_image(13_506, "1"), "GIF"),
        "2 bits.png": encoded(few, "PNG", bits=2),
        "palette.bmp": encoded(_image(13_507, "P"), "BMP"),
        "palette.tif": encoded(_image(13_508, "P"), "TIFF"),
        "palette with a transparent colour.png": encoded(palette, "PNG", transparency=3),
        "palette with transparent colours.png": encoded(_image(13_509, "P"), "PNG", transparency=bytes(range(200))),
        "palette with a transparent colour.gif": encoded(_image(13_510, "P"), "GIF", transparency=3),
        "grey with a transparent shade.png": encoded(_image(13_511, "L"), "PNG", transparency=99),
        "colour with a transparent colour.png": encoded(_image(13_512), "PNG", transparency=(9, 9, 9)),
        "grey and alpha.webp": encoded(_image(13_513, "LA"), "WEBP"),
        "colour and alpha.tif": encoded(_image(13_514, "RGBA"), "TIFF"),
        "colour and alpha.avif": encoded(_image(13_515, "RGBA"), "AVIF"),
        "colour and alpha.jp2": encoded(_image(13_516, "RGBA"), "JPEG2000"),
        "grey.jp2": encoded(_image(13_517, "L"), "JPEG2000"),
        "grey.avif": encoded(_image(13_518, "L"), "AVIF"),
        "colour and alpha.png": encoded(_image(13_519, "RGBA"), "PNG"),
        "all transparent.png": encoded(Image.new("RGBA", (48, 36)), "PNG"),
        "of 4:4:0 and progressive.jpg": encoded(_image(13_520), progressive=True, subsampling=0, quality=5),
    }.items():
        yield Hostile(f"mode {name}", "mode", content, True)
    grey16 = np.asarray(deep[:, :, 0].astype("<u2"))
    for name, content in {
        "16 bits grey.tif": tiff(
            tags(48, 36, grey16.nbytes, t258=(3, 1, 16), t262=(3, 1, 1), t277=(3, 1, 1)), grey16.tobytes()
        ),
        "16 bits colour.tif": tiff(
            tags(48, 36, 48 * 36 * 6, t258=(3, 3, struct.pack("<HHH", 16, 16, 16))), deep[:, :, 1:].astype("<u2").tobytes()
        ),
        "cmyk.tif": encoded(_image(13_521, "CMYK"), "TIFF"),
        "lab.tif": tiff(tags(48, 36, 48 * 36 * 3, t262=(3, 1, 8)), np.asarray(_image(13_522)).tobytes()),
        "ycbcr.tif": encoded(_image(13_523, "YCbCr"), "TIFF"),
    }.items():
        yield Hostile(f"mode {name}", "mode", content, True if "16" in name else None)


LAYOUTS = {
    "16 bits in planes": tiffs.Layout("u16", planar=True),
    "16 bits in planes and tiles": tiffs.Layout("u16", planar=True, tile=(16, 16), compression=5, predictor=2),
    "floating point in planes": tiffs.Layout("f32", planar=True, compression=8, predictor=3),
    "16 bits, white at 0": tiffs.Layout("u16", tiffs.WHITE_0, order=">"),
    "floating point, white at 0": tiffs.Layout("f64", tiffs.WHITE_0),
    "16 bits and a fourth band": tiffs.Layout("u16", extra=(0,)),
    "16 bits and alpha in planes": tiffs.Layout("u16", extra=(2,), planar=True),
    "16 bits multiplied by alpha": tiffs.Layout("u16", extra=(1,), big=True),
    "grey and alpha": tiffs.Layout("u8", tiffs.BLACK_0, (2,), compression=32773),
    "4 bits in tiles": tiffs.Layout("u4", tiffs.BLACK_0, tile=(16, 32)),
    "12 bits": tiffs.Layout("u12", tiffs.BLACK_0, compression=5),
    "1 bit from the right": tiffs.Layout("u1", tiffs.WHITE_0, fill_order=2),
    "a palette in tiles": tiffs.Layout("u8", tiffs.PALETTE, tile=(16, 16)),
    "cmyk in planes": tiffs.Layout("u8", tiffs.CMYK, planar=True, compression=5),
    "cmyk of 16 bits": tiffs.Layout("u16", tiffs.CMYK),
    "five bands": tiffs.Layout("u8", extra=(0, 0)),
    "seven bands of 16 bits": tiffs.Layout("u16", extra=(2, 0, 0, 0), planar=True),
    "lab of 16 bits": tiffs.Layout("u16", tiffs.LAB),
    "32 bits": tiffs.Layout("u32", tiffs.BLACK_0, planar=True),
}  # fmt: skip


def layouts() -> Iterator[Hostile]:
    """Make layouts for which OpenCV leaves pixels unwritten or negative, or takes a band for transparency."""
    for number, (name, layout) in enumerate(LAYOUTS.items()):
        content = tiffs.written(layout, tiffs.samples(layout, 17_000 + number))
        yield Hostile(f"layout {name}.tif", "layout", content, tiffs.is_supported(layout))
    bright = tiffs.samples(tiffs.Layout("f32"), 17_100)
    bright[3, 4] = 1.01
    yield Hostile("layout a little over 1.tif", "layout", tiffs.written(tiffs.Layout("f32"), bright), True)
    pixels = np.random.default_rng(17_200).integers(0, 256, (36, 48, 4), dtype=np.uint8)
    for number, (ending, content, usable) in enumerate((
        ("ppm", b"P6 48 36 99\n" + (pixels[..., :3] % 100).tobytes(), True),
        ("pgm", b"P5 48 36 4095\n" + (pixels[..., 0] * 16).astype(">u2").tobytes(), True),
        ("pgm", b"P2 48 36 300 " + " ".join(map(str, pixels[..., 1].ravel())).encode(), True),
        ("jp2", encoded(Image.fromarray(pixels[..., 2:]), "JPEG2000"), False),
        ("jp2", encoded(Image.fromarray(pixels[..., 1:]), "JPEG2000", tile_size=(16, 16), offset=(5, 3)), False),
        ("jp2", encoded(_image(17_201, "YCbCr"), "JPEG2000"), False),
        ("png", png((48, 36), _rows(pixels[..., :2].astype(">u2") * 99), depth=16, colour=4,
                    before=png_chunk(b"sBIT", b"\x0c\x0c")), True),
    )):  # fmt: skip
        yield Hostile(f"layout {number}.{ending}", "layout", content, usable)


def sizes() -> Iterator[Hostile]:
    """Make images of one pixel, one row and one column."""
    forms = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF", "ppm": "PPM",
             "avif": "AVIF", "jp2": "JPEG2000"}  # fmt: skip
    for number, (ending, form) in enumerate(forms.items()):
        for width, height in ((1, 1), (1, 10_000), (10_000, 1), (2, 3)):
            if ending in ("avif", "jp2") and width * height > 6:
                continue
            pixels = np.random.default_rng((13_600, number, width)).integers(0, 256, (height, width, 3), dtype=np.uint8)
            yield Hostile(f"size {width} x {height}.{ending}", "size", encoded(Image.fromarray(pixels), form), True)


def animations() -> Iterator[Hostile]:
    for number, (ending, form) in enumerate(
        {"gif": "GIF", "webp": "WEBP", "png": "PNG", "tif": "TIFF", "avif": "AVIF"}.items()
    ):
        for count in (2, 12):
            first, *others = (_image(16_000 + 100 * number + 20 * (count == 2) + place) for place in range(count))
            content = _timeless(encoded(first, form, save_all=True, append_images=others))
            yield Hostile(f"animated, {count} images.{ending}", "animated", content, True)
            if ending != "tif":  # its directories are between the images
                yield Hostile(f"animated, {count} images, cut.{ending}", "animated", content[: len(content) * 2 // 3])


def _timeless(data: bytes) -> bytes:
    """Remove the times of creation and modification from an AVIF sequence."""
    content = bytearray(data)
    for name in (b"mvhd", b"tkhd", b"mdhd"):
        if (at := content.find(name)) >= 0:
            content[at + 8 : at + 24] = bytes(16)
    return bytes(content)


def trailing() -> Iterator[Hostile]:
    """Append another image, an archive or a script after the end."""
    for number, (ending, form) in enumerate({"jpg": "JPEG", "png": "PNG", "gif": "GIF", "bmp": "BMP", "webp": "WEBP"}.items()):
        for place, (what, more) in enumerate(
            {
                "a jpeg": encoded(_image(13_900)),
                "an archive": b"PK\x03\x04" + bytes(60) + b"PK\x05\x06" + bytes(18),
                "a script": b"<script>alert(1)</script><?php system('id'); ?>",
            }.items()
        ):
            content = encoded(_image(13_910 + 10 * number + place), form) + more
            yield Hostile(f"{form.lower()} with {what} behind it.{ending}", "trailing", content, True)


NAMES = (
    "猫の写真.jpg", "صورة قطة.jpg", "Фото кошки.jpg", "แมว.jpg", "🐈\u200d⬛️.jpg", "cafe\u0301.jpg", "caf\u00e9.jpg",
    "\u202egpj.exe.jpg", "zero\u200bwidth.jpg", "ﬁ.jpg", "\u0130stanbul \u0131I.jpg", "\ufeffmark.jpg", "\u2028line.jpg",
    "line\nbreak.jpg", "\n.jpg", "carriage\rreturn.jpg", "tab\tab.jpg", "bell\a and backspace\b\b.jpg", "\x7f.jpg", "\x01.jpg",
    "\x1b[31mred\x1b[0m.jpg", "\x1b]0;title\a.jpg", "\x1b[2J\x1b[H.jpg", "\x9b31m.jpg", "\x1b]8;;http:a\x1b\\link.jpg",
    "-rf.jpg", "--help.jpg", "--.jpg", "-.jpg", "-0.jpg", "@file.jpg", "+x.jpg", "~.jpg", "~root.jpg", "~.jpg~.jpg",
    "it's.jpg", 'say "cheese".jpg', "`touch pwned`.jpg", "$(touch pwned).jpg", "$HOME.jpg", "${IFS}.jpg", "a;touch pwned;.jpg",
    "a&&touch pwned.jpg", "a|touch pwned.jpg", ">pwned.jpg", "<pwned.jpg", "!1.jpg", "#hash.jpg", "a=b.jpg", "(brackets).jpg",
    "*.jpg", "?.jpg", "[abc].jpg", "[!a].jpg", "[.jpg", "**.jpg", "{a,b}.jpg", "{path}.jpg", "{0.__class__}.jpg", "%s%n%x.jpg",
    "%2e%2e%2fetc.jpg", "%00.jpg", "\\.jpg", "a\\b.jpg", "..\\..\\up.jpg", "\\x41.jpg", "C:\\x.jpg", "a:b.jpg", "CON.jpg",
    "nul.jpg", "[bold red]x.jpg", "[bold.jpg", "=1+1.jpg", "=cmd|'C'!A0.jpg", "@SUM(1).jpg", "a,b,c.jpg", 'a","b.jpg',
    "<img src=x onerror=alert(1)>.jpg", "<!--.jpg", "]]>.jpg", "&lt;.jpg", "' OR 1=1 --.jpg", "a?b=c#d.jpg", "http:a.jpg",
    " leading space.jpg", "trailing space.jpg ", " ", "dot at the end.jpg.", "two..dots.jpg", "no ending", "...jpg.jpg",
    "photo.jpg.exe", "photo.php.jpg", "photo.zip", "photo.tar.gz", "photo.tgz", "PHOTO.ZIP.JPG", "photo.csv", "photo.JPEG",
    "\udcff\udcfe.jpg", "half\udcc3.jpg", "\udc80.jpg", "latin-1 caf\udce9.jpg", "\udced\udca0\udc80.jpg", "\udcff\n\x1b[m.jpg",
    "n" * 251 + ".jpg", "写" * 83 + "xx.jpg", "\udcff" * 251 + ".jpg", "e" * 255, "r" * 251 + ".png", "null", "None.jpg",
)  # fmt: skip


def named() -> Iterator[Hostile]:
    """Give valid images names that a program on the way may misinterpret."""
    for number, name in enumerate(NAMES):
        yield Hostile(name, "named", encoded(_image(14_000 + number), quality=85), True)


# -- a hostile folder -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Planted:
    """A data folder. kinds, usable: the attributes of `Hostile` by path. ignored: the files that clean only counts.

    good: the valid images for training.
    """

    root: Path
    kinds: dict[str, str]
    usable: dict[str, bool | None]
    ignored: frozenset[str]
    good: tuple[str, ...]


def plant(root: Path, made: Sequence[Hostile]) -> Planted:
    """Make valid images in three classes, the hostile files in folders by kind, and links, pipes and sockets.

    The folder `elsewhere`, beside the data folder, contains the targets of links.
    """
    make_classes(root, dict.fromkeys(CLASSES, GOOD))
    good = tuple(f"{label}/{number:03d}.png" for label in CLASSES for number in range(GOOD))
    kinds, usable = dict.fromkeys(good, "good"), dict[str, bool | None](dict.fromkeys(good, True))
    ignored = set()

    def note(path: str, kind: str, is_usable: bool | None) -> Path:
        assert path not in kinds
        kinds[path], usable[path] = kind, is_usable
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        return root / path

    for number, file in enumerate(made):
        path = f"{CLASSES[number % 3]}/{file.kind}/{file.name}"
        note(path, file.kind, file.usable).write_bytes(file.content)
        if file.name.startswith("."):
            ignored.add(path)
    one, two, three = CLASSES

    # names and depth of folders
    for number, folder in enumerate(
        ("photo.jpg", "-rf", "new\nline", "\x1b[31mred", "\udcff\udcfe", "*", "[a]", "$(touch pwned)", " ", "x.zip", "f" * 255)
    ):
        note(f"{two}/{folder}/image.jpg", "folder", True).write_bytes(encoded(_image(15_000 + number)))
    deep = "/".join(["a folder in a folder, of which there are many"] * 12)
    for number, depth in enumerate((240, 260, 520)):
        note(f"{three}/{deep[:depth].rstrip(' /')}/{depth} deep.jpg", "deep", True).write_bytes(
            encoded(_image(15_100 + number))
        )
    note(f"{three}/{deep[:500].rstrip(' /')}/half and deep.jpg", "deep", False).write_bytes(encoded(_image(15_110))[:700])
    (root / one / "empty folder.jpg").mkdir()

    # files with several names
    for number, ending in enumerate(("jpg", "png")):
        note(f"{one}/hard/first {number}.jpg", "hard link", True).write_bytes(encoded(_image(15_200 + number)))
        os.link(root / one / "hard" / f"first {number}.jpg", note(f"{one}/hard/second {number}.{ending}", "hard link", True))
    note(f"{one}/hard/half.jpg", "hard link", False).write_bytes(encoded(_image(15_210))[:700])
    os.link(root / one / "hard/half.jpg", note(f"{two}/hard/half too.jpg", "hard link", False))
    note(f"{two}/links/target.jpg", "link", True).write_bytes(encoded(_image(15_220)))
    note(f"{two}/links/misnamed.png", "link", True).write_bytes(encoded(_image(15_221)))
    write(root.parent / "elsewhere" / "outside.jpg", encoded(_image(15_222)))
    write(root.parent / "elsewhere" / "misnamed.png", encoded(_image(15_223)))
    write(root.parent / "elsewhere" / "half.jpg", encoded(_image(15_224))[:700])
    for name, target, is_usable in (
        ("good.jpg", "target.jpg", True),
        ("to a misnamed one.jpg", "misnamed.png", True),
        ("to a link.jpg", "good.jpg", True),
        ("outside.jpg", str(root.parent.resolve() / "elsewhere/outside.jpg"), True),
        ("misnamed outside.png", "../../../elsewhere/misnamed.png", True),
        ("half outside.jpg", "../../../elsewhere/half.jpg", False),
        ("dangling.jpg", "nowhere.jpg", False),
        ("looping.jpg", "looping.jpg", False),
        ("looping 1.jpg", "looping 2.jpg", False),
        ("looping 2.jpg", "looping 1.jpg", False),
        ("to a device.jpg", "/dev/zero", False),
        ("to a secret.jpg", "/etc/passwd", False),
        ("to memory.jpg", "/proc/self/mem", False),
        ("with a name like a path.jpg", "x" * 255, False),
    ):
        note(f"{two}/links/{name}", "link", is_usable).symlink_to(target)
    (root / two / "links" / "here").symlink_to(".")
    (root / two / "links" / "up").symlink_to("..")

    # pipes, sockets and huge files
    os.mkfifo(note(f"{three}/pipe.jpg", "pipe", False))
    os.mkfifo(note(f"{three}/pipe without an ending", "pipe", False))
    os.mkfifo(note(f"{three}/pipe.zip", "pipe", False))
    os.mkfifo(note(f"{three}/pipe.tar.gz", "pipe", False))
    lies_in = note(f"{three}/socket.jpg", "socket", False).parent  # a relative path, because it may have about a hundred bytes
    with contextlib.chdir(lies_in), socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
    with open(note(f"{three}/a gibibyte and more.jpg", "huge", False), "wb") as file:
        file.write(encoded(_image(15_300)))
        file.truncate((1 << 30) + 1)
    with open(note(f"{three}/with 40 MB behind it.jpg", "huge", True), "wb") as file:
        file.write(encoded(_image(15_301)))
        file.truncate(40_000_000)

    # ignored files
    for path in (
        "loose.jpg", "readme.md", ".hidden/image.jpg", f"{one}/.hidden.jpg", f"{one}/.hidden/image.jpg", f"{one}/.jpg",
        f"{one}/Thumbs.db", f"{two}/desktop.ini", f"{two}/__MACOSX/._image.jpg", f"{three}/.DS_Store", "__MACOSX/x.jpg",
    ):  # fmt: skip
        ignored.add(path)
        note(path, "ignored", None).write_bytes(encoded(photo(1)))
    return Planted(root, kinds, usable, frozenset(ignored), good)


def recorded(root: Path) -> dict[str, tuple[str, bytes | str]]:
    """Return (kind, bytes or target) of every file below a folder by path; of a huge file, its size and checksum."""
    found: dict[str, tuple[str, bytes | str]] = {}
    for here, folders, names in os.walk(root):
        for name in [*names, *(folder for folder in folders if os.path.islink(os.path.join(here, folder)))]:
            path = os.path.join(here, name)
            place = os.path.relpath(path, root)
            if os.path.islink(path):
                found[place] = ("link", os.readlink(path))
            elif not os.path.isfile(path):
                found[place] = ("special", str(os.lstat(path).st_mode))
            elif os.path.getsize(path) > 10_000_000:
                with open(path, "rb") as file:
                    found[place] = ("huge", f"{os.path.getsize(path)} {zlib.crc32(file.read(100_000))}")
            else:
                found[place] = ("file", Path(path).read_bytes())
    return found
