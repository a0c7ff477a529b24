"""Images in a ZIP file, with a bounded list of entries and no entry that is unpacked twice."""

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
    image,
    is_foreign,
    too_long,
)


class Directory(io.BufferedReader):
    """A ZIP file whose list of entries is bounded: zipfile reads it as a whole, and makes 600 bytes of each entry's 46."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(io.FileIO(file.fileno(), closefd=False))
        self._most = (1 << 24) + os.fstat(file.fileno()).st_size // 4

    def read(self, size: int | None = -1, /) -> bytes:
        if size and size > self._most:
            raise zipfile.BadZipFile(f"its directory is too large ({size:,} bytes); unpack it and use the folder")
        return super().read(size)


def members(file: IO[bytes]) -> Iterator[Member]:
    budget = Budget()
    with Directory(file) as whole, zipfile.ZipFile(whole) as archive:
        overlapping = _overlapping(archive)
        for member in archive.infolist():
            name = member.filename.removeprefix("./")
            if member.is_dir() or is_foreign(name):
                continue
            if problem := _refusal(member, member.header_offset in overlapping, budget):
                yield too_long(name) or Member(name, problem=f"cannot be unpacked: {problem}")
                continue
            budget.packed += member.compress_size
            for found in (
                [told] if (told := too_long(name)) else image(name, member.file_size, _opening(archive, member, whole))
            ):
                budget.spent += len(found.content or b"")
                yield found


def _refusal(member: zipfile.ZipInfo, overlaps: bool, budget: Budget) -> str:
    """Why an entry is not read at all; "" if it is."""
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
    """Where entries begin that run into the next one, or into the directory: the same bytes would be unpacked many times."""
    found: set[int] = set()
    next_start = archive.start_dir
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset, reverse=True):
        if member.header_offset + 30 + len(member.filename) + member.compress_size > next_start:
            found.add(member.header_offset)
        next_start = member.header_offset
    return found


def _opening(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: IO[bytes]
) -> Callable[[], contextlib.AbstractContextManager[IO[bytes]]]:
    if member.compress_type in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        return lambda: contextlib.nullcontext(cast(IO[bytes], _Checked(member, file)))
    return lambda: archive.open(member)


class _Checked:
    """An entry compressed by bzip2 or LZMA; zipfile would decompress 4 kB of it to 80 MB, with a dictionary of 4 GB."""

    def __init__(self, member: zipfile.ZipInfo, file: IO[bytes]) -> None:
        file.seek(member.header_offset)
        local = file.read(30)
        if len(local) < 30 or not local.startswith(b"PK\3\4"):
            raise zipfile.BadZipFile("no header where the entry should begin")
        file.seek(sum(struct.unpack("<HH", local[26:30])), os.SEEK_CUR)
        self._file, self._member, self._left = file, member, member.compress_size
        self._crc, self._size = 0, 0
        is_lzma = member.compress_type == zipfile.ZIP_LZMA
        start: Callable[[], Decoder] = _lzma_of(self._packed(9)) if is_lzma else bz2.BZ2Decompressor
        self._content = io.BufferedReader(Decoded(self._packed, start), 1 << 16)

    def _packed(self, size: int) -> bytes:
        content = self._file.read(min(size, self._left))
        self._left -= len(content)
        return content

    def read(self, size: int) -> bytes:
        content = self._content.read(min(size, self._member.file_size - self._size))
        self._size += len(content)
        self._crc = zlib.crc32(content, self._crc)
        if self._size == self._member.file_size and self._crc != self._member.CRC:
            raise zipfile.BadZipFile("Bad CRC-32")
        return content


def _lzma_of(head: bytes) -> Callable[[], Decoder]:
    """The decoder for the five bytes of properties at the start of an LZMA entry, behind four of version and length."""
    if len(head) < 9 or head[2:4] != b"\5\0":
        raise zipfile.BadZipFile("no properties of LZMA")
    mode, size = struct.unpack("<BI", head[4:])
    if size > MAX_MEMORY:
        raise zipfile.BadZipFile(
            f"needs {size:,} bytes of memory to unpack, limit {MAX_MEMORY:,}; unpack it and use the folder"
        )
    rest, literal = divmod(mode, 9)
    of_position, of_literals = divmod(rest, 5)
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": size, "lc": literal, "lp": of_literals, "pb": of_position}]
    return lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
