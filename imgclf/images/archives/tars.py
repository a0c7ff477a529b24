"""Images in a tar file, compressed or not, with bounded headers: tarfile itself believes their sizes."""

import bz2
import contextlib
import gzip
import io
import lzma
import re
import tarfile
from collections.abc import Iterator
from typing import IO, Any, cast

from imgclf.images.archives.member import (
    MAX_MEMORY,
    MAX_NAME,
    Budget,
    Decoded,
    Member,
    TooMuchError,
    image,
    is_foreign,
    is_image,
    too_long,
)

MAX_HEADERS = 1 << 18  # bytes of headers of one entry: long names, extended attributes, maps of sparse files
MAX_KEYWORDS = 64  # of an extended header, and of all that hold for every later entry
_ENTRY_COST, _HEADER_COST = 4096, 16  # reading an entry, and a byte of an extended header, takes as long as so many bytes


class _Stream:
    """The bytes of a tar, decompressed and read once from front to back, as a file for tarfile."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed, self._budget = packed, Budget()
        self._file, self._ahead, self._position = _decompressed(packed), b"", 0
        self.limit = MAX_HEADERS  # position that the headers of the next entry must not go beyond

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if self._position + size > self.limit:
            raise TooMuchError(f"an entry with more than {MAX_HEADERS:,} bytes of headers")
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
        """The next bytes, which stay to be read."""
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
        return io.BufferedReader(Decoded(file.read, lambda: lzma.LZMADecompressor(memlimit=MAX_MEMORY)), 1 << 16)
    return file


def members(file: IO[bytes]) -> Iterator[Member]:
    stream = _Stream(file)
    with tarfile.open(fileobj=cast(Any, stream), mode="r:", tarinfo=_headers_of(stream)) as archive:
        while member := archive.next():
            stream.charge(_ENTRY_COST)
            stream.limit = archive.offset + MAX_HEADERS
            if len(archive.pax_headers) > MAX_KEYWORDS:
                raise TooMuchError(f"more than {MAX_KEYWORDS} global keywords")
            name = member.name.removeprefix("./")
            if not member.isdir() and not is_foreign(name):
                yield from _entry(archive, member, name)
            archive.members.clear()  # type: ignore[attr-defined]  # the list would grow with the archive


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Iterator[Member]:
    if told := too_long(name):
        yield told
    elif member.islnk() or member.issym():
        yield Member(name, problem=f"cannot be unpacked: a link to {member.linkname[:MAX_NAME]}; unpack the archive first")
    elif content := archive.extractfile(member) if member.isfile() else None:
        yield from image(name, member.size, lambda: contextlib.nullcontext(content))
    elif is_image(name, b""):
        yield Member(name, problem="cannot be unpacked: a device or pipe, not a file")


def _headers_of(stream: _Stream) -> type[tarfile.TarInfo]:
    """The class by which tarfile reads headers; each is checked before it and what follows are read."""

    class Header(tarfile.TarInfo):
        pass

    # Newer versions of Python read the header behind an extended one by the second name.
    reads = "_fromtarfile" if hasattr(tarfile.TarInfo, "_fromtarfile") else "fromtarfile"
    inner = getattr(tarfile.TarInfo, reads).__func__

    def read(cls: Any, /, archive: tarfile.TarFile, **options: Any) -> Any:
        _check(stream, archive)
        return inner(cls, archive, **options)

    setattr(Header, reads, classmethod(read))
    return Header


def _check(stream: _Stream, archive: tarfile.TarFile) -> None:
    """Raise ReadError or TooMuchError for a header that tarfile must not read, which is the next in the stream."""
    try:
        block = stream.peek(tarfile.BLOCKSIZE)
        header = tarfile.TarInfo.frombuf(block, archive.encoding or "utf-8", archive.errors or "surrogateescape")
    except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
        # tarfile takes a damaged header behind the first entry for the end, so that the rest would be lost unsaid.
        raise tarfile.ReadError(str(error)) from error
    except tarfile.HeaderError:  # the end
        return
    if header.size < 0:
        raise tarfile.ReadError("an entry of negative size")
    if header.type in _EXTENDED:
        if header.size > MAX_HEADERS:
            raise TooMuchError(f"a header of {header.size:,} bytes, more than {MAX_HEADERS:,}")
        stream.charge(header.size * _HEADER_COST)
        content = stream.peek(tarfile.BLOCKSIZE + header.size)[tarfile.BLOCKSIZE :]
        if header.type in _PAX:
            _check_pax(content)


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
        raise TooMuchError(f"an extended header of {count:,} keywords, more than {MAX_KEYWORDS}")
    if re.search(rb"[0-9]{256}", content):
        raise tarfile.ReadError("an extended header with a number of more than 255 digits")
