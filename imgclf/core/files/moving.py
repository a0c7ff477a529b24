"""Move one file between folders that may come from someone else: by no link, and never over another file."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from imgclf.core.files import contained
from imgclf.core.files.contained import Folder
from imgclf.core.files.links import LinkError
from imgclf.core.remedies import why

GONE = "the file is no longer there"


def move(
    source: tuple[Folder, str], target: tuple[Folder, str], allowed: Callable[[os.stat_result], str] = lambda _status: ""
) -> str:
    """Move a file or link from a relative path to another, never over anything; returns "" or why not.

    Each path is relative to its folder. Folders on the way to the target are made. allowed: says of the file why it must stay.
    Doing it twice is doing it once.
    """
    try:
        with contextlib.ExitStack() as stack:
            try:
                here, name = stack.enter_context(contained.parent(*source))
            except (FileNotFoundError, NotADirectoryError):
                return "" if contained.status(*target) else GONE
            before = here.status(name)
            if before is None:
                return "" if contained.status(*target) else GONE
            if stat.S_ISDIR(before.st_mode):
                return "a folder, not a file"
            if not contained.status(*target) and (reason := allowed(before)):
                return reason
            there, new = stack.enter_context(contained.parent(*target, make=True))
            after = there.status(new)
            if after and _have_two_names(before, after, here, name, there, new):  # killed between the link and the unlink
                here.unlink(name)
                return ""
            return f"{new} exists already" if after else _move(here, name, there, new, before)
    except LinkError as error:
        return error.reason
    except OSError as error:
        return why(error)


def _move(here: Folder, name: str, there: Folder, new: str, before: os.stat_result) -> str:
    try:
        here.link(name, there, new)  # unlike rename, a link never replaces a file
    except FileExistsError:
        return f"{new} exists already"
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS, errno.EXDEV):
            raise
        here.rename(name, there, new)  # no hard links here (FAT, some network folders); the lock keeps other commands out
        return ""
    moved, left = there.status(new), here.status(name)
    if moved is None or not os.path.samestat(moved, before):  # another file took the place of the one that was checked
        if moved and moved.st_nlink > 1:
            there.unlink(new)
        return "changed while it was moved"
    if left is None or not os.path.samestat(left, before):  # the old name has another file now, or none
        return ""
    try:
        here.unlink(name)
    except OSError:  # the folder may not be written: then the file stays where it was, under one name
        there.unlink(new)
        raise
    return ""


def _have_two_names(one: os.stat_result, other: os.stat_result, here: Folder, name: str, there: Folder, new: str) -> bool:
    """Whether two entries are hard links of one file, and not the same entry."""
    return os.path.samestat(one, other) and one.st_nlink > 1 and not (name == new and here.is_same(there))
