"""Read PBM, PGM and PPM, binary or plain. Scale samples by the declared maximum value, which OpenCV ignores."""

import re
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.core.errors import ImageError
from imgclf.images.formats import scaling

HEAD = 1 << 14  # the header must end within this many bytes
_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"
_NUMBER = rb"(\d{1,9})(?!\d)"
_BITMAP = re.compile(rb"P[14]" + _SPACE + _NUMBER + _SPACE + _NUMBER + rb"\s")
_MAP = re.compile(rb"P[2356]" + _SPACE + _NUMBER + _SPACE + _NUMBER + _SPACE + _NUMBER + rb"\s")
_DAMAGED = "damaged or truncated PNM: it cannot be decoded to the end"
_PLAIN = 1 << 22  # bytes of plain numbers to parse at once


def size(head: bytes) -> tuple[int, int]:
    """Return (width, height) from the first bytes. Raises ValueError if they are not a header."""
    width, height, _max_value, _offset = _header(head[:HEAD])
    return width, height


def _header(head: bytes) -> tuple[int, int, int, int]:
    """Return (width, height, maximum value, offset of the pixels). Raises ValueError if the bytes are not a header."""
    found = _BITMAP.match(head) or _MAP.match(head)
    if not found:
        raise ValueError("not a PNM header")
    numbers = [int(group) for group in found.groups()]
    return numbers[0], numbers[1], numbers[2] if len(numbers) > 2 else 1, found.end()


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode to (height, width, 3) RGB. Raises ImageError for damaged data."""
    width, height, max_value, offset = _header(data[:HEAD])
    if not 0 < max_value < 65536:
        raise ImageError("damaged", f"damaged PNM: its maximum value is {max_value}, but must be 1 to 65,535")
    kind, body = data[1:2], memoryview(data)[offset:]
    values: NDArray[Any]
    shape = (height, width, 3 if kind in b"36" else 1)
    count = height * width * shape[2]
    try:
        if kind == b"4":
            row = -(-width // 8)
            bits = np.unpackbits(np.frombuffer(body, np.uint8, height * row).reshape(height, row), axis=1)
            values = 1 - bits[:, :width]
        elif kind == b"1":
            bits = np.frombuffer(bytes(body).translate(None, b" \t\n\v\f\r"), np.uint8, count)
            if ((bits != 48) & (bits != 49)).any():
                raise ValueError("neither 0 nor 1")
            values = 49 - bits
        elif kind in b"23":
            values = _plain(body, count)
        else:
            values = np.frombuffer(body, np.uint8 if max_value < 256 else ">u2", count)
    except ValueError as error:
        raise ImageError("damaged", _DAMAGED) from error
    native = values if values.dtype == np.uint8 else values.astype(np.uint16)
    pixels = scaling.to_uint8(native, max_value).reshape(shape)
    return pixels if shape[2] == 3 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)


def _plain(body: memoryview, count: int) -> NDArray[np.uint16]:
    """Parse `count` numbers written as text. Raises ValueError if a number is missing, too large or not a number."""
    values = np.zeros(count, np.uint16)
    done = offset = 0
    while done < count:
        text = bytes(body[offset : offset + _PLAIN])
        if offset + len(text) < len(body):  # end between two numbers
            text = text[: max(text.rfind(b" "), text.rfind(b"\n")) + 1]
        if not text.strip():
            raise ValueError("numbers are missing")
        offset += len(text)
        try:
            numbers = np.fromiter(map(int, text.split()), np.int64)[: count - done]
        except OverflowError as error:
            raise ValueError("a value that is too large") from error
        if ((numbers < 0) | (numbers > 65535)).any():
            raise ValueError("a value that is too large")
        values[done : done + len(numbers)] = numbers
        done += len(numbers)
    return values
