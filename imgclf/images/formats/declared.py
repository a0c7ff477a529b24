"""Read the depth, transparency and colours that OpenCV ignores in the headers of PNG, BMP, AVIF and JPEG 2000."""

import dataclasses
import struct


def png_chunk(data: bytes, name: bytes) -> bytes:
    """Return the content of the first PNG chunk with this name before the pixels; empty if there is none."""
    position = 8
    while position + 8 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if kind == name:
            return data[position + 8 : position + 8 + length]
        if kind == b"IDAT":
            break
        position += 12 + length
    return b""


def png_significant_bits(data: bytes) -> tuple[int, ...]:
    """Return the significant bits that a 16-bit PNG declares for each channel: red, green, blue, optional alpha; or grey.

    Empty if none are declared. By the PNG specification, these are the upper bits, and the lower bits repeat them.
    """
    bits = tuple(png_chunk(data, b"sBIT"))
    kind = data[25]
    if kind not in (0, 2, 4, 6) or len(bits) != {0: 1, 2: 3, 4: 2, 6: 4}[kind] or not all(1 <= number <= 16 for number in bits):
        return ()
    return (*bits[:1] * 3, bits[1]) if kind == 4 else bits  # OpenCV decodes grey with alpha to three equal channels


def png_transparent_grey(data: bytes) -> int | None:
    """Return the transparent level of a grey PNG, in the depth of the file; None if there is none."""
    level = png_chunk(data, b"tRNS") if data[25] == 0 else b""
    return int.from_bytes(level[:2], "big") if len(level) >= 2 else None


def avif_depth(data: bytes) -> int:
    """Return the bits per sample from the first `av1C` box of an AVIF: 8, 10 or 12."""
    at = data.find(b"av1C", 0, 1 << 16)
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
    return (8, 12 if flags & 0x20 else 10)[flags >> 6 & 1]


@dataclasses.dataclass(frozen=True)
class Bmp:
    """The declared colours of a BMP.

    depths: bits of (red, green, blue); empty for masks that OpenCV decodes wrongly.
    """

    depths: tuple[int, ...]
    has_alpha: bool


_MASKS = {
    (16, 0x7C00, 0x3E0, 0x1F): (5, 5, 5), (16, 0xF800, 0x7E0, 0x1F): (5, 6, 5), (32, 0xFF0000, 0xFF00, 0xFF): (8, 8, 8),
}  # fmt: skip


def bmp(data: bytes) -> Bmp:
    """Read the header and masks of a BMP. Raises struct.error if they are truncated."""
    (head,) = struct.unpack_from("<I", data, 14)
    if head < 40:  # an OS/2 header
        return Bmp((8, 8, 8), False)
    bits, compression = struct.unpack_from("<HI", data, 28)
    if bits not in (16, 32) or compression not in (3, 6):  # without masks
        return Bmp((5, 5, 5) if bits == 16 else (8, 8, 8), False)
    masks = struct.unpack_from("<III", data, 54)
    has_fourth = head >= 56 or compression == 6
    return Bmp(_MASKS.get((bits, *masks), ()), bits == 32 and has_fourth and data[54 + 12 : 54 + 16] != bytes(4))


@dataclasses.dataclass(frozen=True)
class Jpeg2000:
    """The declared components of a JPEG 2000.

    count: number of components. bits: per component; 0 if components differ, are signed or subsampled, or if the image does not
    start at 0, 0. is_plain: grey or RGB without a palette.
    """

    count: int
    bits: int
    has_alpha: bool
    is_plain: bool


def jpeg_2000(data: bytes) -> Jpeg2000:
    """Read the SIZ segment of the codestream and the boxes before it. Raises struct.error if they are truncated."""
    start = data.find(b"\xff\x4f\xff\x51")
    (count,) = struct.unpack_from(">H", data, start + 40)
    components = {data[at : at + 3] for at in range(start + 42, min(start + 42 + 3 * count, len(data) - 2), 3)}
    depth, across, down = components.pop() if len(components) == 1 else (0x80, 1, 1)
    boxes = data[:start]
    colour, channels = boxes.find(b"colr"), boxes.find(b"cdef")
    is_plain = b"pclr" not in boxes and (
        boxes[colour + 4 : colour + 5] != b"\1" or boxes[colour + 10 : colour + 11] in b"\x10\x11"
    )
    opacities = [boxes[at : at + 4] for at in range(channels + 6, min(channels + 6 + 6 * count, len(boxes)), 6)]
    offsets = struct.unpack_from(">8I", data, start + 8)
    is_odd = depth & 0x80 or (across, down) != (1, 1) or any(offsets[2:4] + offsets[6:8])
    return Jpeg2000(count, 0 if is_odd else depth + 1, channels >= 0 and b"\0\3\0\1" in opacities, is_plain)
