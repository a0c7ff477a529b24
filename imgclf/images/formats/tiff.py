"""Read the first image of a TIFF in one of the layouts listed here.

This reader is strict, because OpenCV does not write all output pixels in some layouts, and libtiff leaves pixels black that it
cannot decompress. Here every output sample comes from a byte of the file, or ImageError is raised: `damaged` if bytes are
missing or cannot be decompressed, `unsupported` if the layout is not in the list.

Grey of either polarity, RGB, palette, CMYK and YCbCr (8 bits, not subsampled outside JPEG); 1 to 16 bits, or floating point
from 0 to 1; strips and tiles; interleaved or planar samples; uncompressed, LZW, Deflate, PackBits, JPEG, fax; predictors;
one extra sample, which is alpha only if the file declares it.
"""

import io
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.images.formats import containers, scaling, unpacking
from imgclf.images.formats.tiff_layout import (  # fmt: skip
    BITS,
    CMYK,
    COMPRESSION,
    FAX,
    FAX3_OPTIONS,
    FAX4_OPTIONS,
    FILL_ORDER,
    GREY,
    GREY_WHITE_0,
    HEIGHT,
    JPEG,
    JPEG_TABLES,
    LZW,
    PALETTE,
    PALETTE_COLOUR,
    PHOTOMETRIC,
    ROWS,
    SAMPLES,
    STRIP_SIZES,
    STRIPS,
    WIDTH,
    YCBCR,
    Layout,
    Tags,
    check,
    damaged,
    first_value,
    read_tags,
    unsupported,
)


