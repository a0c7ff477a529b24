"""Parse the structure of a JPEG file: frame header, scans, and end."""

import dataclasses
import re
import struct

import numpy as np

# The next marker in entropy-coded data; stuffed zeros, restart markers and padding are none.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SEGMENT = re.compile(rb"\xff+[^\x00\xff]")  # the next marker in a header
JPEG_END = b"\xff\xd9"
# Bytes that `containers.completions` inserts before the end mark.
FILLERS = (0x00, 0x3C, 0x55, 0x69, 0x96, 0xAA, 0xC3, 0xF0, 0xFE)

# The parsers below are Python: they would need minutes for megabytes of empty segments, which decoders skip at once. A real
# file has few segments per scan, and one for every 64 kB of metadata.
MAX_SEGMENTS = 1 << 14


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return the stored (width, height) from the frame header; None if there is none."""
    frame = jpeg_frame(data)
    return frame[1:] if frame else None


def jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    """Return (marker, width, height) of the frame header that libjpeg finds; None if it is not among the first MAX_SEGMENTS.

    Like libjpeg, skip any bytes between two segments.
    """
    position = 2
    for _segment in range(MAX_SEGMENTS):
        if not (found := _SEGMENT.search(data, position)):
            return None
        marker, position = data[found.end() - 1], found.end()
        if marker in (0xD8, 0xD9):  # a second start of image, or the end
            return None
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # no length follows
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


def jpeg_end(data: bytes) -> int | None:
    """Return the offset after the end mark of the image; None if it is missing. Thumbnails inside the image are skipped."""
    values = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(values[:-1] == 0xFF)
    if (ends := ends[values[ends + 1] == 0xD9]).tolist() == [len(data) - 2]:  # the only end mark is at the end of the file
        return len(data)
    position = 2
    for _segment in range(MAX_SEGMENTS):
        if (position + 4 > len(data) and data[position : position + 2] != JPEG_END) or data[position] != 0xFF:
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


@dataclasses.dataclass
class _Scans:
    """The scans of a truncated JPEG, from its segments up to the truncated scan."""

    width: int = 0
    height: int = 0
    is_progressive: bool = False
    interval: int = 0  # MCUs (blocks of pixels coded together) between restart markers; 0 for no markers
    components: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)  # sampling factors: horizontal, vertical
    lowest_bits: dict[tuple[int, int], int] = dataclasses.field(
        default_factory=dict
    )  # (component, coefficient) -> lowest bit in a scan
    last: bytes = b""  # components of the last scan
    start: int = 0  # offset of the data of the last scan

    def add_frame(self, data: bytes, position: int, length: int) -> bool:
        """Read a frame header. Return False if it is invalid."""
        self.is_progressive = data[position + 1] == 0xC2
        self.height, self.width, count = struct.unpack_from(">HHB", data, position + 5)
        if count > 4 or length < 8 + 3 * count:
            return False
        for offset in range(position + 10, position + 10 + 3 * count, 3):
            self.components[data[offset]] = (data[offset + 1] >> 4, data[offset + 1] & 15)
        return all(horizontal and vertical for horizontal, vertical in self.components.values())

    def add_scan(self, data: bytes, position: int, length: int) -> bool:
        """Read the header of a scan. Return False if it is invalid."""
        count = data[position + 4]
        self.last = data[position + 5 : position + 5 + 2 * count : 2]
        first, last, bits = data[position + length - 1 : position + length + 2]
        if count > 4 or length != 6 + 2 * count or not first <= last <= 63:
            return False
        self.lowest_bits.update({(name, index): bits & 15 for name in self.last for index in range(first, last + 1)})
        self.start = position + 2 + length
        return True


def _scans(data: bytes) -> _Scans | None:
    """Return the scans of a JPEG that is truncated in a scan; None for invalid or too many segments.

    Raises struct.error or IndexError if the data ends within a header.
    """
    found = _Scans()
    scans = 0
    position = 2
    for _segment in range(MAX_SEGMENTS):
        marker = data[position + 1]
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in (0xC0, 0xC1, 0xC2):
            if not found.add_frame(data, position, length):
                return None
        elif marker == 0xDD:
            (found.interval,) = struct.unpack_from(">H", data, position + 4)
        elif marker == 0xDA:
            scans += 1
            if scans > 500 or not found.add_scan(data, position, length):
                return None
            end = _MARKER.search(data, found.start)
            if end is None:
                return found
            position = end.start()
            continue
        elif not 0xC0 <= marker <= 0xFE:
            return None
        position += 2 + length
    return None


def jpeg_reaches_last_scan(data: bytes) -> bool:
    """Return whether a truncated JPEG contains the start of its last scan and, with restart markers, of the last interval.

    A decoder invents a missing scan or interval without an error. `containers.completions` only shows whether the last one is
    incomplete.
    """
    try:
        found = _scans(data)
    except (struct.error, IndexError, ValueError):
        return False
    if found is None or {component for component, _index in found.lowest_bits} != set(found.components):
        return False
    if found.is_progressive:
        complete = (found.lowest_bits.get((name, index)) == 0 for name in found.components for index in range(64))
        return not found.interval and all(complete)
    if not found.interval:
        return True
    if len(found.last) != len(found.components):
        return False  # one scan per component is rare, and its number of MCUs depends on the other components
    factors = found.components.values() if len(found.components) > 1 else [(1, 1)]
    horizontal, vertical = max(h for h, _ in factors), max(v for _, v in factors)
    mcus = -(-found.width // (8 * horizontal)) * -(-found.height // (8 * vertical))
    return len(re.findall(rb"\xff[\xd0-\xd7]", data[found.start :])) == -(-mcus // found.interval) - 1
