"""What to do about an error of the operating system: one place, since each has a remedy of its own."""

import errno

# {elsewhere}: how to choose another place, in the words of whoever met the error.
_REMEDIES = {
    "ENOSPC": "make room there, or {elsewhere}",
    "EDQUOT": "your quota is used up: delete files of yours, or {elsewhere}",
    "EFBIG": "files there cannot be so large: raise the limit (ulimit -f), or {elsewhere}",
    "EROFS": "nothing can be written there: {elsewhere}",
    "EACCES": "ask its owner for permission, or {elsewhere}",
    "EPERM": "ask its owner for permission, or {elsewhere}",
    "EEXIST": "move away what is there, or {elsewhere}",
    "ENOTEMPTY": "move away what is there, or {elsewhere}",
    "ENOENT": "check the spelling and that every folder of the path is there",
    "ENOTDIR": "a file stands where a folder is needed: move it away, or {elsewhere}",
    "EISDIR": "a folder stands where a file is needed: {elsewhere}",
    "ENAMETOOLONG": "choose a shorter name",
    "EILSEQ": "the file system does not take this name: choose another name",
    "EINVAL": "the file system does not take this name or size: choose another name, or {elsewhere}",
    "ELOOP": "a link there leads back to itself: remove it, or {elsewhere}",
    "EMLINK": "the file has too many links: copy it, or {elsewhere}",
    "EXDEV": "the two lie on different disks: choose a place on the same one",
    "EMFILE": "raise the limit of open files, as with `ulimit -n 4096`",
    "ENFILE": "the machine has too many open files: close other programs",
    "ENOMEM": "close other programs, or use a machine with more memory",
    "EAGAIN": "the machine is too busy: wait, or raise the limit of processes (ulimit -u)",
    "EBUSY": "another program uses it: end that, or {elsewhere}",
    "ETXTBSY": "it is a program that is running: end that, or {elsewhere}",
    "EOPNOTSUPP": "the file system there cannot do this: {elsewhere}",
    "ENOSYS": "the file system there cannot do this: {elsewhere}",
    "ENODEV": "connect the disk again, or {elsewhere}",
    "ENXIO": "connect the disk again, or {elsewhere}",
    "EIO": "the disk reports a fault: check it and its cable, save your data, and {elsewhere}",
    "ESTALE": "the network folder has gone: mount it again",
    "ENOTCONN": "the network folder has gone: mount it again",
    "EHOSTDOWN": "the network folder has gone: mount it again",
    "ETIMEDOUT": "the network does not answer: check it",
}
_BY_NUMBER = {getattr(errno, name): words for name, words in _REMEDIES.items() if hasattr(errno, name)}


def why(error: OSError, elsewhere: str = "choose another place") -> str:
    """The system's words and the remedy, as `No space left on device; make room there, or choose another place`."""
    words = error.strerror or str(error) or type(error).__name__
    remedy = _BY_NUMBER.get(error.errno or 0)
    return f"{words}; {remedy.format(elsewhere=elsewhere)}" if remedy else words
