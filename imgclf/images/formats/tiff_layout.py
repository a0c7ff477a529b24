"""Read the tags of the first TIFF directory and check them against the supported layouts.

Based on TIFF 6.0 and the notes of libtiff. ImageError has the reason `unsupported` for other layouts and `damaged` for values
that are impossible.
"""

import dataclasses
import struct
from collections.abc import Container, Iterator
from typing import Any, BinaryIO

import numpy as np

from imgclf.core.errors import ImageError
from imgclf.images.formats import unpacking

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIPS, ORIENTATION = 256, 257, 258, 259, 262, 266, 273, 274
SAMPLES, ROWS, STRIP_SIZES, PLANAR, FAX3_OPTIONS, FAX4_OPTIONS, PREDICTOR, PALETTE = 277, 278, 279, 284, 292, 293, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_SIZES, INK_SET, EXTRA_SAMPLES, FORMAT = 322, 323, 324, 325, 332, 338, 339
JPEG_TABLES, LUMA, SUBSAMPLING, REFERENCE = 347, 529, 530, 532
_NEEDED = frozenset(
    (WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIPS, ORIENTATION, SAMPLES, ROWS, STRIP_SIZES, PLANAR,
     FAX3_OPTIONS, FAX4_OPTIONS, PREDICTOR, PALETTE, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_SIZES, INK_SET, EXTRA_SAMPLES, FORMAT,
     JPEG_TABLES, LUMA, SUBSAMPLING, REFERENCE)
)  # fmt: skip
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 7: "B", 13: "I", 16: "Q", 18: "Q"}  # 2: text; 13, 18: offsets; 5: rationals
_LONG = frozenset((STRIPS, STRIP_SIZES, TILES, TILE_SIZES))  # tags whose values may need more than 32 bits

GREY_WHITE_0, GREY, RGB, PALETTE_COLOUR, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
_COLOURS = {GREY_WHITE_0: 1, GREY: 1, RGB: 3, PALETTE_COLOUR: 1, CMYK: 4, YCBCR: 3}  # samples per colour type
_KINDS = {4: "a mask", 8: "Lab", 9: "Lab", 10: "Lab", 32844: "LogL", 32845: "LogLuv"}  # camera RAWs are refused earlier
LZW, JPEG = 5, 7
FAX = (2, 3, 4)
_PREDICTED = (LZW, 8, 32946)  # compressions that allow a predictor: LZW and Deflate
MAX_BYTES = 1 << 30  # of decompressed samples
MAX_ROW = 1 << 24  # bytes of a row, which is decompressed as a whole and may need 16 times as much memory
MAX_VALUES = 1 << 18  # of one tag
MAX_PIECES = 1 << 17  # strips or tiles

Tags = dict[int, tuple[int, ...]]


def damaged() -> ImageError:
    """Return the error for a damaged or truncated TIFF."""
    return ImageError("damaged", "damaged or truncated TIFF: it cannot be decoded to the end")


def unsupported(what: str) -> ImageError:
    """Return the error for an unsupported TIFF. what: its layout, as words that follow "TIFF"."""
    return ImageError("unsupported", f"TIFF {what}, which is not supported; save it as RGB or grey of 8 or 16 bits")


def read_tags(file: BinaryIO) -> Tags:
    """Return the tags of the first directory that `check` needs, with their values (two per rational). Raises ImageError."""
    start = read_start(file)
    tags = read_directory(file, start, start.first, _NEEDED)[0]
    if any(max(values) >> 32 for tag, values in tags.items() if tag not in _LONG):
        raise damaged()
    return tags


@dataclasses.dataclass(frozen=True)
class Start:
    """The header of a TIFF: byte order for `struct`, whether it is a BigTIFF, and the offset of the first directory."""

    byte_order: str
    big: bool
    first: int


def read_start(file: BinaryIO) -> Start:
    """Read the header. Raises ImageError if it is truncated."""
    file.seek(0)
    head = file.read(16)
    byte_order = "<" if head[:2] == b"II" else ">"
    try:
        big = struct.unpack_from(byte_order + "H", head, 2)[0] == 43
        return Start(byte_order, big, struct.unpack_from(byte_order + ("Q" if big else "I"), head, 8 if big else 4)[0])
    except struct.error as error:
        raise damaged() from error


