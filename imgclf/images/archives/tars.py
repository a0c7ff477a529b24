"""Read images from a tar file, compressed or not, and limit the size of its headers, which tarfile does not."""

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
    is_foreign,
    is_image,
    read_image,
    too_long,
)

MAX_HEADERS = 1 << 18  # bytes of headers per entry: long names, extended attributes, maps of sparse files
MAX_KEYWORDS = 64  # in one extended header, and in all global headers together
# Reading an entry, or one byte of an extended header, takes as long as decompressing this many bytes.
_ENTRY_COST, _HEADER_COST = 4096, 16


class _Stream:
    """A file for tarfile: the decompressed bytes of a tar, read once from start to end within a budget."""

    def __init__(self, compressed: IO[bytes]) -> None:
        self._compressed, self._budget = compressed, Budget()
        self._file, self._peeked, self._position = _decompressed(compressed), b"", 0
        self.limit = MAX_HEADERS  # position that reading must not pass: it bounds the headers of the next entry

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end. Raises TooMuchError past the limit or the budget."""
        if self._position + size > self.limit:
            raise TooMuchError(f"an entry with more than {MAX_HEADERS:,} bytes of headers")
        content = self._peeked[:size]
        self._peeked = self._peeked[size:]
        content += self._decompress(size - len(content))
        self._position += len(content)
        return content

    def _decompress(self, size: int) -> bytes:
        self._budget.compressed = self._compressed.tell()
        content = self._file.read(size) if size > 0 else b""
        self._budget.spend(len(content))
        return content

    def seek(self, position: int) -> None:
        """Skip forward to a position. Raises ReadError for a smaller one, which only an entry of negative size asks for."""
        if position < self._position:
            raise tarfile.ReadError("an entry of negative size")
        self.limit = max(self.limit, position + MAX_HEADERS)
        while self._position < position:
            if not self.read(min(1 << 16, position - self._position)):
                raise tarfile.ReadError("its data is truncated")

    def charge(self, size: int) -> None:
        """Count work that takes as long as decompressing `size` bytes. Raises TooMuchError if it exceeds the budget."""
        self._budget.spend(size)

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes without consuming them."""
        self._peeked += self._decompress(size - len(self._peeked))
        return self._peeked[:size]


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    """Return the decompressed tar as a file. The first bytes tell the compression; data is decompressed in small steps."""
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
    """Yield the images of a tar file. Raises one of `DAMAGED` for a damaged file, TooMuchError for one over a limit."""
    stream = _Stream(file)
    with tarfile.open(fileobj=cast(Any, stream), mode="r:", tarinfo=_checking_class(stream)) as archive:
        while member := archive.next():
            stream.charge(_ENTRY_COST)
            stream.limit = archive.offset + MAX_HEADERS
            if len(archive.pax_headers) > MAX_KEYWORDS:
                raise TooMuchError(f"more than {MAX_KEYWORDS} global keywords")
            name = member.name.removeprefix("./")
            if not member.isdir() and not is_foreign(name):
                yield from _entry(archive, member, name)
            archive.members.clear()  # type: ignore[attr-defined]  # otherwise the list grows with the archive


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Iterator[Member]:
    """Yield the member for one entry, or nothing if it is not an image."""
    if record := too_long(name):
        yield record
    elif member.islnk() or member.issym():
        yield Member(name, problem=f"cannot be unpacked: a link to {member.linkname[:MAX_NAME]}; unpack the archive first")
    elif content := archive.extractfile(member) if member.isfile() else None:
        yield from read_image(name, member.size, lambda: contextlib.nullcontext(content))
    elif is_image(name, b""):
        yield Member(name, problem="cannot be unpacked: a device or pipe, not a file")


def _checking_class(stream: _Stream) -> type[tarfile.TarInfo]:
    """Return a TarInfo class that checks each header before tarfile reads it and the data after it."""

    class Header(tarfile.TarInfo):
        pass

    # Newer versions of Python read the header after an extended one with `_fromtarfile`.
    method = "_fromtarfile" if hasattr(tarfile.TarInfo, "_fromtarfile") else "fromtarfile"
    inner = getattr(tarfile.TarInfo, method).__func__

    def read(cls: Any, /, archive: tarfile.TarFile, **options: Any) -> Any:
        _check(stream, archive)
        return inner(cls, archive, **options)

    setattr(Header, method, classmethod(read))
    return Header


def _check(stream: _Stream, archive: tarfile.TarFile) -> None:
    """Raise ReadError or TooMuchError if tarfile must not read the next header in the stream."""
    try:
        block = stream.peek(tarfile.BLOCKSIZE)
        header = tarfile.TarInfo.frombuf(block, archive.encoding or "utf-8", archive.errors or "surrogateescape")
    except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
        # tarfile treats a damaged header after the first entry as the end of the archive and hides the loss of the rest.
        raise tarfile.ReadError(str(error)) from error
    except tarfile.HeaderError:  # the end of the archive
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

    tarfile finds keywords with regular expressions. Before Python 3.11.10 and 3.12.6, these take quadratic time on records of
    another form and on long numbers (CVE-2024-6232).
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
