"""Where an image ends inside its file, and whether more images follow: read from the container, nothing is decoded."""

import struct
from collections.abc import Iterator

from imgclf.images.formats.jpeg import FILLERS, JPEG_END, MOST_SEGMENTS, jpeg_end, jpeg_frame, jpeg_scans_are_there

PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
GIF_END = b"\x3b"
_MOST_CHUNKS, _CHUNK = 1 << 16, 1 << 10  # of a PNG: so many, and one for so many bytes; encoders write 4 kB and more into each
_BLOCK = 1 << 6  # the same for the blocks of a GIF, of which all but the last of a frame have 255 bytes


def end(data: bytes, kind: str) -> int | None:
    """The offset behind the image's last byte, or None where the format does not tell or the end is missing."""
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
            return size if offset < size <= len(data) else None  # some writers leave the size 0
    except (struct.error, IndexError):
        pass
    return None


def has_end(kind: str) -> bool:
    """Whether images of this format say where they end with a mark that can be cut off without loss of a pixel."""
    return kind in ("JPEG", "PNG", "GIF")


def falls_short(data: bytes, kind: str) -> bool:
    """Whether a file lacks what it announces, where the decoder would not say so.

    For a PNG's chunk that is longer than the file, OpenCV makes room all the same, up to 4 GB. What is missing of a JPEG that
    has an end mark it makes grey, a missing tile of a JPEG 2000 black.
    """
    try:
        if kind == "JPEG":  # a block of 8 x 8 pixels takes a bit at least, except in arithmetic coding
            marker, width, height = jpeg_frame(data) or (0, 0, 0)
            return marker <= 0xC2 and width * height > 1024 * len(data)
        if kind == "PNG":
            return _png_falls_short(data)
        return kind == "JPEG 2000" and _tiles_are_missing(data)
    except (struct.error, ZeroDivisionError):
        return True


def completions(data: bytes, kind: str) -> Iterator[bytes]:
    """The bytes with the missing end mark put back; several must all decode to the same pixels for none to be missing.

    A JPEG's decoder makes up what it lacks when it meets the end mark. With different bytes between the data and the mark it
    makes up different pixels, unless it needed none of them.
    """
    if kind == "JPEG" and jpeg_scans_are_there(data):
        data = data[:-1] if data.endswith(b"\xff") else data
        yield from (data + filler + JPEG_END for filler in (b"", *(bytes([byte]) * 64 for byte in FILLERS)))
    elif kind == "PNG":
        # Cut anywhere within the last chunk; its bytes before the cut are put back whole.
        kept = next((cut for cut in range(11, -1, -1) if data.endswith(PNG_END[:cut])), 0)
        yield data[: len(data) - kept] + PNG_END
    elif kind == "GIF":
        yield data + GIF_END


def is_animated(data: bytes, kind: str) -> bool:
    """Whether the file holds more than one image: animation frames, or pages of a TIFF."""
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


def still(data: bytes, kind: str) -> bytes:
    """A PNG without the chunks of its animation: the image in IDAT alone. Anything else as it is.

    OpenCV 5.0 reads memory that is not its own when an animation's chunks are damaged.
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


def _png_falls_short(data: bytes) -> bool:
    position, chunks = 8, 0
    while position + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        chunks += 1
        if position + 8 + length > len(data) or chunks > _MOST_CHUNKS + len(data) // _CHUNK:
            return True
        if data[position : position + 8] == b"\0\0\0\0IEND":  # one that has a length is not the end to OpenCV
            break
        position += 12 + length
    return False


def _tiles_are_missing(data: bytes) -> bool:
    """Whether a JPEG 2000 has fewer tiles than its size asks for."""
    start = data.find(b"\xff\x4f\xff\x51")
    right, bottom, _left, _top, width, height, left, top = struct.unpack_from(">8I", data, start + 8)
    position = start + 2
    for _segment in range(MOST_SEGMENTS):  # the main header's
        if data[position : position + 2] == b"\xff\x90":
            break
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    found = set()
    while data[position : position + 2] == b"\xff\x90":
        tile, length = struct.unpack_from(">HI", data, position + 4)
        found.add(tile)
        position += length or len(data)  # none: up to the end
    return bool(len(found) < -(-(right - left) // width) * -(-(bottom - top) // height))


def _png_end(data: bytes) -> int | None:
    position = 8
    for _chunk in range(_MOST_CHUNKS + len(data) // _CHUNK):
        if position + 12 > len(data):
            return None
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        position += 12 + length
        if kind == b"IEND":
            return position if position <= len(data) else None
    return None


def _gif_blocks(data: bytes) -> tuple[int | None, int]:
    """(offset behind the trailer or None, number of frames)."""
    position = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    frames = 0
    left = _MOST_CHUNKS + len(data) // _BLOCK
    while position < len(data) and left > 0:
        kind = data[position]
        left -= 1
        if kind == 0x3B:
            return position + 1, frames
        if kind == 0x21:  # extension: introducer, label, sub-blocks
            position += 2
        elif kind == 0x2C:  # image: descriptor, perhaps a colour table, code size, sub-blocks
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
    """1 or 2: whether a second directory follows the first and it is no reduced copy (a thumbnail) of it."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    offset = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), data, offset)[0]
    behind = offset + (8 + 20 * count if big else 2 + 12 * count)
    following = struct.unpack_from(order + ("Q" if big else "I"), data, behind)[0]
    if not following:
        return 1
    count = struct.unpack_from(order + ("Q" if big else "H"), data, following)[0]
    for index in range(min(count, 512)):
        entry = following + (8 + 20 * index if big else 2 + 12 * index)
        if struct.unpack_from(order + "H", data, entry)[0] == 254:  # NewSubfileType: bit 0 marks a reduced copy
            return 1 if struct.unpack_from(order + "I", data, entry + (12 if big else 8))[0] & 1 else 2
    return 2
