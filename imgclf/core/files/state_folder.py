"""The folder for imgclf's own files: `.imgclf` in the data folder, or the user's cache if the data is read-only."""

import errno
import os
import shlex
from pathlib import Path

from imgclf.core import names
from imgclf.core.errors import ImgclfError
from imgclf.core.files import contained, owners
from imgclf.core.files.paths import STATE_NAME, cache_folder, home
from imgclf.core.remedies import why

_MARKS = ("split.csv", "folds", "index")  # the state folder of every used data folder contains one of these


def check_data_folder(data: Path) -> None:
    """Raise ImgclfError unless `data` is a folder, and neither the root nor the home folder."""
    if not data.exists():
        raise ImgclfError(f"{data}: no such folder; give the folder that holds one folder of images per class")
    if not data.is_dir():
        raise ImgclfError(f"{data}: a file, not a folder; give the folder that holds one folder of images per class")
    resolved = data.resolve()
    if resolved in (Path(resolved.anchor), home()):
        raise ImgclfError(
            f"{data}: the home folder or the root of the disk ({resolved}); give the folder that holds the class folders"
        )


def is_writable(folder: Path) -> bool:
    """Return whether a file can be created in the folder. It creates one, because permission bits alone are not reliable."""
    import tempfile

    try:
        descriptor, probe = tempfile.mkstemp(prefix=".imgclf-probe-", dir=folder)
    except OSError as error:
        # A full disk is no permission problem: the next write reports it.
        return error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)
    os.close(descriptor)
    os.unlink(probe)
    return True


def command(verb: str, data: Path, *options: str) -> str:
    """Return a command on a data folder, ready to paste, such as `imgclf split data --force`."""
    folder = os.fspath(data)
    return f"`{shlex.join(['imgclf', verb, f'./{folder}' if folder.startswith('-') else folder, *options])}`"


def check_outside(place: Path, option: str, *known: Path, itself: bool = False) -> None:
    """Raise ImgclfError for an output path inside a data folder: the output would be read as a class or an image.

    Paths below a hidden folder are allowed, because hidden folders are never read as data.

    Args:
        known: Data folders of the command. Others are recognised by their split or index.
        itself: Also refuse the data folder itself.
    """
    resolved = place.resolve()
    above = (resolved, *resolved.parents) if itself else resolved.parents
    marked = (folder for folder in above if any(os.path.lexists(folder / STATE_NAME / mark) for mark in _MARKS))
    for data in (*(folder.resolve() for folder in known), *marked):
        if data in above and not any(name.startswith(".") for name in resolved.relative_to(data).parts):
            raise ImgclfError(
                f"{place}: is inside the data folder {data} and would become part of the data; "
                f"choose a place outside it for {option}"
            )


def check_output(path: Path, data: Path, ending: str, start: str, option: str) -> None:
    """Raise ImgclfError if a command cannot write its output file. Call it before the command does anything else.

    The file must be outside the data folder, where it could become a sample.

    Args:
        ending: Required extension of the name, with the dot.
        start: Start of the first line of every such file by imgclf. An existing file is replaced only if it starts so.
        option: The option that sets `path`, for messages.
    """
    if path.suffix.lower() != ending:
        raise ImgclfError(f"{path}: give {option} a file name that ends in {ending}")
    check_outside(path, option, data)
    if os.path.lexists(path):
        if not path.is_file():  # a pipe would block for ever
            raise ImgclfError(f"{path}: exists and is not a regular file; choose another name")
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                line = file.readline(4096)
        except OSError:
            line = "unreadable"
        if line and not line.startswith(start):
            raise ImgclfError(f"{path}: exists and was not written by imgclf, so it is not overwritten; choose another name")
    if not path.parent.is_dir() or not is_writable(path.parent):
        raise ImgclfError(f"{path}: the folder {path.parent} is missing or cannot be written; choose another place")


def numbered(path: Path) -> Path:
    """Return the first free name for an older file: `path` with a number after its stem, such as report-1.csv."""
    others = (path.with_name(name) for name in names.numbered(path.stem, path.suffix, 1))
    return next(other for other in others if not os.path.lexists(other))


def state_folder(data: Path) -> Path:
    """Return the folder for everything that imgclf stores about `data`, and create it if missing.

    It is `DATA/.imgclf`. If the data folder is read-only, it is a folder in the user's cache with a hash of its path.

    Raises:
        ImgclfError: `data` is not a folder, or neither place can be written.
    """
    check_data_folder(data)
    inside = data / STATE_NAME
    if os.path.islink(inside):
        raise ImgclfError(f"{inside}: a link where imgclf keeps its own folder, and links are not followed there; remove it")
    if inside.exists() and not inside.is_dir():
        raise ImgclfError(f"{inside}: a file where imgclf keeps its own folder; move it away")
    if (inside.is_dir() and is_writable(inside)) or (not inside.exists() and is_writable(data)):
        folder = inside
    else:
        import hashlib

        resolved = data.resolve()
        digest = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:12]
        folder = cache_folder() / "data" / f"{resolved.name}-{digest}"
    try:
        contained.make_folder(folder)
    except OSError as error:
        raise ImgclfError(
            f"{owners.closed(inside) or f'{data}: read-only'}, and the cache folder {folder} cannot be created: "
            f"{why(error, 'set XDG_CACHE_HOME to a writable folder')}"
        ) from error
    return folder


def not_writable(data: Path, consequence: str) -> str:
    """Return a message: why imgclf cannot write to the data folder, and the consequence of it."""
    closed = owners.closed(data / STATE_NAME)
    return f"{data}: {consequence}: {closed}" if closed else f"{data}: read-only, so {consequence}"


def is_inside(state: Path, data: Path) -> bool:
    """Return whether the state folder is inside the data folder. It is in the cache if the data folder is read-only."""
    return state == data / STATE_NAME