def size(file: BinaryIO) -> tuple[int, int]:
    """Return the stored (width, height) of the first image, in pixels. Raises ImageError."""
    tags = read_tags(file)
    return first_value(tags, WIDTH, 0), first_value(tags, HEIGHT, 0)


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode the first image to (height, width, 3) RGB, with orientation applied and transparency blended with white.

    Raises ImageError.
    """
    tags = read_tags(io.BytesIO(data))
    layout = check(tags, "<" if data[:2] == b"II" else ">")
    if layout.compression != 1 and sum(count for _place, count in layout.pieces) > 4 * len(data) + _MAX_SHARED:
        raise unsupported("whose strips or tiles share their bytes")  # the shared bytes would be decompressed many times
    is_index = layout.photometric == PALETTE_COLOUR
    pixels = np.zeros((layout.height, layout.width, layout.samples), np.uint16 if is_index else np.uint8)
    try:
        for plane, top, left, (offset, count) in layout.places():
            if offset + count > len(data) and layout.compression != 1:  # some writers declare too many uncompressed bytes
                raise damaged()
            rows = layout.tall if layout.tiled else min(layout.tall, layout.height - top)
            target = pixels[:, left : left + layout.wide, plane : plane + 1 if layout.planar else None]
            for block in _blocks(tags, layout, memoryview(data)[offset : offset + count], rows):
                target[top : top + len(block)] = block[: max(0, layout.height - top), : target.shape[1]]
                top += len(block)
    except ValueError as error:
        raise damaged() from error
    return np.asarray(scaling.orient(_rgb(tags, layout, pixels), layout.orientation), np.uint8)


_MAX_SHARED = 1 << 24  # bytes that may be shared: some writers store one empty tile for many


def _blocks(tags: Tags, layout: Layout, piece: memoryview, rows: int) -> Iterator[NDArray[Any]]:
    """Yield the rows of a strip or tile, in blocks (rows, layout.wide, layout.depth): uint8, or uint16 for palette indices."""
    if layout.compression == JPEG:
        yield _jpeg(tags, layout, piece, rows)
        return
    if first_value(tags, FILL_ORDER, 1) == 2:
        piece = memoryview(bytes(piece).translate(_REVERSED_BITS))
    if layout.compression in FAX:
        yield _scaled(layout, _fax(tags, layout, piece, rows))
        return
    for block in _decompressed(layout, piece, rows):
        yield _scaled(layout, _values(layout, block))


_REVERSED_BITS = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))  # the bits of each byte in reverse order


def _decompressed(layout: Layout, piece: memoryview, rows: int) -> Iterator[bytes | bytearray]:
    """Yield the decompressed bytes of a strip or tile, in blocks of whole rows.

    libtiff, through OpenCV, decodes LZW with an even number of bytes, because it is 30 times faster. The bytes are decoded as
    one strip of 16-bit grey, which OpenCV rejects if libtiff cannot fill it.
    """
    count = rows * layout.row_bytes
    if layout.compression == LZW:
        if len(piece) > 1 and piece[0] == 0 and piece[1] & 1:
            raise unsupported("with LZW in the old bit order (TIFF 5)")
        width = layout.row_bytes if layout.row_bytes % 2 else layout.row_bytes // 2
        height = count // 2 // width
        if count % 2 == 0 and max(width, height) <= _MAX_SIDE and count <= _MAX_BYTES:
            whole = _by_opencv(piece, width, height, {BITS: (16,), COMPRESSION: (LZW,)}).astype("<u2").tobytes()
            step = max(1, unpacking.BLOCK // layout.row_bytes) * layout.row_bytes
            yield from (whole[start : start + step] for start in range(0, count, step))
            return
    yield from unpacking.blocks(layout.compression, piece, layout.row_bytes, rows)


_MAX_SIDE, _MAX_BYTES = 1 << 20, 1 << 27  # limits for decoding with OpenCV: pixels per side, bytes


def _by_opencv(piece: memoryview, width: int, height: int, tags: Tags) -> NDArray[Any]:
    """Decode one strip with OpenCV, wrapped in a grey TIFF, to (height, width). Raises ImageError."""
    values = {
        WIDTH: (width,), HEIGHT: (height,), PHOTOMETRIC: (GREY,), STRIPS: (8,), SAMPLES: (1,), ROWS: (height,),
        STRIP_SIZES: (len(piece),), **tags,
    }  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, (value,) in sorted(values.items()))
    body = bytes(piece) + b"\0" * (len(piece) & 1)
    file = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(values)) + entries + bytes(4)
    image = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.shape != (height, width):
        raise damaged()
    return image


def _values(layout: Layout, block: bytes | bytearray) -> NDArray[Any]:
    """Unpack whole rows of bytes to samples (rows, layout.wide, layout.depth)."""
    shape = (len(block) // layout.row_bytes, layout.wide, layout.depth)
    if layout.bits not in (8, 16, 32, 64):
        bits = np.unpackbits(np.frombuffer(block, np.uint8).reshape(shape[0], -1), axis=1)
        bits = bits[:, : shape[1] * shape[2] * layout.bits].reshape(*shape, layout.bits)
        values = np.zeros(shape, np.uint8 if layout.bits < 8 else np.uint16)
        for number in range(layout.bits):
            values = values << 1 | bits[..., number]
        return values
    size = layout.bits // 8
    if layout.predictor == 3:  # the bytes of a row are sorted by significance; each is the difference to the previous one
        sums = np.frombuffer(block, np.uint8).reshape(shape[0], -1, layout.depth).cumsum(axis=1, dtype=np.uint8)
        sums = np.ascontiguousarray(sums.reshape(shape[0], size, -1).transpose(0, 2, 1))
        return np.asarray(sums.view(f">f{size}").reshape(shape))
    values = np.frombuffer(block, f"{layout.byte_order}u{size}").reshape(shape)
    if layout.predictor == 2:
        values = values.cumsum(axis=1, dtype=f"u{size}")
    elif layout.bits > 8:
        values = values.astype(f"u{size}")
    return values.view(f"f{size}") if layout.is_float else values


def _scaled(layout: Layout, values: NDArray[Any]) -> NDArray[Any]:
    """Scale samples to uint8. Palette indices stay unchanged."""
    if layout.photometric == PALETTE_COLOUR:
        return values
    return scaling.unit_to_uint8(values, "TIFF") if layout.is_float else scaling.to_uint8(values, (1 << layout.bits) - 1)


def _rgb(tags: Tags, layout: Layout, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert samples, uint8 or palette indices, to RGB."""
    rgb = np.zeros((layout.height, layout.width, 3), np.uint8)
    if layout.photometric == PALETTE_COLOUR:
        table = np.array(tags[PALETTE], np.uint32).reshape(3, -1).T
        shift = 0 if table.max() < 256 else 8  # some writers store 8-bit values, others 8-bit values times 256
        table = (table >> shift).astype(np.uint8)
        for row, indices in enumerate(pixels[..., 0]):
            rgb[row] = table[indices]
        return rgb
    if layout.photometric == CMYK:
        for row, inks in enumerate(255 - pixels):
            rgb[row] = (inks[:, :3].astype(np.uint16) * inks[:, 3:] + 127) // 255
        return rgb
    if layout.photometric in (GREY, GREY_WHITE_0):
        grey = pixels[..., :1] if layout.photometric == GREY else 255 - pixels[..., :1]
        rgb[:] = grey
    elif layout.photometric == YCBCR and layout.compression != JPEG:
        rgb[:] = cv2.cvtColor(np.ascontiguousarray(pixels[..., (0, 2, 1)]), cv2.COLOR_YCrCb2RGB)
    else:
        rgb = np.ascontiguousarray(pixels[..., :3])
    if layout.alpha in (1, 2):
        scaling.over_white(rgb, pixels[..., -1], premultiplied=layout.alpha == 1)
    return rgb


