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

from imgclf.core.files.paths import STATE_NAME

_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_ENTRY = struct.Struct("<HHI")  # an entry of an ACL attribute, after four bytes of version: tag, permissions, id
_OWNER, _USER = 1, 2  # tags
_CLASSES = (0o070, 0o007)  # group and others; the owner can always write a new file


def data_of(path: Path) -> Path | None:
    """Return the data folder that a file or folder in `.imgclf` belongs to; None for other paths, and on Windows."""
    return (
        None if os.name == "nt" else next((place.parent for place in (path, *path.parents) if place.name == STATE_NAME), None)
    )


def follow(descriptor: int, parent: int, data: Path) -> None:
    """Give a new file or folder the permissions of the data folder.

    The parent folder cannot be the source, because another process may still be creating it. If the system does not allow the
    change (another owner, a file system without permissions), nothing is changed.

    Args:
        descriptor: Descriptor of the new file or folder.
        parent: Descriptor of the folder that contains it.
        data: The data folder.
    """
    with contextlib.suppress(OSError):
        if not _acl(parent, _DEFAULT):
            _follow(descriptor, data)


def _follow(descriptor: int, data: Path) -> None:
    above, own = os.stat(data), os.fstat(descriptor)
    if own.st_nlink > 1 and not stat.S_ISDIR(own.st_mode):  # someone replaced the new file with a hard link to another file
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
    if own.st_gid != above.st_gid:  # our group has no rights on the data folder, so it gets the rights of others
        granted = granted & ~0o2070 | (granted & 0o007) << 3 & granted
    mode = 0o700 | granted & (stat.S_ISGID | stat.S_ISVTX)
    for users in _CLASSES:
        mode |= granted & users & (0o777 if granted & users & 0o222 else own.st_mode)
    os.fchmod(descriptor, mode if is_folder else mode & 0o666)


def _acl(path: Path | int, name: str) -> bytes:
    """Return an ACL of a file or folder; empty if there is none or the system does not support ACLs."""
    try:
        return os.getxattr(path, name)  # type: ignore[attr-defined,no-any-return,unused-ignore]
    except (OSError, AttributeError):
        return b""


def _with_user(acl: bytes, user: int) -> bytes:
    """Return the ACL with an entry for the folder's owner, so that the owner can also use files of other users."""
    entries = {(tag, who): permissions for tag, permissions, who in _ENTRY.iter_unpack(acl[4:])}
    owners = next(permissions for (tag, _who), permissions in entries.items() if tag == _OWNER)
    entries.setdefault((_USER, user), owners)
    return acl[:4] + b"".join(_ENTRY.pack(tag, permissions, who) for (tag, who), permissions in sorted(entries.items()))
