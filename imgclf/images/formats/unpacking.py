"""Decompress TIFF strips and tiles: LZW, Deflate, PackBits or uncompressed.

Each codec is a generator, so that a decompression bomb does not fill the memory. It takes the compressed bytes and the number
of bytes to return, and yields at most that many. Invalid data raises ValueError. `blocks` detects missing data at the end.
"""

import zlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 22  # bytes per yielded block
_CHUNK = 1 << 16  # compressed bytes per call of zlib


def blocks(compression: int, piece: memoryview, row_bytes: int, rows: int) -> Iterator[bytearray]:
    """Yield all rows of a strip or tile, in blocks of whole rows. Raises ValueError if rows are missing."""
    pending, left = bytearray(), rows
    for content in CODECS[compression](piece, row_bytes * rows):
        pending += content
        whole = len(pending) // row_bytes
        if whole and (len(pending) >= BLOCK or whole == left):
            yield pending[: whole * row_bytes]
            del pending[: whole * row_bytes]
            left -= whole
    if left:
        raise ValueError("rows are missing")


def _uncompressed(piece: memoryview, size: int) -> Iterator[memoryview]:
    for start in range(0, min(size, len(piece)), BLOCK):
        yield piece[start : min(start + BLOCK, size)]


def _inflate(piece: memoryview, size: int) -> Iterator[bytes]:
    stream = zlib.decompressobj()
    try:
        for start in range(0, len(piece), _CHUNK):
            compressed: memoryview | bytes = piece[start : start + _CHUNK]
            while compressed and not stream.eof:
                # Once `size` is 0, ask for one more byte, so that zlib reads the checksum at the end.
                content = stream.decompress(compressed, min(size, BLOCK) or 1)
                if content and not size:
                    return
                yield content
                size -= len(content)
                compressed = stream.unconsumed_tail
    except zlib.error as error:
        raise ValueError("cannot be inflated") from error


def _unpack_bits(piece: memoryview, size: int) -> Iterator[bytes]:
    """Decompress PackBits: each count is followed by that many literal bytes or by one byte to repeat."""
    data, at, out = bytes(piece), 0, bytearray()
    while size > 0 and at + 1 < len(data):
        count = data[at]
        if count < 128:
            run = data[at + 1 : at + 2 + count]
            at += 2 + count
            if at > len(data):
                raise ValueError("a run is longer than the data")
        elif count > 128:
            run = data[at + 1 : at + 2] * (257 - count)
            at += 2
        else:
            at += 1
            continue
        out += run[:size]
        size -= len(run)
        if len(out) >= _CHUNK:
            yield bytes(out)
            out.clear()
    yield bytes(out)


_CLEAR, _END = 256, 257
_MAX_CODES = 4096 + 1024 - 258  # codes between two clear codes; libtiff accepts more than a full table
_BITS = np.minimum(
    9 + np.searchsorted((511, 1023, 2047), np.arange(_MAX_CODES) + 257, side="right"), 12
)  # bits of each code after a clear code
_STARTS = np.concatenate(([0], np.cumsum(_BITS)))
_BYTES = [bytes([value]) for value in range(256)] + [b"", b""]


def _lzw(piece: memoryview, size: int) -> Iterator[bytes]:
    """Decompress the LZW of TIFF: codes of 9 to 12 bits, highest bit first, which widen one code early."""
    bit = 0
    while size > 0:
        codes = _codes(piece, bit)
        stops = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        count = int(stops[0]) if len(stops) else len(codes)
        content = _strings(codes[:count].tolist())
        yield content[:size]
        size -= len(content)
        if count == len(codes) or codes[count] == _END:
            return
        bit += int(_STARTS[count + 1])


def _codes(piece: memoryview, bit: int) -> NDArray[np.int64]:
    """Return the codes, (n,), from this bit offset: up to the next clear code, and some invalid ones after it."""
    window = np.frombuffer(bytes(piece[bit // 8 : bit // 8 + _STARTS[-1] // 8 + 2]) + bytes(3), np.uint8).astype(np.uint32)
    count = int(np.searchsorted(_STARTS, 8 * (len(window) - 3) - bit % 8, side="right")) - 1
    count = max(0, min(count, _MAX_CODES))
    at = _STARTS[:count] + bit % 8
    first, bits = at // 8, _BITS[:count]
    words = window[first] << 16 | window[first + 1] << 8 | window[first + 2]
    return np.asarray(words >> (24 - bits - at % 8) & (1 << bits) - 1, np.int64)


def _strings(codes: list[int]) -> bytes:
    """Decode the codes between two clear codes. Raises ValueError for a code that is not in the table."""
    if not codes:
        return b""
    if codes[0] > 255:
        raise ValueError("a code that is not in the table yet")
    table = _BYTES.copy()
    last = table[codes[0]]
    strings = [last]
    for code in codes[1:]:
        try:
            string = table[code]
        except IndexError:
            if code != len(table):
                raise ValueError("a code that is not in the table yet") from None
            string = last + last[:1]
        table.append(last + string[:1])
        strings.append(string)
        last = string
    return b"".join(strings)


Codec = Callable[[memoryview, int], Iterator[bytes | memoryview]]
CODECS: dict[int, Codec] = {1: _uncompressed, 5: _lzw, 8: _inflate, 32773: _unpack_bits, 32946: _inflate}