def _jpeg(tags: Tags, layout: Layout, piece: memoryview, rows: int) -> NDArray[np.uint8]:
    """Decode a JPEG strip or tile with the shared tables of the file, to (rows, wide, depth). Raises ImageError."""
    depth = layout.depth
    tables = _segments(bytes(tags.get(JPEG_TABLES, ())))[0]
    own, rest = _segments(bytes(piece))
    frame = next((segment for segment in own if segment[1] in (0xC0, 0xC1, 0xC2)), None)
    if frame is None or len(frame) < 10 or not rest:
        raise damaged()
    bits, height, width, components = struct.unpack_from(">BHHB", frame, 4)
    if bits != 8 or components != depth:
        raise unsupported(f"of JPEGs with {components} samples of {bits} bits")
    if width != layout.wide or not rows <= height <= layout.tall + 15:
        raise damaged()
    # Declare RGB or YCbCr as the TIFF does; otherwise the JPEG decoder would guess.
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([layout.photometric == YCBCR])
    stream = b"\xff\xd8" + adobe + b"".join(tables + own) + rest
    if containers.is_incomplete(stream, "JPEG"):
        raise damaged()
    flags = cv2.IMREAD_COLOR_RGB if depth == 3 else cv2.IMREAD_GRAYSCALE
    image = cv2.imdecode(np.frombuffer(stream, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise damaged()
    return np.asarray(image, np.uint8).reshape(height, width, depth)[:rows]


def _segments(stream: bytes) -> tuple[list[bytes], bytes]:
    """Return (header segments of a JPEG without application segments, the data from the first scan on)."""
    found: list[bytes] = []
    at = 2
    while at + 4 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xDA:
            return found, stream[at:]
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        if not 0xE0 <= marker <= 0xEF:
            found.append(stream[at:end])
        at = end
    return found, b""


def _fax(tags: Tags, layout: Layout, piece: memoryview, rows: int) -> NDArray[np.uint8]:
    """Decode fax data to 0 and 1: (rows, layout.wide, 1). Raises ImageError if it is truncated.

    OpenCV accepts truncated fax data. It is decoded again with other bytes appended: they change the result only if the data is
    truncated.
    """
    fax_tags: Tags = {tag: (first_value(tags, tag, 0),) for tag in (FAX3_OPTIONS, FAX4_OPTIONS)}
    fax_tags |= {COMPRESSION: (layout.compression,), BITS: (1,)}
    image, *others = (
        _by_opencv(memoryview(bytes(piece) + appended), layout.wide, rows, fax_tags) for appended in (b"", _NOISE, _NOISE[::-1])
    )
    if any((image != other).any() for other in others):
        raise damaged()
    return np.asarray(image > 127, np.uint8)[..., np.newaxis]


_NOISE = np.random.default_rng(1).bytes(2048)
