"""Read images from a ZIP file. The size of its directory is limited, and overlapping entries are refused."""

import bz2
import contextlib
import io
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, cast

from imgclf.images.archives.member import (  # fmt: skip
    EXPANDS,
    MAX_MEMBER,
    MAX_MEMORY,
    RATIO,
    Budget,
    Decoded,
    Decoder,
    Member,
    is_foreign,
    read_image,
    too_long,
)


class BoundedZip(io.BufferedReader):
    """A ZIP file that refuses to read a directory (list of entries) that is too large.

    zipfile reads the directory as a whole and needs 600 bytes of memory for each entry of 46 bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(io.FileIO(file.fileno(), closefd=False))
        self._max_read = (1 << 24) + os.fstat(file.fileno()).st_size // 4

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file. Raises BadZipFile for more bytes at once than a directory may have."""
        if size and size > self._max_read:
            raise zipfile.BadZipFile(f"its directory is too large ({size:,} bytes); unpack it and use the folder")
        return super().read(size)


def members(file: IO[bytes]) -> Iterator[Member]:
    """Yield the images of a ZIP file. Raises one of `DAMAGED` for a damaged file."""
    budget = Budget()
    with BoundedZip(file) as bounded, zipfile.ZipFile(bounded) as archive:
        overlapping = _overlapping(archive)
        for member in archive.infolist():
            name = member.filename.removeprefix("./")
            if member.is_dir() or is_foreign(name):
                continue
            if problem := _refusal(member, member.header_offset in overlapping, budget):
                yield too_long(name) or Member(name, problem=f"cannot be unpacked: {problem}")
                continue
            budget.compressed += member.compress_size
            for found in (
                [record]
                if (record := too_long(name))
                else read_image(name, member.file_size, _opener(archive, member, bounded))
            ):
                budget.spent += len(found.content or b"")
                yield found


def _refusal(member: zipfile.ZipInfo, overlaps: bool, budget: Budget) -> str:
    """Return why an entry must not be read; "" if it may."""
    if stat.S_ISLNK(member.external_attr >> 16):
        return "a link; unpack the archive first"
    if member.flag_bits & 1:
        return "it is encrypted; unpack the archive first"
    if overlaps:
        return "it overlaps another entry, as in a ZIP bomb"
    if member.file_size <= MAX_MEMBER and not budget.allows(member.file_size - RATIO * member.compress_size):
        return EXPANDS
    return ""


def _overlapping(archive: zipfile.ZipFile) -> set[int]:
    """Return the offsets of entries that overlap the next entry or the directory.

    The same bytes would be decompressed many times.
    """
    found: set[int] = set()
    next_start = archive.start_dir
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset, reverse=True):
        if member.header_offset + 30 + len(member.filename) + member.compress_size > next_start:
            found.add(member.header_offset)
        next_start = member.header_offset
    return found


def _opener(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: IO[bytes]
) -> Callable[[], contextlib.AbstractContextManager[IO[bytes]]]:
    """Return a function that opens an entry with bounded memory."""
    if member.compress_type in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        return lambda: contextlib.nullcontext(cast(IO[bytes], _BoundedEntry(member, file)))
    return lambda: archive.open(member)


class _BoundedEntry:
    """A bzip2 or LZMA entry, read with bounded memory.

    zipfile would decompress 4 kB of it to 80 MB at once, with a dictionary of up to 4 GB.
    """

    def __init__(self, member: zipfile.ZipInfo, file: IO[bytes]) -> None:
        file.seek(member.header_offset)
        local = file.read(30)
        if len(local) < 30 or not local.startswith(b"PK\3\4"):
            raise zipfile.BadZipFile("an entry has no header")
        file.seek(sum(struct.unpack("<HH", local[26:30])), os.SEEK_CUR)
        self._file, self._member, self._left = file, member, member.compress_size
        self._crc, self._size = 0, 0
        is_lzma = member.compress_type == zipfile.ZIP_LZMA
        start: Callable[[], Decoder] = _lzma_decoder(self._compressed(9)) if is_lzma else bz2.BZ2Decompressor
        self._content = io.BufferedReader(Decoded(self._compressed, start), 1 << 16)

    def _compressed(self, size: int) -> bytes:
        content = self._file.read(min(size, self._left))
        self._left -= len(content)
        return content

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end. Raises BadZipFile for a wrong checksum."""
        content = self._content.read(min(size, self._member.file_size - self._size))
        self._size += len(content)
        self._crc = zlib.crc32(content, self._crc)
        if self._size == self._member.file_size and self._crc != self._member.CRC:
            raise zipfile.BadZipFile("Bad CRC-32")
        return content


def _lzma_decoder(head: bytes) -> Callable[[], Decoder]:
    """Return a function that makes the decoder of an LZMA entry from its first bytes: 2 version, 2 length, 5 properties."""
    if len(head) < 9 or head[2:4] != b"\5\0":
        raise zipfile.BadZipFile("its LZMA properties are missing")
    mode, size = struct.unpack("<BI", head[4:])
    if size > MAX_MEMORY:
        raise zipfile.BadZipFile(
            f"needs {size:,} bytes of memory to unpack, limit {MAX_MEMORY:,}; unpack it and use the folder"
        )
    rest, context_bits = divmod(mode, 9)
    position_bits, literal_position_bits = divmod(rest, 5)
    filters = [
        {"id": lzma.FILTER_LZMA1, "dict_size": size, "lc": context_bits, "lp": literal_position_bits, "pb": position_bits}
    ]
    return lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