def read_directory(file: BinaryIO, start: Start, at: int, wanted: Container[int]) -> tuple[Tags, int]:
    """Return (the wanted tags of the directory at this offset, offset of the next directory or 0).

    Values of unknown types are skipped. Raises ImageError if the directory is damaged.
    """

    def read(form: str, at: int) -> tuple[Any, ...]:
        file.seek(at)
        return struct.unpack(start.byte_order + form, file.read(struct.calcsize(start.byte_order + form)))

    found: Tags = {}
    offset_type, count_type = ("Q", "Q") if start.big else ("I", "H")
    try:
        (count,) = read(count_type, at)
        at += struct.calcsize(count_type)
        wide = struct.calcsize(offset_type)
        for index in range(min(count, 4096)):
            entry = at + index * (4 + 2 * wide)
            tag, kind, number = read("HH" + offset_type, entry)
            if tag not in wanted or kind not in _TYPES or tag in found or not number:
                continue
            if number > MAX_VALUES:
                raise unsupported(f"with {number:,} values of one tag")
            form = f"{len(_TYPES[kind]) * number}{_TYPES[kind][0]}"  # `struct` caches 32 bytes per letter
            place = entry + 4 + wide
            if struct.calcsize("=" + form) > wide:
                (place,) = read(offset_type, place)
            found[tag] = read(form, place)
    except (struct.error, OverflowError, ValueError) as error:
        raise damaged() from error
    try:
        return found, int(read(offset_type, at + count * (4 + 2 * wide))[0])
    except (struct.error, OverflowError, ValueError):
        return found, 0


