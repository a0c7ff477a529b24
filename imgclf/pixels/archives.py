"""Images in archives, one after the other, of which nothing is believed: a small file must not cost much memory or time.

What is decompressed is bounded by the size of the archive itself (`_Budget`), whatever its headers claim. Links and devices in
an archive are never followed, and no entry's name is ever used as a path.
"""

import bz2
import contextlib
import dataclasses
import gzip
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from imgclf.base import names
from imgclf.pixels import filetypes

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_MEMBER = 1 << 26  # bytes of one image in an archive
SLACK, RATIO = 1 << 26, 200  # decompressed bytes: so many, and so many for each byte of the archive
MAX_HEADERS = 1 << 18  # bytes of headers of one tar entry: long names, extended attributes, maps of sparse files
MAX_KEYWORDS = 64  # of an extended header of a tar, and of all that hold for every later entry
MAX_MEMORY = 1 << 27  # bytes of an LZMA decoder; `xz -9` needs half of it
MAX_NAME = 4096
_ENTRY_COST, _HEADER_COST = 4096, 16  # reading a tar entry, and a byte of an extended header, takes as long as so many bytes

_DAMAGED = (  # the last two lines: of the parsers, at odd bytes
    EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error,
    NotImplementedError, RuntimeError, OverflowError, MemoryError,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """An image in an archive, or why it cannot be read. name: in the archive; "" where the archive itself has a problem."""

    name: str
    content: bytes | None = None
    problem: str = ""


def members(archive: str) -> Iterator[Member]:
    """The images in an archive, in its order. Entries that cannot be read are told, what is no image is skipped."""
    try:
        with open(archive, "rb") as file:
            yield from (_zipped if archive.lower().endswith(".zip") else _tarred)(file)
    except OSError as error:
        yield Member("", problem=f"cannot be read: {error.strerror or error}".lower())
    except _TooMuchError as error:
        yield Member("", problem=f"not read to its end: {error}")
    except _DAMAGED as error:
        yield Member("", problem=f"damaged or no archive: {_words(error)}")


class _TooMuchError(tarfile.TarError):
    """An archive that would take more memory or time than its size justifies."""


class _Budget:
    """How much may be decompressed: SLACK bytes and RATIO times what was read of the archive. Photographs need little more than
    once; an archive of zeros or of overlapping entries would need thousands of times its size."""

    def __init__(self) -> None:
        self.spent = self.packed = 0

    def allows(self, size: int) -> bool:
        return self.spent + size <= SLACK + RATIO * self.packed

    def spend(self, size: int) -> None:
        if not self.allows(size):
            raise _TooMuchError(_EXPANDS)
        self.spent += size


_EXPANDS = f"takes more than {RATIO} times its size to unpack; if you trust it, unpack it and give the folder"


def _words(error: BaseException) -> str:
    return "not enough memory" if isinstance(error, MemoryError) else str(error) or type(error).__name__


def _image(name: str, size: int, opening: Callable[[], contextlib.AbstractContextManager[IO[bytes]]]) -> Iterator[Member]:
    """The image of an entry, if it is one."""
    if not size and not _is_image(name, b""):
        return
    try:
        with opening() as file:
            head = file.read(filetypes.HEAD)
            if not _is_image(name, head):
                return
            if size > MAX_MEMBER:
                problem = f"{size:,} bytes, more than the {MAX_MEMBER:,} of one in an archive; unpack it"
                yield Member(name, problem=problem)
            else:
                yield Member(name, head + file.read(MAX_MEMBER - len(head)))
    except _TooMuchError:
        raise
    except RuntimeError as error:  # zipfile's words for a method that it does not know
        yield Member(name, problem=f"cannot be unpacked: {_words(error)}")
    except _DAMAGED as error:
        yield Member(name, problem=f"damaged in the archive: {_words(error)}")


def _is_image(name: str, head: bytes) -> bool:
    """Whether an entry is an image, by its extension or its first bytes."""
    ending = Path(name).suffix.lower()
    return ending in filetypes.ENDINGS or filetypes.is_image(head, ending)


def _is_foreign(name: str) -> bool:
    """Whether an entry is hidden or a system's own, as in a folder."""
    *folders, last = name.split("/")
    inside = (part for part in folders if part not in (".", ".."))
    return any(map(names.is_foreign_folder, inside)) or bool(names.foreign_file(last))


def _told(name: str) -> Member | None:
    """The record of an entry whose name no file can have."""
    if len(name) <= MAX_NAME:
        return None
    return Member(name[:60] + "...", problem=f"a name of {len(name):,} characters, more than {MAX_NAME:,}")


_Decoder = bz2.BZ2Decompressor | lzma.LZMADecompressor


class _Decoded(io.RawIOBase):
    """A decompressed file, step by step.

    Unlike lzma.LZMAFile it takes a decoder with a limit on its memory, and unlike zipfile it decompresses no more than asked.
    """

    def __init__(self, read: Callable[[int], bytes], start: Callable[[], _Decoder]) -> None:
        self._read, self._start, self._decoder = read, start, start()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            packed = b""
            if self._decoder.eof:  # several streams may follow each other, with zeros between them
                packed = self._decoder.unused_data.lstrip(b"\0") or self._read(1 << 16).lstrip(b"\0")
                if not packed:
                    return 0
                self._decoder = self._start()
            elif self._decoder.needs_input and not (packed := self._read(1 << 16)):
                raise EOFError("it ends too early")
            content = self._decoder.decompress(packed, len(buffer))
            if content:
                buffer[: len(content)] = content
                return len(content)


# -- tar --------------------------------------------------------------------------------------------------------------------


class _Stream:
    """The bytes of a tar, decompressed and read once from front to back, as a file for tarfile."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed, self._budget = packed, _Budget()
        self._file, self._ahead, self._position = _decompressed(packed), b"", 0
        self.limit = MAX_HEADERS  # position that the headers of the next entry must not go beyond

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if self._position + size > self.limit:
            raise _TooMuchError(f"an entry with more than {MAX_HEADERS:,} bytes of headers")
        content = self._ahead[:size]
        self._ahead = self._ahead[size:]
        content += self._more(size - len(content))
        self._position += len(content)
        return content

    def _more(self, size: int) -> bytes:
        self._budget.packed = self._packed.tell()
        content = self._file.read(size) if size > 0 else b""
        self._budget.spend(len(content))
        return content

    def seek(self, position: int) -> None:
        """Skip to a position that is not behind us: entries of negative size end here."""
        if position < self._position:
            raise tarfile.ReadError("an entry of negative size")
        self.limit = max(self.limit, position + MAX_HEADERS)
        while self._position < position:
            if not self.read(min(1 << 16, position - self._position)):
                raise tarfile.ReadError("it ends too early")

    def charge(self, size: int) -> None:
        self._budget.spend(size)

    def peek(self, size: int) -> bytes:
        """The next bytes, of an extended header, which stay to be read."""
        self.charge(size * _HEADER_COST)
        self._ahead += self._more(size - len(self._ahead))
        return self._ahead[:size]


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    """A tar as it was before it was compressed, known by its first bytes and read in small steps."""
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if head.startswith((b"\xfd7zXZ", b"\x5d\0\0")):
        return io.BufferedReader(_Decoded(file.read, lambda: lzma.LZMADecompressor(memlimit=MAX_MEMORY)), 1 << 16)
    return file


def _tarred(file: IO[bytes]) -> Iterator[Member]:
    stream = _Stream(file)
    with tarfile.open(fileobj=cast(Any, stream), mode="r:", tarinfo=_headers_of(stream)) as archive:
        while member := archive.next():
            stream.charge(_ENTRY_COST)
            stream.limit = archive.offset + MAX_HEADERS
            if len(archive.pax_headers) > MAX_KEYWORDS:
                raise _TooMuchError(f"more than {MAX_KEYWORDS} global keywords")
            name = member.name.removeprefix("./")
            if not member.isdir() and not _is_foreign(name):
                yield from _entry(archive, member, name)
            archive.members.clear()  # type: ignore[attr-defined]  # the list would grow with the archive


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Iterator[Member]:
    if told := _told(name):
        yield told
    elif member.islnk() or member.issym():
        yield Member(name, problem=f"cannot be unpacked: a link to {member.linkname[:MAX_NAME]}; unpack the archive first")
    elif content := archive.extractfile(member) if member.isfile() else None:
        yield from _image(name, member.size, lambda: contextlib.nullcontext(content))
    elif _is_image(name, b""):
        yield Member(name, problem="cannot be unpacked: a device or pipe, not a file")


def _headers_of(stream: _Stream) -> type[tarfile.TarInfo]:
    """The class by which tarfile reads headers; `frombuf` gets each of them before what follows it in the stream is read."""

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
            try:
                header = super().frombuf(buf, encoding, errors)
            except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
                # tarfile takes a damaged header behind the first entry for the end, so that the rest would be lost unsaid.
                raise tarfile.ReadError(str(error)) from error
            if header.type in _EXTENDED:
                if not 0 <= header.size <= MAX_HEADERS:
                    raise _TooMuchError(f"a header of {header.size:,} bytes, more than {MAX_HEADERS:,}")
                content = stream.peek(header.size)
                if header.type in _PAX:
                    _check_pax(content)
            return header

    return Header


_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENDED = (*_PAX, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def _check_pax(content: bytes) -> None:
    """Raise ReadError unless an extended header is a list of records `length keyword=value`.

    tarfile finds keywords by regular expressions. In others, or with long numbers, those of Python before 3.11.10 and 3.12.6
    take quadratic time (CVE-2024-6232).
    """
    position = count = 0
    while position < len(content) and content[position]:
        count += 1
        length, space, _rest = content[position : position + 8].partition(b" ")
        end = position + int(length) if length.isdigit() else 0
        record = content[position + len(length) + 1 : end]
        if not space or not record.endswith(b"\n") or b"=" not in record[1:] or end > len(content):
            raise tarfile.ReadError("an extended header that cannot be read")
        position = end
    if count > MAX_KEYWORDS:
        raise _TooMuchError(f"an extended header of {count:,} keywords, more than {MAX_KEYWORDS}")
    if re.search(rb"[0-9]{256}", content):
        raise tarfile.ReadError("an extended header with a number of more than 255 digits")


# -- ZIP --------------------------------------------------------------------------------------------------------------------


class _Directory(io.BufferedReader):
    """A ZIP file whose list of entries is bounded: zipfile reads it as a whole, and makes 600 bytes of each entry's 46."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(io.FileIO(file.fileno(), closefd=False))
        self._most = (1 << 24) + os.fstat(file.fileno()).st_size // 4

    def read(self, size: int | None = -1, /) -> bytes:
        if size and size > self._most:
            raise zipfile.BadZipFile(f"a directory of {size:,} bytes; unpack it and give the folder")
        return super().read(size)


def _zipped(file: IO[bytes]) -> Iterator[Member]:
    budget = _Budget()
    with _Directory(file) as whole, zipfile.ZipFile(whole) as archive:
        overlapping = _overlapping(archive)
        for member in archive.infolist():
            name = member.filename.removeprefix("./")
            if member.is_dir() or _is_foreign(name):
                continue
            if problem := _refusal(member, member.header_offset in overlapping, budget):
                yield _told(name) or Member(name, problem=f"cannot be unpacked: {problem}")
                continue
            budget.packed += member.compress_size
            for found in [told] if (told := _told(name)) else _image(name, member.file_size, _opening(archive, member, whole)):
                budget.spent += len(found.content or b"")
                yield found


def _refusal(member: zipfile.ZipInfo, overlaps: bool, budget: _Budget) -> str:
    """Why an entry is not read at all; "" if it is."""
    if stat.S_ISLNK(member.external_attr >> 16):
        return "a link; unpack the archive first"
    if member.flag_bits & 1:
        return "it is encrypted; unpack the archive first"
    if overlaps:
        return "it shares its bytes with another entry, as in a ZIP bomb"
    if member.file_size <= MAX_MEMBER and not budget.allows(member.file_size - RATIO * member.compress_size):
        return _EXPANDS
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
        start: Callable[[], _Decoder] = _lzma_of(self._packed(9)) if is_lzma else bz2.BZ2Decompressor
        self._content = io.BufferedReader(_Decoded(self._packed, start), 1 << 16)

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


def _lzma_of(head: bytes) -> Callable[[], _Decoder]:
    """The decoder for the five bytes of properties at the start of an LZMA entry, behind four of version and length."""
    if len(head) < 9 or head[2:4] != b"\5\0":
        raise zipfile.BadZipFile("no properties of LZMA")
    mode, size = struct.unpack("<BI", head[4:])
    if size > MAX_MEMORY:
        raise zipfile.BadZipFile(f"needs {size:,} bytes of memory, more than {MAX_MEMORY:,}; unpack it")
    rest, literal = divmod(mode, 9)
    of_position, of_literals = divmod(rest, 5)
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": size, "lc": literal, "lp": of_literals, "pb": of_position}]
    return lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
