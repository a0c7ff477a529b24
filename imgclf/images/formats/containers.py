"""Find where an image ends inside its file and whether more images follow, by parsing the container without decoding."""

import struct
from collections.abc import Iterator

from imgclf.images.formats.jpeg import FILLERS, JPEG_END, MAX_SEGMENTS, jpeg_end, jpeg_frame, jpeg_reaches_last_scan

PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
GIF_END = b"\x3b"
# A PNG may have _MAX_CHUNKS chunks plus one for each _CHUNK bytes of the file. Encoders write 4 kB or more into a chunk.
_MAX_CHUNKS, _CHUNK = 1 << 16, 1 << 10
_BLOCK = 1 << 6  # as _CHUNK, for the blocks of a GIF: all blocks of a frame but the last have 255 bytes


def end(data: bytes, kind: str) -> int | None:
    """Return the offset after the last byte of the image; None if the format does not declare it or the end is missing."""
    try:
        if kind == "JPEG":
            return jpeg_end(data)
        if kind == "PNG":
            return _png_end(data)
        if kind == "GIF":
            return _gif_blocks(data)[0]
        if kind == "WEBP":
            (size,) = struct.unpack_from("<I", data, 4)
            return 8 + size + (size & 1) if 8 + size <= len(data) else None
        if kind == "BMP":
            (size,) = struct.unpack_from("<I", data, 2)
            (offset,) = struct.unpack_from("<I", data, 10)
            return size if offset < size <= len(data) else None  # some writers set the size to 0
    except (struct.error, IndexError):
        pass
    return None


def has_end(kind: str) -> bool:
    """Return whether images of this format end with a mark that can be missing without loss of pixels."""
    return kind in ("JPEG", "PNG", "GIF")


def is_incomplete(data: bytes, kind: str) -> bool:
    """Return whether a file lacks data that it declares, in the cases that OpenCV does not report.

    For a PNG chunk that is longer than the file, OpenCV allocates up to 4 GB. It fills missing pixels with grey in a JPEG that
    has an end mark, and with black in a JPEG 2000 that lacks a tile.
    """
    try:
        if kind == "JPEG":  # except in arithmetic coding, a block of 8 x 8 pixels takes one bit or more
            marker, width, height = jpeg_frame(data) or (0, 0, 0)
            return marker <= 0xC2 and width * height > 1024 * len(data)
        if kind == "PNG":
            return _png_is_incomplete(data)
        return kind == "JPEG 2000" and _lacks_tiles(data)
    except (struct.error, ZeroDivisionError):
        return True


def completions(data: bytes, kind: str) -> Iterator[bytes]:
    """Yield versions of a file with the missing end mark restored. If all decode to the same pixels, no pixel is missing.

    A JPEG decoder invents missing pixels when it reaches the end mark. The versions have different bytes before the mark, so
    invented pixels differ between them, and stored pixels do not.
    """
    if kind == "JPEG" and jpeg_reaches_last_scan(data):
        data = data[:-1] if data.endswith(b"\xff") else data
        yield from (data + filler + JPEG_END for filler in (b"", *(bytes([byte]) * 64 for byte in FILLERS)))
    elif kind == "PNG":
        # The file may be truncated within the last chunk: remove the rest of that chunk and append all of it.
        kept = next((cut for cut in range(11, -1, -1) if data.endswith(PNG_END[:cut])), 0)
        yield data[: len(data) - kept] + PNG_END
    elif kind == "GIF":
        yield data + GIF_END


def is_animated(data: bytes, kind: str) -> bool:
    """Return whether the file contains more than one image: animation frames, or pages of a TIFF."""
    try:
        if kind == "GIF":
            return _gif_blocks(data)[1] > 1
        if kind == "PNG":
            position = data.find(b"acTL", 8, 1 << 16)
            if position < 0 or not data.find(b"IDAT", 8) - position >= 0:
                return False
            (frames,) = struct.unpack_from(">I", data, position + 4)
            return bool(frames > 1)
        if kind == "WEBP":
            return data[12:16] == b"VP8X" and bool(data[20] & 2)
        if kind == "AVIF":
            return data[8:12] == b"avis"
        if kind == "TIFF":
            return _tiff_pages(data) > 1
    except (struct.error, IndexError):
        pass
    return False


