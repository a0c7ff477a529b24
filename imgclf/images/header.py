"""Format and size of an image from its header. No pixel is decoded."""

import contextlib
import dataclasses
import errno
import io
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import imagesize

from imgclf.core.errors import ImageError
from imgclf.images.formats import filetypes, jpeg, pnm, tiff

# 134 megapixels, checked in the header before anything is allocated: 400 MB of RGB; `imgclf/__init__.py` tells OpenCV the same.
MAX_PIXELS = 1 << 27
_HEAD, _JPEG_HEAD = 1 << 16, 1 << 24  # bytes in which the size is searched; cameras write megabytes before that of a JPEG


@dataclasses.dataclass(frozen=True)
class Header:
    """What an image's first bytes say: format, and the stored width and height in pixels (before orientation)."""

    format: str
    width: int
    height: int


def read_header(path: Path) -> Header:
    """`header` of a file, of which no more is read than that takes."""
    with opened(path) as (file, _size):
        return _header(file, path.suffix.lower())


def header(data: bytes, ending: str = "") -> Header:
    """Format and size from the header alone. Raises ImageError without a header, or over MAX_PIXELS.

    ending: extension of the file name, with the dot, if there is one: a file named .nef is not a TIFF.
    """
    if data.startswith(b"\xff\xd8\xff"):  # the common case, five times faster
        return _checked("JPEG", *(jpeg.jpeg_size(data) or (0, 0)))
    return _header(io.BytesIO(data), ending.lower())


def sniffed(head: bytes, ending: str) -> str:
    if not head:
        raise ImageError("empty", "the file has zero bytes")
    kind = filetypes.sniff(head[:32])
    if kind is None:
        raise ImageError(*filetypes.refusal(head, ending))
    return kind


def refuse_raw(file: BinaryIO, kind: str, ending: str) -> None:
    """Raise ImageError for a camera RAW, because its first directory is only a thumbnail."""
    if kind == "TIFF" and (raw := filetypes.raw(file, ending)):
        raise ImageError("unsupported", filetypes.raw_refusal(raw))


def _header(file: BinaryIO, ending: str) -> Header:
    kind = sniffed(file.read(filetypes.HEAD), ending)
    refuse_raw(file, kind, ending)
    file.seek(0)
    try:
        if kind == "TIFF":
            width, height = tiff.size(file)
        elif kind == "PNM":
            width, height = pnm.size(file.read(pnm.HEAD))
        elif kind == "JPEG":
            head = file.read(_HEAD)
            width, height = jpeg.jpeg_size(head) or jpeg.jpeg_size(head + file.read(_JPEG_HEAD)) or (0, 0)
        elif kind == "AVIF":
            width, height = _avif_size(file.read(_HEAD))
        elif kind == "JPEG 2000" and (start := file.read(24)).startswith(b"\xff\x4f"):  # a bare codestream: its SIZ segment
            right, bottom, left, top = struct.unpack_from(">IIII", start, 8)
            width, height = right - left, bottom - top
        elif kind == "BMP" and (start := file.read(22))[14:18] == b"\x0c\0\0\0":  # of OS/2, with numbers half as long
            width, height = struct.unpack_from("<HH", start, 18)
        else:
            file.seek(0)
            width, height = imagesize.get(io.BytesIO(file.read(_HEAD)), exif_rotation=False)
    except ImageError:
        raise
    except Exception as error:  # whatever a parser of damaged bytes stumbles over means the same thing here
        raise ImageError("damaged", f"damaged {kind}: its header cannot be read") from error
    return _checked(kind, width, height)


def _avif_size(data: bytes) -> tuple[int, int]:
    """The largest size among the `ispe` boxes: a thumbnail or an alpha plane has one of its own, never a larger one."""
    sizes: list[tuple[int, int]] = []
    position = data.find(b"ispe")
    while position >= 0 and len(sizes) < 64:
        sizes.append(struct.unpack_from(">II", data, position + 8))
        position = data.find(b"ispe", position + 4, 1 << 16)
    return max(sizes, key=lambda size: size[0] * size[1])


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """An image file open for reading, and its size in bytes; every refusal of the system becomes an ImageError."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("not-a-file", "a folder, not an image file")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not-a-file", "not a regular file (a pipe, socket or device)")
        with open(path, "rb") as file:
            yield file, status.st_size
    except FileNotFoundError as error:
        raise ImageError("missing", "no such file") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ImageError("missing", "a link that leads back to itself") from error
        raise ImageError("unreadable", f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a path with a NUL byte
        raise ImageError("missing", f"no such file ({error})") from error


def _checked(kind: str, width: int, height: int) -> Header:
    if width <= 0 or height <= 0:
        raise ImageError("damaged", f"damaged {kind}: its header gives no size")
    if width * height > MAX_PIXELS:
        raise ImageError("too-large", f"{width} x {height} pixels, more than the limit of {MAX_PIXELS // 1_000_000} megapixels")
    return Header(kind, int(width), int(height))
