"""Files and folders that take their names only when they are whole."""

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from imgclf.base import permissions


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with the same ending, that takes its name when the block ends without an error."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "r+b") as file:  # Windows syncs only what could be written
            os.fsync(file.fileno())
        permissions.follow(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """`atomic_path` for a folder that the block makes and fills.

    No rename puts a folder in the place of a full one: for an instant there is none under the name.
    """
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{word}") for word in ("tmp", "old"))
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


_TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp(\.[^.]+)?")


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed left in a folder; only while it is sure that none is at work in it."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write the whole file or leave the old one; text is UTF-8 with surrogate escapes for undecodable names."""
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """`write_atomic` for a file that is too long to be put together in memory."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.writelines(lines)


def write_json(path: Path, value: Any) -> None:
    """Readable JSON, written atomically."""
    write_atomic(path, json_text(value, indent=2) + "\n")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON in valid UTF-8: bytes of file names that are not appear as \\udcXX escapes, which JSON reads back."""
    return json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return  # a folder cannot be opened there, and its entries are journalled by the file system
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
