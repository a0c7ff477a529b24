"""Write, move and remove files without following links, in folders whose content may come from someone else.

A link could redirect our writes to any file of the user. Where the system allows it, a folder is held by its descriptor and
every file is named relative to it, so nobody can replace a checked folder before the operation. Elsewhere (Windows), every
component of the path is checked right before the operation.
"""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from imgclf.core.errors import ImgclfError
from imgclf.core.files import permissions
from imgclf.core.files.links import (
    A_LINK,
    BY_DESCRIPTOR,
    NO_LINK,
    OPEN,
    SEVERAL_NAMES,
    LinkError,
    check_component,
    is_link,
    naming,
    not_regular,
    open_folder,
)
from imgclf.core.files.paths import root_of


class Folder:
    """An open folder. Names are single components, and links are never followed. Close it, or use it in a `with` statement.

    Methods raise OSError as the functions of `os` do, and LinkError if a link is in the place of a folder or file.
    """

    def __init__(self, path: Path, descriptor: int | None, root: Path) -> None:
        self.path, self._descriptor, self._root = path, descriptor, root

    @classmethod
    def named(cls, path: Path) -> Self:
        """Open a folder that the user named; links in its path are followed. Raises OSError."""
        return cls(path, open_folder(path, None, follow=True) if BY_DESCRIPTOR else None, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def below(self, *names: str, make: bool = False) -> "Folder":
        """Open the folder at these components below this one. make: create missing folders, with the data's permissions."""
        here = Folder(self.path, None if self._descriptor is None else os.dup(self._descriptor), self._root)
        for name in names:
            with here:
                here = here._child(name, make)
        return here

    def _child(self, name: str, make: bool) -> "Folder":
        check_component(name)
        path = self.path / name
        while True:
            try:
                if self._descriptor is not None:
                    with naming(path):
                        return Folder(path, open_folder(name, self._descriptor), self._root)
                if is_link(path):
                    raise LinkError(path, A_LINK)
                os.scandir(path).close()  # raises what opening it would raise
                return Folder(path, None, self._root)
            except FileNotFoundError:
                if not make:
                    raise
                self._make(name)
            except OSError as error:  # the system reports a link as a loop or as "not a folder"
                status = self.status(name)
                if status and stat.S_ISLNK(status.st_mode):
                    raise LinkError(path, A_LINK) from error
                raise

    def _make(self, name: str) -> None:
        target, at = self._at(name)
        with contextlib.suppress(FileExistsError):
            with naming(self.path / name):
                os.mkdir(target, **at)
            self.give_permissions(name)

    def _at(self, name: str) -> tuple[Any, dict[str, Any]]:
        check_component(name)
        if self._descriptor is not None:
            return name, {"dir_fd": self._descriptor}
        for place in (self.path, *self.path.parents):
            if place == self._root:
                break
            if is_link(place):
                raise LinkError(place, A_LINK)
        return self.path / name, {}

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of an entry itself, not of a link's target; None if there is no such entry."""
        try:
            target, at = self._at(name)
            with naming(self.path / name):
                return os.stat(target, **at, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self) -> list[str]:
        """Return the names of all entries, sorted."""
        with naming(self.path):
            try:
                return sorted(os.listdir(self.path if self._descriptor is None else self._descriptor))
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
                # `open_folder` opened a folder that may be entered but not listed.
                raise PermissionError(errno.EACCES, "Permission denied") from error

    def create(self, name: str) -> int:
        """Create an empty file and return its descriptor. Raises FileExistsError if anything has the name, even a link."""
        target, at = self._at(name)
        with naming(self.path / name):
            descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINK | OPEN, 0o666, **at)
        self.give_permissions(name)
        return descriptor

    def open(self, name: str, flags: int = os.O_RDONLY, *, several_names: bool = False) -> int:
        """Open a regular file and return its descriptor. Raises LinkError for anything else.

        several_names: allow hard links when the file is opened for writing.
        """
        path = self.path / name
        target, at = self._at(name)
        try:
            with naming(path):
                descriptor = os.open(target, flags | NO_LINK | OPEN, **at)
        except FileNotFoundError:
            raise
        except OSError as error:
            status = self.status(name)
            if status and not stat.S_ISREG(status.st_mode):
                raise LinkError(path, not_regular(status)) from error
            raise
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise LinkError(path, not_regular(status))
        if status.st_nlink > 1 and flags & (os.O_WRONLY | os.O_RDWR) and not several_names:
            os.close(descriptor)
            raise LinkError(path, SEVERAL_NAMES)
        return descriptor

    def open_or_create(self, name: str) -> int:
        """Open a regular file with one name for reading and writing; create it if missing. Return its descriptor."""
        while True:
            try:
                return self.open(name, os.O_RDWR)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):
                    return self.create(name)

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a regular file of at most `most` bytes. Raises ImgclfError if it is larger."""
        with open(self.open(name), "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise ImgclfError(f"{self.path / name}: larger than {most:,} bytes, so it was not written by imgclf; move it away")
        return content

    def replace(self, name: str, new: str, other: "Folder | None" = None) -> None:
        """Rename an entry and replace any entry, even a link, with the new name. other: move it into this folder."""
        other = other or self
        (source, at), (target, to) = self._at(name), other._at(new)
        with naming(other.path / new):
            os.replace(source, target, src_dir_fd=at.get("dir_fd"), dst_dir_fd=to.get("dir_fd"))

    def rename(self, name: str, other: "Folder", new: str) -> None:
        """Rename an entry. On Windows, an existing entry is never replaced."""
        (source, at), (target, to) = self._at(name), other._at(new)
        with naming(other.path / new):
            os.rename(source, target, src_dir_fd=at.get("dir_fd"), dst_dir_fd=to.get("dir_fd"))

    def link(self, name: str, other: "Folder", new: str) -> None:
        """Give an entry a second name. Raises FileExistsError if the name is taken."""
        (source, at), (target, to) = self._at(name), other._at(new)
        itself: dict[str, Any] = {"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}
        with naming(other.path / new):
            os.link(source, target, src_dir_fd=at.get("dir_fd"), dst_dir_fd=to.get("dir_fd"), **itself)

    def symlink(self, leads_to: str, name: str) -> None:
        """Create a symbolic link. Raises FileExistsError if the name is taken."""
        target, at = self._at(name)
        with naming(self.path / name):
            os.symlink(leads_to, target, **at)

    def unlink(self, name: str) -> None:
        target, at = self._at(name)
        with naming(self.path / name):
            os.unlink(target, **at)

    def rmdir(self, name: str) -> None:
        target, at = self._at(name)
        with naming(self.path / name):
            os.rmdir(target, **at)

    def is_same(self, other: "Folder") -> bool:
        """Return whether both are the same folder."""
        return os.path.samestat(self._own(), other._own())

    def sync(self) -> None:
        """Wait until the entries are on the disk."""
        if self._descriptor is not None and sys.platform != "win32":
            with contextlib.suppress(OSError):  # a folder that may only be entered cannot be synced
                os.fsync(self._descriptor)

    def _own(self) -> os.stat_result:
        return os.stat(self.path) if self._descriptor is None else os.fstat(self._descriptor)

    def give_permissions(self, name: str) -> None:
        """Give a new entry below `.imgclf` the permissions of the data folder. Do nothing elsewhere."""
        data = permissions.data_of(self.path / name)
        if data is None or self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            descriptor = os.open(name, os.O_RDONLY | NO_LINK | OPEN, dir_fd=self._descriptor)
            try:
                permissions.follow(descriptor, self._descriptor, data)
            finally:
                os.close(descriptor)


def at(path: Path, *, make: bool = False) -> Folder:
    """Open a folder: below `.imgclf` without following links, elsewhere as the user named it.

    make: create missing folders. Raises OSError and LinkError.
    """
    root = root_of(path)
    if root is None:
        if make:
            path.mkdir(parents=True, exist_ok=True)
        return Folder.named(path)
    if make and not root.is_dir():
        root.mkdir(parents=True, exist_ok=True)
    with Folder.named(root) as top:
        return top.below(*path.relative_to(root).parts, make=make)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents. Folders below `.imgclf` get the permissions of the data folder."""
    at(path, make=True).close()


@contextlib.contextmanager
def parent(root: Folder, path: str, *, make: bool = False) -> Iterator[tuple[Folder, str]]:
    """Yield (folder, name) of a relative path with forward slashes. Raises FileNotFoundError and LinkError."""
    *folders, name = path.split("/")
    with root.below(*folders, make=make) as folder:
        yield folder, name


def status(root: Folder, path: str) -> os.stat_result | None:
    """Return the status of a file at a relative path; None if it is missing, or if a folder in the path is a link."""
    try:
        with parent(root, path) as (folder, name):
            return folder.status(name)
    except LinkError:
        return None
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise
        return None


def temporary_name(name: str) -> str:
    """Return a hidden, random name with the same extension, for a file that is being written. Nobody can guess it."""
    stem, ending = os.path.splitext(name)
    return f".{stem}.{os.urandom(6).hex()}.tmp{ending}"
