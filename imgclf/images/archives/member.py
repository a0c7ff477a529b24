"""Shared by all archive formats: the member type, the limits, and the decompression budget."""

import bz2
import contextlib
import dataclasses
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from imgclf.core import names
from imgclf.images.formats import filetypes

MAX_MEMBER = 1 << 26  # bytes of one decompressed image
SLACK, RATIO = 1 << 26, 200  # decompressed bytes: a fixed allowance, and a multiple of the bytes read from the archive
MAX_MEMORY = 1 << 27  # bytes of memory of an LZMA decoder; `xz -9` needs half of this
MAX_NAME = 4096  # characters

DAMAGED = (  # the last two lines: what the parsers raise for unexpected bytes
    EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error,
    NotImplementedError, RuntimeError, OverflowError, MemoryError,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """An image in an archive, or the reason why it cannot be read.

    name: in the archive; "" if the problem is the archive itself. content: the file's bytes; None if there is a problem.
    """

    name: str
    content: bytes | None = None
    problem: str = ""


class TooMuchError(tarfile.TarError):
    """Raised for an archive that would take more memory or time than its size justifies."""


class Budget:
    """Limit the decompressed bytes to SLACK plus RATIO times the bytes read from the archive.

    Images expand little: their formats are compressed already. An archive of zeros or of overlapping entries would expand to
    thousands of times its size.
    """

    def __init__(self) -> None:
        self.spent = self.compressed = 0

    def allows(self, size: int) -> bool:
        """Return whether `size` more bytes may be decompressed."""
        return self.spent + size <= SLACK + RATIO * self.compressed

    def spend(self, size: int) -> None:
        """Count `size` decompressed bytes. Raises TooMuchError if they exceed the budget."""
        if not self.allows(size):
            raise TooMuchError(EXPANDS)
        self.spent += size


EXPANDS = f"unpacks to more than {RATIO} times its size; if you trust it, unpack it and use the folder"


def describe(error: BaseException) -> str:
    """Return an error as text that is never empty."""
    return "not enough memory" if isinstance(error, MemoryError) else str(error) or type(error).__name__


def read_image(
    name: str, size: int, open_entry: Callable[[], contextlib.AbstractContextManager[IO[bytes]]]
) -> Iterator[Member]:
    """Yield the member for an entry, or nothing if it is not an image.

    Args:
        name: in the archive.
        size: decompressed bytes that the entry declares.
        open_entry: opens the entry for reading.
    """
    if not size and not is_image(name, b""):
        return
    try:
        with open_entry() as file:
            head = file.read(filetypes.HEAD)
            if not is_image(name, head):
                return
            if size > MAX_MEMBER:
                problem = f"{size:,} bytes, the limit in an archive is {MAX_MEMBER:,}; unpack it and use the folder"
                yield Member(name, problem=problem)
            else:
                yield Member(name, head + file.read(MAX_MEMBER - len(head)))
    except TooMuchError:
        raise
    except RuntimeError as error:  # zipfile raises it for an unknown compression method
        yield Member(name, problem=f"cannot be unpacked: {describe(error)}")
    except DAMAGED as error:
        yield Member(name, problem=f"damaged in the archive: {describe(error)}")


def is_image(name: str, head: bytes) -> bool:
    """Return whether an entry is an image, by its extension or its first bytes."""
    extension = Path(name).suffix.lower()
    return extension in filetypes.EXTENSIONS or filetypes.is_image(head, extension)


def is_foreign(name: str) -> bool:
    """Return whether an entry is a hidden or system file, by the same rules as in a folder."""
    *folders, last = name.split("/")
    inside = (folder for folder in folders if folder not in (".", ".."))
    return any(map(names.is_foreign_folder, inside)) or bool(names.foreign_file(last))


def too_long(name: str) -> Member | None:
    """Return a member that reports a name of more than MAX_NAME characters; None for a shorter name."""
    if len(name) <= MAX_NAME:
        return None
    return Member(name[:60] + "...", problem=f"a name of {len(name):,} characters, more than {MAX_NAME:,}")


Decoder = bz2.BZ2Decompressor | lzma.LZMADecompressor


class Decoded(io.RawIOBase):
    """A raw file that decompresses step by step.

    Unlike lzma.LZMAFile, it accepts a decoder with a memory limit. Unlike zipfile, it decompresses only what is requested.

    read: returns at most that many compressed bytes. start: makes a new decoder, one for each compressed stream.
    """

    def __init__(self, read: Callable[[int], bytes], start: Callable[[], Decoder]) -> None:
        self._read, self._start, self._decoder = read, start, start()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            compressed = b""
            if self._decoder.eof:  # more streams may follow, with zeros between them
                compressed = self._decoder.unused_data.lstrip(b"\0") or self._read(1 << 16).lstrip(b"\0")
                if not compressed:
                    return 0
                self._decoder = self._start()
            elif self._decoder.needs_input and not (compressed := self._read(1 << 16)):
                raise EOFError("its data is truncated")
            content = self._decoder.decompress(compressed, len(buffer))
            if content:
                buffer[: len(content)] = content
                return len(content)
