"""Whoever may write the data folder may write what imgclf keeps in it: new files and folders there follow its permissions.

The umask of whoever comes first would shut the others of a team out. So each new file or folder below `.imgclf` takes, from the
data folder, the bits of every class of users that may write there, and its group; nobody gets more than that folder grants. If
a folder has default ACLs, the system hands those on by itself and nothing is changed here, as ever on Windows.
"""

import contextlib
import os
import stat
import struct
from pathlib import Path

STATE_NAME = ".imgclf"

_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_ENTRY = struct.Struct("<HHI")  # of such a value, behind four bytes of version: tag, permissions, id
_OWNER, _USER = 1, 2  # tags
_CLASSES = (0o070, 0o007)  # group and others; the owner of a new file always may write it


def make_folder(path: Path) -> None:
    """Make a folder and those above it, as far as they are missing; `.imgclf` and those below it follow the data folder."""
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_folder(path.parent)
        make_folder(path)
    else:
        follow(path)


def create(path: Path) -> None:
    """Make an empty file unless there is one; below `.imgclf` it follows the data folder."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        follow(path)


def follow(path: Path) -> None:
    """Give a file or folder that was just made the permissions of the data folder, if it is `.imgclf` or lies below that.

    The data folder, and not the one that it lies in: another process may be making that just now. Where the system does not
    allow it (another owner, a file system without permissions), it stays as it is.
    """
    data = next((place.parent for place in (path, *path.parents) if place.name == STATE_NAME), None)
    if data is None or os.name == "nt":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not _acl(path.parent, _DEFAULT):
                _follow(descriptor, data)
        finally:
            os.close(descriptor)


def _follow(descriptor: int, data: Path) -> None:
    above, own = os.stat(data), os.fstat(descriptor)
    if own.st_nlink > 1 and not stat.S_ISDIR(own.st_mode):  # another put a link to some file in the place of what we made
        return
    owner = above.st_uid if os.geteuid() == 0 else -1  # what an administrator makes in a user's folder is the user's
    with contextlib.suppress(OSError):
        os.fchown(descriptor, owner, above.st_gid)
    own = os.fstat(descriptor)
    is_folder = stat.S_ISDIR(own.st_mode)
    if is_folder and (acl := _acl(data, _ACCESS)):  # it names users, who must be able to write what others make here
        with contextlib.suppress(OSError):
            acl = _with_user(acl, above.st_uid)
            os.setxattr(descriptor, _DEFAULT, acl)
            os.setxattr(descriptor, _ACCESS, acl)
            return
    granted = above.st_mode
    if own.st_gid != above.st_gid:  # our own group is no group of the folder: to it we are others
        granted = granted & ~0o2070 | (granted & 0o007) << 3 & granted
    mode = 0o700 | granted & (stat.S_ISGID | stat.S_ISVTX)
    for users in _CLASSES:
        mode |= granted & users & (0o777 if granted & users & 0o222 else own.st_mode)
    os.fchmod(descriptor, mode if is_folder else mode & 0o666)


def _acl(path: Path, name: str) -> bytes:
    """An ACL of a file or folder; empty where it has none, or where the system knows none of this kind."""
    try:
        return os.getxattr(path, name)  # type: ignore[attr-defined,no-any-return,unused-ignore]
    except (OSError, AttributeError):
        return b""


def _with_user(acl: bytes, user: int) -> bytes:
    """An ACL that names the folder's owner, with the owner's permissions, so that it can be that of other users' files too."""
    entries = {(tag, who): permissions for tag, permissions, who in _ENTRY.iter_unpack(acl[4:])}
    owners = next(permissions for (tag, _who), permissions in entries.items() if tag == _OWNER)
    entries.setdefault((_USER, user), owners)
    return acl[:4] + b"".join(_ENTRY.pack(tag, permissions, who) for (tag, who), permissions in sorted(entries.items()))
