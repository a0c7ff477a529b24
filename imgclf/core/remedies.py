"""Remedies for errors of the operating system, one per errno."""

import errno
import os
from pathlib import Path

from imgclf.core.files import owners

# {elsewhere}: how to choose another place, as text from the caller.
_REMEDIES = {
    "ENOSPC": "free some space there, or {elsewhere}",
    "EDQUOT": "your disk quota is used up: delete some files, or {elsewhere}",
    "EFBIG": "the file is too large there: raise the limit (ulimit -f), or {elsewhere}",
    "EROFS": "nothing can be written there: {elsewhere}",
    "EACCES": "ask its owner for permission, or {elsewhere}",
    "EPERM": "ask its owner for permission, or {elsewhere}",
    "EEXIST": "move the existing file or folder, or {elsewhere}",
    "ENOTEMPTY": "move the existing file or folder, or {elsewhere}",
    "ENOENT": "check the spelling, and that every folder in the path exists",
    "ENOTDIR": "a file is in the place of a folder: move it away, or {elsewhere}",
    "EISDIR": "this is a folder, not a file: {elsewhere}",
    "ENAMETOOLONG": "choose a shorter name",
    "EILSEQ": "the file system does not allow this name: choose another name",
    "EINVAL": "the file system does not allow this name or size: choose another name, or {elsewhere}",
    "ELOOP": "a link in the path points to itself: remove it, or {elsewhere}",
    "EMLINK": "the file has too many links: copy it, or {elsewhere}",
    "EXDEV": "source and target are on different disks: choose a place on the same disk",
    "EMFILE": "raise the limit on open files, for example with `ulimit -n 4096`",
    "ENFILE": "the machine has too many open files: close other programs",
    "ENOMEM": "close other programs, or use a machine with more memory",
    "EAGAIN": "the machine is too busy: wait, or raise the limit on processes (ulimit -u)",
    "EBUSY": "another program is using it: close that program, or {elsewhere}",
    "ETXTBSY": "it is a running program: stop it, or {elsewhere}",
    "EOPNOTSUPP": "the file system there does not support this: {elsewhere}",
    "ENOSYS": "the file system there does not support this: {elsewhere}",
    "ENODEV": "connect the disk again, or {elsewhere}",
    "ENXIO": "connect the disk again, or {elsewhere}",
    "EIO": "the disk reports an error: back up your data, check the disk and its cable, and {elsewhere}",
    "ESTALE": "the network folder is disconnected: mount it again",
    "ENOTCONN": "the network folder is disconnected: mount it again",
    "EHOSTDOWN": "the network folder is disconnected: mount it again",
    "ETIMEDOUT": "the network does not respond: check the connection",
}
_BY_NUMBER = {getattr(errno, name): words for name, words in _REMEDIES.items() if hasattr(errno, name)}


def why(error: OSError, elsewhere: str = "choose another place") -> str:
    """Return the system's message and a remedy: `No space left on device; free some space there, or choose another place`.

    Args:
        elsewhere: How to choose another place, as a clause such as "choose another file".
    """
    words = error.strerror or str(error) or type(error).__name__
    if error.errno in (errno.EACCES, errno.EPERM) and isinstance(name := error.filename, str | bytes):
        closed = owners.closed(Path(os.fsdecode(name)))
        if closed:
            return f"{words}; {closed}"
    remedy = _BY_NUMBER.get(error.errno or 0)
    return f"{words}; {remedy.format(elsewhere=elsewhere)}" if remedy else words
