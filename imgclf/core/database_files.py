"""Check which files SQLite may open, and rename damaged ones."""

import contextlib
import logging
import os
import stat
from pathlib import Path

from imgclf.core.errors import ImgclfError
from imgclf.core.files import contained
from imgclf.core.files.state_folder import numbered

_log = logging.getLogger("imgclf")
BESIDE = ("-journal", "-wal", "-shm")  # files that SQLite keeps beside its own


class Damaged(ImgclfError):
    """A file is proven to be damaged. `kept` is its new name after it was renamed."""

    def __init__(self, path: Path, identity: tuple[int, int], why: str) -> None:
        super().__init__(path, identity, why)
        self.path, self.identity, self.why, self.kept = path, identity, why, ""

    def __str__(self) -> str:
        return f"{self.path}: damaged ({self.why}); run the command again to rebuild it; old file: {self.kept}"

    def set_aside(self) -> None:
        """Rename the file, unless another command has already replaced it with a new one."""
        self.kept = "renamed by another command"
        with contextlib.suppress(FileNotFoundError), contained.at(self.path.parent) as folder:
            status = folder.status(self.path.name)
            if status is None or (status.st_dev, status.st_ino) == self.identity:
                self.kept = numbered(self.path).name
                for ending in ("", *BESIDE):  # otherwise SQLite would apply the old journal to the new file
                    with contextlib.suppress(FileNotFoundError):
                        folder.replace(self.path.name + ending, self.kept + ending)


def warn(damage: Damaged) -> None:
    """Log one line: a file was damaged and is rebuilt."""
    _log.warning("%s: damaged (%s) and rebuilt; old file: %s", damage.path, damage.why, damage.kept)


def own_file(path: Path, *, make: bool) -> tuple[int, int] | None:
    """Return (device, inode) of a file; None if it is missing and `make` is off.

    Raises:
        Damaged: It is a link or has several names, so SQLite would write to a file elsewhere.
        ImgclfError: It is not a regular file.
    """
    with contained.at(path.parent, make=make) as folder:
        for name in (path.name, *(path.name + ending for ending in BESIDE)):
            status = folder.status(name)
            if status and (stat.S_ISLNK(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink > 1)):
                whole = folder.status(path.name) or status
                what = "is a link" if stat.S_ISLNK(status.st_mode) else "has several names (hard links)"
                raise Damaged(path, (whole.st_dev, whole.st_ino), f"{name} {what}")
            if status and not stat.S_ISREG(status.st_mode):
                raise ImgclfError(f"{folder.path / name}: cannot be opened: not a regular file; move it away and run again")
        while (status := folder.status(path.name)) is None:
            if not make:
                return None
            with contextlib.suppress(FileExistsError):  # other team members could not write a file that SQLite created
                os.close(folder.create(path.name))  # a descriptor of an existing file would drop SQLite's locks when closed
    return status.st_dev, status.st_ino
