"""The structure of a JPEG file: frame header, scans, and its end."""

import dataclasses
import re
import struct

import numpy as np

# In a JPEG's entropy-coded data, the next byte pair that is a marker and no stuffed zero, restart or padding.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SEGMENT = re.compile(rb"\xff+[^\x00\xff]")  # the next marker of a header
JPEG_END = b"\xff\xd9"
FILLERS = (0x00, 0x3C, 0x55, 0x69, 0x96, 0xAA, 0xC3, 0xF0, 0xFE)

# The parsers below are Python: megabytes of empty segments, that decoders skip at once, would take minutes. A real file has few
# segments per scan, and one for every 64 kB of metadata.
MOST_SEGMENTS = 1 << 14


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) as stored, from the frame header; None when there is none."""
    frame = jpeg_frame(data)
    return frame[1:] if frame else None


def jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    """(marker, width, height) of the frame header that libjpeg finds: what lies between segments it skips, up to a marker.

    None if it is not among the first MOST_SEGMENTS.
    """
    position = 2
    for _segment in range(MOST_SEGMENTS):
        if not (found := _SEGMENT.search(data, position)):
            return None
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


def jpeg_end(data: bytes) -> int | None:
    values = np.frombuffer(data, np.uint8)
    marks = np.flatnonzero(values[:-1] == 0xFF)
    if (marks := marks[values[marks + 1] == 0xD9]).tolist() == [len(data) - 2]:  # nothing inside to be mistaken for the end
        return len(data)
    position = 2
    for _segment in range(MOST_SEGMENTS):
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
    """What the segments of a JPEG say of its scans, up to where the file breaks off in the last of them."""

    width: int = 0
    height: int = 0
    is_progressive: bool = False
    interval: int = 0  # units between restart markers; 0 for none
    components: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)  # sampling factors, across and down
    finest: dict[tuple[int, int], int] = dataclasses.field(default_factory=dict)  # (component, coefficient) -> lowest bit given
    last: bytes = b""  # components of the last scan
    start: int = 0  # of the last scan's data

    def add_frame(self, data: bytes, position: int, length: int) -> bool:
        """Read a frame header; False for one that cannot be."""
        self.is_progressive = data[position + 1] == 0xC2
        self.height, self.width, count = struct.unpack_from(">HHB", data, position + 5)
        if count > 4 or length < 8 + 3 * count:
            return False
        for at in range(position + 10, position + 10 + 3 * count, 3):
            self.components[data[at]] = (data[at + 1] >> 4, data[at + 1] & 15)
        return all(across and down for across, down in self.components.values())

    def add_scan(self, data: bytes, position: int, length: int) -> bool:
        """Read the header of a scan; False for one that cannot be."""
        count = data[position + 4]
        self.last = data[position + 5 : position + 5 + 2 * count : 2]
        first, last, bits = data[position + length - 1 : position + length + 2]
        if count > 4 or length != 6 + 2 * count or not first <= last <= 63:
            return False
        self.finest.update({(name, index): bits & 15 for name in self.last for index in range(first, last + 1)})
        self.start = position + 2 + length
        return True


def _scans(data: bytes) -> _Scans | None:
    """The scans of a JPEG that breaks off; None for one whose segments cannot be, or that goes on. Raises as data ends."""
    found = _Scans()
    scans = 0
    position = 2
    for _segment in range(MOST_SEGMENTS):
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


def jpeg_scans_are_there(data: bytes) -> bool:
    """Whether a JPEG that breaks off has begun its last scan and, with restart markers, that scan's last interval.

    A decoder would make up a missing scan or interval without a trace; what is missing of the last one shows (`completions`).
    """
    try:
        found = _scans(data)
    except (struct.error, IndexError, ValueError):
        return False
    if found is None or {component for component, _index in found.finest} != set(found.components):
        return False
    if found.is_progressive:
        given = (found.finest.get((name, index)) == 0 for name in found.components for index in range(64))
        return not found.interval and all(given)
    if not found.interval:
        return True
    if len(found.last) != len(found.components):
        return False  # one scan a component is rare; its size in units depends on the others
    factors = found.components.values() if len(found.components) > 1 else [(1, 1)]
    across, down = max(h for h, _ in factors), max(v for _, v in factors)
    units = -(-found.width // (8 * across)) * -(-found.height // (8 * down))
    return len(re.findall(rb"\xff[\xd0-\xd7]", data[found.start :])) == -(-units // found.interval) - 1
