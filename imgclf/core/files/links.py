"""Detect links and unsafe names, which imgclf refuses to follow."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from imgclf.core.errors import ImgclfError

BY_DESCRIPTOR = hasattr(os, "O_NOFOLLOW") and {os.open, os.stat, os.mkdir, os.unlink, os.rename, os.link} <= os.supports_dir_fd
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
OPEN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # opening a pipe must not block
FOLDER = OPEN | getattr(os, "O_DIRECTORY", 0)


class LinkError(ImgclfError):
    """imgclf would write to a link or to something else than a regular file or folder. `reason`: message without the path."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the whole path into an OSError: the system knows only the name within the folder."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


A_LINK = "a link, which imgclf does not follow here: remove it, or put the folder itself in its place"
SEVERAL_NAMES = "has several names (hard links), so imgclf does not write to it: replace it with a copy"


def not_regular(status: os.stat_result) -> str:
    """Return why an entry that is not a regular file is refused."""
    if stat.S_ISLNK(status.st_mode):
        return "a link, which imgclf does not follow here: remove it"
    return "not a regular file: move it away"


def is_component(name: str) -> bool:
    """Return whether a name is a single component of a path, and not `.` or `..`."""
    foreign = "\\:" if sys.platform == "win32" else ""
    try:
        os.fsencode(name)
    except UnicodeError:  # half of a surrogate pair, which JSON allows
        return False
    return name not in ("", ".", "..") and not set(name) & {"/", "\0", *foreign}


def check_component(name: str) -> None:
    """Raise ValueError unless a name is a single component of a path."""
    if not is_component(name):
        raise ValueError(f"{name!r} is not the name of a file or folder")


def open_folder(place: str | Path, at: int | None, *, follow: bool = False) -> int:
    """Return a descriptor of a folder. at: descriptor of the folder that `place` is relative to. follow: follow links."""
    flags = FOLDER | (0 if follow else NO_LINK)
    try:
        return os.open(place, os.O_RDONLY | flags, dir_fd=at)
    except PermissionError:
        if not hasattr(os, "O_PATH"):
            raise
        return os.open(place, os.O_PATH | flags, dir_fd=at)  # for a folder that may be entered but not listed


def is_link(path: Path) -> bool:
    """Return whether a path is a symbolic link, or a junction on Windows."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    is_junction = getattr(status, "st_reparse_tag", 0) == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
    return stat.S_ISLNK(status.st_mode) or is_junction
