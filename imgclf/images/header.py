"""Read the format and size of an image from its header, without decoding pixels."""

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

# 134 megapixels or 400 MB of RGB, checked before anything is allocated. `imgclf/__init__.py` sets the same limit for OpenCV.
MAX_PIXELS = 1 << 27
_HEAD, _JPEG_HEAD = 1 << 16, 1 << 24  # bytes to search for the size; JPEGs of cameras have megabytes of metadata before it


@dataclasses.dataclass(frozen=True)
class Header:
    """The format of an image, and its stored width and height in pixels (before EXIF orientation)."""

    format: str
    width: int
    height: int


def read_header(path: Path) -> Header:
    """Return the `header` of a file and read no more of it than necessary. Raises ImageError."""
    with open_image(path) as (file, _size):
        return _header(file, path.suffix.lower())


def header(data: bytes, extension: str = "") -> Header:
    """Return the format and size of an image. Raises ImageError for a missing or damaged header, or more than MAX_PIXELS.

    extension: the file's, with the dot, "" if there is none. A file named .nef, for example, is a camera RAW and no TIFF.
    """
    if data.startswith(b"\xff\xd8\xff"):  # the common case, five times faster
        return _checked("JPEG", *(jpeg.jpeg_size(data) or (0, 0)))
    return _header(io.BytesIO(data), extension.lower())


def detect_format(head: bytes, extension: str) -> str:
    """Return the supported format of a file with these first bytes. Raises ImageError for every other file."""
    if not head:
        raise ImageError("empty", "the file has zero bytes")
    kind = filetypes.sniff(head[:32])
    if kind is None:
        raise ImageError(*filetypes.refusal(head, extension))
    return kind


def refuse_raw(file: BinaryIO, kind: str, extension: str) -> None:
    """Raise ImageError for a camera RAW: the first image in its TIFF container is only a thumbnail."""
    if kind == "TIFF" and (raw := filetypes.raw(file, extension)):
        raise ImageError("unsupported", filetypes.raw_refusal(raw))


def _header(file: BinaryIO, extension: str) -> Header:
    """Read the header from the start of an open file. Raises ImageError."""
    kind = detect_format(file.read(filetypes.HEAD), extension)
    refuse_raw(file, kind, extension)
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
        elif kind == "BMP" and (start := file.read(22))[14:18] == b"\x0c\0\0\0":  # OS/2 BMP: 16-bit sizes
            width, height = struct.unpack_from("<HH", start, 18)
        else:
            file.seek(0)
            width, height = imagesize.get(io.BytesIO(file.read(_HEAD)), exif_rotation=False)
    except ImageError:
        raise
    except Exception as error:  # any exception of a parser means damaged bytes
        raise ImageError("damaged", f"damaged {kind}: its header cannot be read") from error
    return _checked(kind, width, height)


def _avif_size(data: bytes) -> tuple[int, int]:
    """Return the largest (width, height) of the `ispe` boxes: thumbnails and alpha planes have smaller or equal ones."""
    sizes: list[tuple[int, int]] = []
    position = data.find(b"ispe")
    while position >= 0 and len(sizes) < 64:
        sizes.append(struct.unpack_from(">II", data, position + 8))
        position = data.find(b"ispe", position + 4, 1 << 16)
    return max(sizes, key=lambda size: size[0] * size[1])


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open an image file and yield (file, size in bytes). Errors of the operating system become ImageErrors."""
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
            raise ImageError("missing", "a loop of symbolic links") from error
        raise ImageError("unreadable", f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a path with a NUL byte
        raise ImageError("missing", f"no such file ({error})") from error


def _checked(kind: str, width: int, height: int) -> Header:
    """Return the header. Raises ImageError if the size is missing or over MAX_PIXELS."""
    if width <= 0 or height <= 0:
        raise ImageError("damaged", f"damaged {kind}: its header has no valid size")
    if width * height > MAX_PIXELS:
        raise ImageError("too-large", f"{width} x {height} pixels, more than the limit of {MAX_PIXELS // 1_000_000} megapixels")
    return Header(kind, int(width), int(height))
