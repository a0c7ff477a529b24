"""Give new files and folders in `.imgclf` the permissions of the data folder.

Everyone who can write the data can then write them. Otherwise the umask of the first user would lock out the rest of a team.
Each new file or folder gets the group of the data folder, and its permission bits for every class of users that may write
there. Nobody gets more than the data folder grants. If a folder has default ACLs, the system applies them and nothing is
changed here. Nothing is changed on Windows.
"""

import contextlib
import os
import stat
import struct
from pathlib import Path

STATE_NAME = ".imgclf"

_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_ENTRY = struct.Struct("<HHI")  # an entry of the attribute, after four bytes of version: tag, permissions, id
_OWNER, _USER = 1, 2  # tags
_CLASSES = (0o070, 0o007)  # group and others; the owner can always write a new file


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents. `.imgclf` and folders below it get the permissions of the data folder."""
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
    """Make an empty file unless it exists. Below `.imgclf` it gets the permissions of the data folder."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        follow(path)


def follow(path: Path) -> None:
    """Give a new file or folder the permissions of the data folder, if it is `.imgclf` or below it.

    The parent folder cannot serve as the source, because another process may just be creating it. If the system does not allow
    the change (another owner, a file system without permissions), nothing is changed.
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
    if own.st_nlink > 1 and not stat.S_ISDIR(own.st_mode):  # somebody linked another file into the place of the new one
        return
    owner = above.st_uid if os.geteuid() == 0 else -1  # files that root creates in a user's folder belong to the user
    with contextlib.suppress(OSError):
        os.fchown(descriptor, owner, above.st_gid)
    own = os.fstat(descriptor)
    is_folder = stat.S_ISDIR(own.st_mode)
    if is_folder and (acl := _acl(data, _ACCESS)):  # users named in the ACL must be able to write new files here
        with contextlib.suppress(OSError):
            acl = _with_user(acl, above.st_uid)
            os.setxattr(descriptor, _DEFAULT, acl)
            os.setxattr(descriptor, _ACCESS, acl)
            return
    granted = above.st_mode
    if own.st_gid != above.st_gid:  # our group has no rights on the folder, so it gets those of others
        granted = granted & ~0o2070 | (granted & 0o007) << 3 & granted
    mode = 0o700 | granted & (stat.S_ISGID | stat.S_ISVTX)
    for users in _CLASSES:
        mode |= granted & users & (0o777 if granted & users & 0o222 else own.st_mode)
    os.fchmod(descriptor, mode if is_folder else mode & 0o666)


def _acl(path: Path, name: str) -> bytes:
    """An ACL of a file or folder; empty if there is none or the system does not support it."""
    try:
        return os.getxattr(path, name)  # type: ignore[attr-defined,no-any-return,unused-ignore]
    except (OSError, AttributeError):
        return b""


def _with_user(acl: bytes, user: int) -> bytes:
    """The ACL with an entry for the folder's owner, so that it also works for files of other users."""
    entries = {(tag, who): permissions for tag, permissions, who in _ENTRY.iter_unpack(acl[4:])}
    owners = next(permissions for (tag, _who), permissions in entries.items() if tag == _OWNER)
    entries.setdefault((_USER, user), owners)
    return acl[:4] + b"".join(_ENTRY.pack(tag, permissions, who) for (tag, who), permissions in sorted(entries.items()))
