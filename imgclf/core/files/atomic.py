"""Write files and folders atomically: they get their final names only when they are complete."""

import contextlib
import io
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from imgclf.core.files import contained


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a new, empty file beside `path`, with the same extension. It replaces `path` if the block ends without an error."""
    with _new_file(path) as (temporary, descriptor):
        os.close(descriptor)
        yield temporary


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Do the same as `atomic_path` for a block that writes to an open file."""
    with _new_file(path) as (_temporary, descriptor), open(descriptor, "wb") as file:
        yield file


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[tuple[Path, int]]:
    with contained.at(path.parent) as folder:
        name = contained.temporary_name(path.name)
        descriptor = folder.create(name)
        try:
            yield folder.path / name, descriptor
            with open(folder.open(name, os.O_RDWR), "r+b") as file:  # Windows syncs only files that are open for writing
                os.fsync(file.fileno())
            folder.give_permissions(name)  # again: some libraries replace the file instead of writing to it
            folder.replace(name, path.name)
            folder.sync()
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                folder.unlink(name)
            raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Do the same as `atomic_path` for a folder that the block creates and fills.

    A rename cannot replace a folder that is not empty. Therefore no folder has the name for an instant.
    """
    temporary, old = (path.with_name(contained.temporary_name(path.name)) for _number in range(2))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "r+b") as opened:
                    os.fsync(opened.fileno())
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        if old.exists() and not path.exists():
            os.replace(old, path)
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp(\.[^.]+)?")


def remove_leftovers(folder: contained.Folder) -> None:
    """Remove the temporary files of killed processes from a folder. Call it only while no process can be writing there."""
    for name in folder.names():
        status = folder.status(name) if _TEMPORARY.fullmatch(name) else None
        if status and stat.S_ISREG(status.st_mode):
            folder.unlink(name)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write the whole file, or keep the old one. Text is written as UTF-8 with surrogate escapes, for undecodable names."""
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    with atomic_file(path) as file:
        file.write(content)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines like `write_atomic`, without collecting them in memory."""
    with atomic_file(path) as file, io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="") as text:
        text.writelines(lines)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_atomic(path, json_text(value, indent=2) + "\n")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return JSON in valid UTF-8. Invalid bytes of file names become \\udcXX escapes, which JSON parsers read back."""
    return json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def sync_folder(folder: Path) -> None:
    """Wait until the entries of a folder are on the disk."""
    if sys.platform == "win32":
        return  # Windows cannot open a folder, and its file system keeps a journal of the entries
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