def without_animation(data: bytes, kind: str) -> bytes:
    """Return a PNG without its animation chunks, only with the image in IDAT. Other files are returned unchanged.

    OpenCV 5.0 reads outside its memory if animation chunks are damaged.
    """
    if kind != "PNG" or not any(name in data for name in _ANIMATION):
        return data
    kept, position = [data[:8]], 8
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4].rjust(4, b"\0"))
        end = position + 12 + length
        if data[position + 4 : position + 8] not in _ANIMATION:
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


def _png_is_incomplete(data: bytes) -> bool:
    """Return whether a PNG has a chunk that is longer than the file, or too many chunks."""
    position, chunks = 8, 0
    while position + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        chunks += 1
        if position + 8 + length > len(data) or chunks > _MAX_CHUNKS + len(data) // _CHUNK:
            return True
        if data[position : position + 8] == b"\0\0\0\0IEND":  # OpenCV does not stop at an IEND with a length
            break
        position += 12 + length
    return False


def _lacks_tiles(data: bytes) -> bool:
    """Return whether a JPEG 2000 has fewer tiles than its size requires."""
    start = data.find(b"\xff\x4f\xff\x51")
    right, bottom, _left, _top, width, height, left, top = struct.unpack_from(">8I", data, start + 8)
    position = start + 2
    for _segment in range(MAX_SEGMENTS):  # of the main header
        if data[position : position + 2] == b"\xff\x90":
            break
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    found = set()
    while data[position : position + 2] == b"\xff\x90":
        tile, length = struct.unpack_from(">HI", data, position + 4)
        found.add(tile)
        position += length or len(data)  # 0: up to the end of the file
    return bool(len(found) < -(-(right - left) // width) * -(-(bottom - top) // height))


def _png_end(data: bytes) -> int | None:
    """Return the offset after the IEND chunk; None if it is missing."""
    position = 8
    for _chunk in range(_MAX_CHUNKS + len(data) // _CHUNK):
        if position + 12 > len(data):
            return None
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        position += 12 + length
        if kind == b"IEND":
            return position if position <= len(data) else None
    return None


def _gif_blocks(data: bytes) -> tuple[int | None, int]:
    """Return (offset after the trailer or None, number of frames)."""
    position = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    frames = 0
    left = _MAX_CHUNKS + len(data) // _BLOCK
    while position < len(data) and left > 0:
        kind = data[position]
        left -= 1
        if kind == 0x3B:
            return position + 1, frames
        if kind == 0x21:  # extension: introducer, label, sub-blocks
            position += 2
        elif kind == 0x2C:  # image: descriptor, optional colour table, code size, sub-blocks
            flags = data[position + 9]
            position += 10 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0) + 1
            frames += 1
        else:
            return None, frames
        while data[position]:
            position += 1 + data[position]
            left -= 1
            if position >= len(data) or left <= 0:
                return None, frames
        position += 1
    return None, frames


def _tiff_pages(data: bytes) -> int:
    """Return 2 if a second directory follows the first and is not a reduced copy of it (a thumbnail), else 1."""
    byte_order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(byte_order + "H", data, 2)[0] == 43
    offset = struct.unpack_from(byte_order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    count = struct.unpack_from(byte_order + ("Q" if big else "H"), data, offset)[0]
    next_field = offset + (8 + 20 * count if big else 2 + 12 * count)
    second = struct.unpack_from(byte_order + ("Q" if big else "I"), data, next_field)[0]
    if not second:
        return 1
    count = struct.unpack_from(byte_order + ("Q" if big else "H"), data, second)[0]
    for index in range(min(count, 512)):
        entry = second + (8 + 20 * index if big else 2 + 12 * index)
        if struct.unpack_from(byte_order + "H", data, entry)[0] == 254:  # NewSubfileType: bit 0 marks a reduced copy
            return 1 if struct.unpack_from(byte_order + "I", data, entry + (12 if big else 8))[0] & 1 else 2
    return 2