def first_value(tags: Tags, tag: int, default: int) -> int:
    """Return the first value of a tag, or the default if the tag is missing."""
    return tags.get(tag, (default,))[0]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The checked layout of the image.

    bits: per sample. samples: per pixel. alpha: value of the tag ExtraSamples (1: premultiplied alpha, 2: alpha), else 0.
    tall, wide: pixels of a strip or tile. pieces: (offset, bytes) of each strip or tile.
    """

    width: int
    height: int
    bits: int
    is_float: bool
    compression: int
    photometric: int
    samples: int
    alpha: int
    planar: bool
    tiled: bool
    tall: int
    wide: int
    predictor: int
    orientation: int
    byte_order: str
    pieces: tuple[tuple[int, int], ...]

    @property
    def depth(self) -> int:
        """Return the samples per pixel in one strip or tile."""
        return 1 if self.planar else self.samples

    @property
    def row_bytes(self) -> int:
        """Return the decompressed bytes in one row of a strip or tile."""
        return -(-self.wide * self.depth * self.bits // 8)

    def places(self) -> Iterator[tuple[int, int, int, tuple[int, int]]]:
        """Yield (plane, top, left, (offset, bytes)) for each strip or tile."""
        down, across = -(-self.height // self.tall), -(-self.width // self.wide)
        for number, piece in enumerate(self.pieces):
            plane, rest = divmod(number, down * across)
            row, column = divmod(rest, across)
            yield plane, row * self.tall, column * self.wide, piece


def check(tags: Tags, byte_order: str) -> Layout:
    """Return the layout that the tags declare. Raises ImageError if it is unsupported, damaged or too large."""
    width, height = first_value(tags, WIDTH, 0), first_value(tags, HEIGHT, 0)
    samples, compression = first_value(tags, SAMPLES, 1), first_value(tags, COMPRESSION, 1)
    if width <= 0 or height <= 0:
        raise damaged()
    if PHOTOMETRIC not in tags:
        raise unsupported("that does not declare its colours")
    photometric = first_value(tags, PHOTOMETRIC, 0)
    if photometric not in _COLOURS:
        raise unsupported(f"of {_KINDS.get(photometric, f'colours of kind {photometric}')}")
    extra = samples - _COLOURS[photometric]
    if extra < 0:
        raise damaged()
    if extra > 1 or samples > 4 or (extra and photometric == PALETTE_COLOUR):
        raise unsupported(f"of {samples} bands")
    alpha = first_value(tags, EXTRA_SAMPLES, 0) if extra else 0
    if alpha == 1 and photometric == GREY_WHITE_0:
        raise unsupported("of inverted grey with premultiplied alpha")
    bits, is_float = _depth(tags, samples)
    planar = samples > 1 and first_value(tags, PLANAR, 1) == 2
    _check_compression(compression, photometric, bits, planar, samples)
    _check_colours(tags, photometric, bits, is_float, compression)
    tiled = TILE_WIDTH in tags
    tall = first_value(tags, TILE_HEIGHT, 0) if tiled else min(first_value(tags, ROWS, height) or height, height)
    wide = first_value(tags, TILE_WIDTH, 0) if tiled else width
    if tall <= 0 or wide <= 0:
        raise damaged()
    count = -(-height // tall) * -(-width // wide) * (samples if planar else 1)
    predictor = first_value(tags, PREDICTOR, 1)
    if predictor != 1 and (compression not in _PREDICTED or predictor not in (2, 3) or bits not in (8, 16, 32, 64)):
        raise unsupported(f"with predictor {predictor}")
    if predictor == 3 and not is_float:
        raise unsupported("of integers with the floating-point predictor")
    if count > MAX_PIECES:
        raise unsupported(f"in {count:,} strips or tiles")
    layout = Layout(
        width, height, bits, is_float, compression, photometric, samples, alpha, planar, tiled, tall, wide, predictor,
        first_value(tags, ORIENTATION, 1), byte_order, (),
    )  # fmt: skip
    if layout.row_bytes > MAX_ROW:
        raise ImageError("too-large", f"TIFF with rows of more than {MAX_ROW:,} bytes after decompression")
    if count * tall * layout.row_bytes > MAX_BYTES:
        raise ImageError("too-large", f"TIFF of more than {MAX_BYTES:,} bytes after decompression")
    return dataclasses.replace(layout, pieces=_pieces(tags, layout, count))


def _pieces(tags: Tags, layout: Layout, count: int) -> tuple[tuple[int, int], ...]:
    """Return (offset, bytes) of each strip or tile. Raises ImageError if one is not declared."""
    places = tags.get(TILES if layout.tiled else STRIPS) or tags.get(STRIPS, ())
    sizes = tags.get(TILE_SIZES if layout.tiled else STRIP_SIZES) or tags.get(STRIP_SIZES, ())
    if not sizes and layout.compression == 1:
        sizes = (layout.tall * layout.row_bytes,) * count
    if len(places) < count or len(sizes) < count:
        raise damaged()
    return tuple(zip(places[:count], sizes[:count], strict=True))


def _depth(tags: Tags, samples: int) -> tuple[int, bool]:
    """Return (bits per sample, whether samples are floating point). Raises ImageError for unsupported samples."""
    depths, formats = set(tags.get(BITS, (1,))[:samples]), set(tags.get(FORMAT, (1,))[:samples])
    if len(depths) != 1 or len(formats) != 1:
        raise unsupported("with samples of different types")
    (bits,), (form,) = depths, formats
    if form == 3 and bits in (16, 32, 64):
        return bits, True
    if form != 1 or not 1 <= bits <= 16:
        kind = {1: "", 2: "signed ", 3: "floating-point "}.get(form, "unusual ")
        raise unsupported(f"with {kind}samples of {bits} bits")
    return bits, False


def _check_compression(compression: int, photometric: int, bits: int, planar: bool, samples: int) -> None:
    """Raise ImageError for a compression that is unsupported, in general or with these colours, bits and samples."""
    if compression not in unpacking.CODECS and compression != JPEG and compression not in FAX:
        raise unsupported(f"with compression {compression}")
    if compression in FAX and (bits, samples) != (1, 1):
        raise unsupported(f"of {bits} bits with fax compression")
    if compression == JPEG and (bits != 8 or photometric in (PALETTE_COLOUR, CMYK) or (not planar and samples not in (1, 3))):
        raise unsupported(f"of {samples} samples of {bits} bits with JPEG compression")
    if compression == JPEG and photometric == YCBCR and planar:
        raise unsupported("of planar YCbCr with JPEG compression")


def _check_colours(tags: Tags, photometric: int, bits: int, is_float: bool, compression: int) -> None:
    """Raise ImageError for colours that are unsupported, in general or with these bits."""
    if is_float and photometric not in (GREY_WHITE_0, GREY, RGB):
        raise unsupported("of floating-point samples in colours other than RGB and grey")
    if photometric == CMYK and (bits != 8 or first_value(tags, INK_SET, 1) != 1):
        raise unsupported(f"of {'CMYK' if first_value(tags, INK_SET, 1) == 1 else 'inks other than CMYK'} with {bits} bits")
    if photometric == PALETTE_COLOUR and len(tags.get(PALETTE, ())) != 3 << bits:
        raise damaged()
    if photometric == YCBCR and compression != JPEG:
        reference = tags.get(REFERENCE, (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1))[::2]
        luma = tags.get(LUMA, (299, 1000, 587, 1000, 114, 1000))
        weights = [top / (bottom or 1) for top, bottom in zip(luma[::2], luma[1::2], strict=False)]
        usual = reference == (0, 255, 128, 255, 128, 255) and np.allclose(weights, (0.299, 0.587, 0.114), atol=0.001)
        if bits != 8 or tags.get(SUBSAMPLING, (2, 2)) != (1, 1) or not usual:
            raise unsupported("of subsampled or unusual YCbCr")
