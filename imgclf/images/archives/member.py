"""What archives of all formats share: a member, the limits, and the budget of what may be decompressed."""

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

MAX_MEMBER = 1 << 26  # bytes of one image in an archive
SLACK, RATIO = 1 << 26, 200  # decompressed bytes: so many, and so many for each byte of the archive
MAX_MEMORY = 1 << 27  # bytes of an LZMA decoder; `xz -9` needs half of it
MAX_NAME = 4096

DAMAGED = (  # the last two lines: of the parsers, at odd bytes
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


class TooMuchError(tarfile.TarError):
    """An archive that would take more memory or time than its size justifies."""


class Budget:
    """How much may be decompressed: SLACK bytes and RATIO times what was read of the archive. Photographs need little more than
    once; an archive of zeros or of overlapping entries would need thousands of times its size."""

    def __init__(self) -> None:
        self.spent = self.packed = 0

    def allows(self, size: int) -> bool:
        return self.spent + size <= SLACK + RATIO * self.packed

    def spend(self, size: int) -> None:
        if not self.allows(size):
            raise TooMuchError(EXPANDS)
        self.spent += size


EXPANDS = f"unpacks to more than {RATIO} times its size; if you trust it, unpack it and use the folder"


def words(error: BaseException) -> str:
    return "not enough memory" if isinstance(error, MemoryError) else str(error) or type(error).__name__


def image(name: str, size: int, opening: Callable[[], contextlib.AbstractContextManager[IO[bytes]]]) -> Iterator[Member]:
    """The image of an entry, if it is one."""
    if not size and not is_image(name, b""):
        return
    try:
        with opening() as file:
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
    except RuntimeError as error:  # zipfile's words for a method that it does not know
        yield Member(name, problem=f"cannot be unpacked: {words(error)}")
    except DAMAGED as error:
        yield Member(name, problem=f"damaged in the archive: {words(error)}")


def is_image(name: str, head: bytes) -> bool:
    """Whether an entry is an image, by its extension or its first bytes."""
    ending = Path(name).suffix.lower()
    return ending in filetypes.ENDINGS or filetypes.is_image(head, ending)


def is_foreign(name: str) -> bool:
    """Whether an entry is hidden or a system's own, as in a folder."""
    *folders, last = name.split("/")
    inside = (part for part in folders if part not in (".", ".."))
    return any(map(names.is_foreign_folder, inside)) or bool(names.foreign_file(last))


def too_long(name: str) -> Member | None:
    """The record of an entry whose name no file can have."""
    if len(name) <= MAX_NAME:
        return None
    return Member(name[:60] + "...", problem=f"a name of {len(name):,} characters, more than {MAX_NAME:,}")


Decoder = bz2.BZ2Decompressor | lzma.LZMADecompressor


class Decoded(io.RawIOBase):
    """A decompressed file, step by step.

    Unlike lzma.LZMAFile it takes a decoder with a limit on its memory, and unlike zipfile it decompresses no more than asked.
    """

    def __init__(self, read: Callable[[int], bytes], start: Callable[[], Decoder]) -> None:
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
