"""Where a picture ends inside its file, and whether more pictures follow: read from the container, nothing is decoded."""

import re
import struct
from collections.abc import Iterator

import numpy as np

# In a JPEG's entropy-coded data, the next byte pair that is a marker and no stuffed zero, restart or padding.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SEGMENT = re.compile(rb"\xff+[^\x00\xff]")  # the next marker of a header
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
JPEG_END = b"\xff\xd9"
_FILLERS = (0x00, 0x3C, 0x55, 0x69, 0x96, 0xAA, 0xC3, 0xF0, 0xFE)
GIF_END = b"\x3b"


def end(data: bytes, kind: str) -> int | None:
    """The offset behind the picture's last byte, or None where the format does not tell or the end is missing."""
    try:
        if kind == "JPEG":
            return _jpeg_end(data)
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
    """Whether pictures of this format say where they end with a mark that can be cut off without loss of a pixel."""
    return kind in ("JPEG", "PNG", "GIF")


def falls_short(data: bytes, kind: str) -> bool:
    """Whether a file lacks what it announces, where the decoder would not say so.

    For a PNG's chunk that is longer than the file, OpenCV makes room all the same, up to 4 GB. What is missing of a JPEG that
    has an end mark it makes grey, a missing tile of a JPEG 2000 black.
    """
    try:
        if kind == "JPEG":  # a block of 8 x 8 pixels takes a bit at least, except in arithmetic coding
            marker, width, height = _jpeg_frame(data) or (0, 0, 0)
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
    if kind == "JPEG" and _jpeg_scans_are_there(data):
        data = data[:-1] if data.endswith(b"\xff") else data
        yield from (data + filler + JPEG_END for filler in (b"", *(bytes([byte]) * 64 for byte in _FILLERS)))
    elif kind == "PNG":
        # Cut anywhere within the last chunk; its bytes before the cut are put back whole.
        kept = next((cut for cut in range(11, -1, -1) if data.endswith(PNG_END[:cut])), 0)
        yield data[: len(data) - kept] + PNG_END
    elif kind == "GIF":
        yield data + GIF_END


def is_animated(data: bytes, kind: str) -> bool:
    """Whether the file holds more than one picture: animation frames, or pages of a TIFF."""
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
    """A PNG without the chunks of its animation: the picture in IDAT alone. Anything else as it is.

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


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) as stored, from the frame header; None when there is none."""
    frame = _jpeg_frame(data)
    return frame[1:] if frame else None


def _jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    """(marker, width, height) of the frame header that libjpeg finds: what lies between segments it skips, up to a marker."""
    position = 2
    while found := _SEGMENT.search(data, position):
        marker, position = data[found.end() - 1], found.end()
        if marker in (0xD8, 0xD9):  # a second beginning, or the end
            return None
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # these stand alone
            continue
        if position + 2 > len(data):
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if position + 7 > len(data):
                return None
            height, width = struct.unpack_from(">HH", data, position + 3)
            return marker, width, height
        position += data[position] << 8 | data[position + 1]
    return None


def _jpeg_end(data: bytes) -> int | None:
    values = np.frombuffer(data, np.uint8)
    marks = np.flatnonzero(values[:-1] == 0xFF)
    if (marks := marks[values[marks + 1] == 0xD9]).tolist() == [len(data) - 2]:  # nothing inside to be mistaken for the end
        return len(data)
    position = 2
    while position + 4 <= len(data) or data[position : position + 2] == JPEG_END:
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xD9:
            return position + 2
        if marker == 0xFF:  # padding
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # no length follows
            position += 2
        else:
            (length,) = struct.unpack_from(">H", data, position + 2)
            position += 2 + length
            if marker == 0xDA:  # start of scan: entropy-coded data up to the next marker
                found = _MARKER.search(data, position)
                if found is None:
                    return None
                position = found.start()
    return None


def _jpeg_scans_are_there(data: bytes) -> bool:
    """Whether a JPEG that breaks off has begun its last scan and, with restart markers, that scan's last interval.

    A decoder would make up a missing scan or interval without a trace; what is missing of the last one shows (`completions`).
    """
    interval = 0
    finest: dict[tuple[int, int], int] = {}  # (component, coefficient) -> lowest bit that a progressive scan gave
    components: dict[int, tuple[int, int]] = {}
    width = height = 0
    progressive = False
    scans = 0
    position = 2
    try:
        while True:
            marker = data[position + 1]
            (length,) = struct.unpack_from(">H", data, position + 2)
            if marker in (0xC0, 0xC1, 0xC2):
                progressive = marker == 0xC2
                height, width, count = struct.unpack_from(">HHB", data, position + 5)
                if count > 4 or length < 8 + 3 * count:
                    return False
                for at in range(position + 10, position + 10 + 3 * count, 3):
                    components[data[at]] = (data[at + 1] >> 4, data[at + 1] & 15)
            elif marker == 0xDD:
                (interval,) = struct.unpack_from(">H", data, position + 4)
            elif marker == 0xDA:
                count = data[position + 4]
                names = data[position + 5 : position + 5 + 2 * count : 2]
                first, last, bits = data[position + length - 1 : position + length + 2]
                scans += 1
                if count > 4 or length != 6 + 2 * count or not first <= last <= 63 or scans > 500:
                    return False
                finest.update({(name, index): bits & 15 for name in names for index in range(first, last + 1)})
                start = position + 2 + length
                found = _MARKER.search(data, start)
                if found is None:
                    break
                position = found.start()
                continue
            elif not 0xC0 <= marker <= 0xFE:
                return False
            position += 2 + length
    except (struct.error, IndexError, ValueError):
        return False
    if {component for component, _index in finest} != set(components):
        return False
    if progressive:
        return not interval and all(finest.get((name, index)) == 0 for name in components for index in range(64))
    if not interval:
        return True
    if len(names) != len(components):
        return False  # one scan a component is rare; its size in units depends on the others
    factors = components.values() if len(components) > 1 else [(1, 1)]
    across, down = max(h for h, _ in factors), max(v for _, v in factors)
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    return len(re.findall(rb"\xff[\xd0-\xd7]", data[start:])) == -(-units // interval) - 1


def _png_falls_short(data: bytes) -> bool:
    position = 8
    while position + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        if position + 8 + length > len(data):
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
    while data[position : position + 2] != b"\xff\x90":  # the main header's segments
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    found = set()
    while data[position : position + 2] == b"\xff\x90":
        tile, length = struct.unpack_from(">HI", data, position + 4)
        found.add(tile)
        position += length or len(data)  # none: up to the end
    return bool(len(found) < -(-(right - left) // width) * -(-(bottom - top) // height))


def _png_end(data: bytes) -> int | None:
    position = 8
    while position + 12 <= len(data):
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
    while position < len(data):
        kind = data[position]
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
            if position >= len(data):
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
