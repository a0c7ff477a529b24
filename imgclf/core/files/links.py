"""Links and names: what imgclf refuses to follow."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from imgclf.core.errors import ImgclfError

BY_DESCRIPTOR = hasattr(os, "O_NOFOLLOW") and {os.open, os.stat, os.mkdir, os.unlink, os.rename, os.link} <= os.supports_dir_fd
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
OPEN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe must not block
FOLDER = OPEN | getattr(os, "O_DIRECTORY", 0)


class LinkError(ImgclfError):
    """A link, or something else that is no file or folder of its own, where imgclf writes. reason: without the path."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give errors the whole path: the system knows only the name within the folder."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


A_LINK = "a link, which imgclf does not follow here: remove it, or put the folder itself in its place"
SEVERAL_NAMES = "has several names (hard links), so imgclf does not write it: replace it by a copy"


def not_regular(status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return "a link, which imgclf does not follow here: remove it"
    return "not a regular file: move it away"


def is_component(name: str) -> bool:
    """Whether a name is one component of a path, and not `.` or `..`."""
    foreign = "\\:" if sys.platform == "win32" else ""
    try:
        os.fsencode(name)
    except UnicodeError:  # half a character, as JSON can have it
        return False
    return name not in ("", ".", "..") and not set(name) & {"/", "\0", *foreign}


def check_component(name: str) -> None:
    """Raise ValueError for what is no single component of a path."""
    if not is_component(name):
        raise ValueError(f"{name!r} is no name of a file or folder")


def open_folder(place: str | Path, at: int | None, *, follow: bool = False) -> int:
    flags = FOLDER | (0 if follow else NO_LINK)
    try:
        return os.open(place, os.O_RDONLY | flags, dir_fd=at)
    except PermissionError:
        if not hasattr(os, "O_PATH"):
            raise
        return os.open(place, os.O_PATH | flags, dir_fd=at)  # a folder that may be entered and not listed


def is_link(path: Path) -> bool:
    """Whether a path is a symbolic link, or a junction of Windows."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    is_junction = getattr(status, "st_reparse_tag", 0) == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
    return stat.S_ISLNK(status.st_mode) or is_junction
