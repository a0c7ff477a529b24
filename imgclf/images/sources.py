"""Expand the inputs of a command (files, folders, globs, archives) to images, one at a time and never as a list."""

import dataclasses
import glob
import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from imgclf.core import names
from imgclf.core.errors import ImageError, ImgclfError
from imgclf.core.files.paths import StrPath
from imgclf.images import archives, decode, header
from imgclf.images.formats import filetypes


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One image to read: a file, or bytes from elsewhere; or the problem of an input without an image.

    file: None for an image from an archive, a pipe or a request. Its name is then only text and must not be used as a path.
    """

    name: str
    content: bytes | None = None
    problem: str = ""
    file: Path | None = None

    @classmethod
    def on_disk(cls, name: str) -> "Source":
        """Return the source for a file with this path."""
        return cls(name, file=Path(name))

    def pixels(self) -> decode.Image:
        """Return the decoded image, (h, w, 3) uint8 RGB. Raises ImageError."""
        if self.problem:
            raise ImageError("unreadable", self.problem)
        content = decode.read(self.file) if self.file else self.content or b""
        return decode.decode(content, header.header(content, Path(self.name).suffix))


Inputs = StrPath | Source | Iterable[StrPath | Source]


def as_iterable(inputs: Inputs) -> Iterable[StrPath | Source]:
    """Return the inputs as an iterable; a single input becomes a list of one."""
    return [inputs] if isinstance(inputs, str | os.PathLike | Source) else inputs


def expand(inputs: Inputs, without: Path | None = None) -> Iterator[Source]:
    """Yield a source for every image in the inputs, in their order. An input without images yields a source with a problem.

    A folder expands to the files below it that are images by extension or first bytes, sorted. Hidden files and system files
    (`@eaDir`, `Thumbs.db`) are skipped. An archive, recognised by its extension, expands to its images. A name with *, ? or [
    that is not an existing file is a glob. If a glob matches both a folder and its files, each file is yielded once.

    Args:
        inputs: paths, globs and sources, or a single one of them.
        without: a folder to skip.
    """
    for item in as_iterable(inputs):
        if isinstance(item, Source):
            yield item
            continue
        name = os.fspath(item)
        if glob.has_magic(name) and not os.path.lexists(name):
            matches = sorted(glob.glob(_pattern(name), recursive=True))
            folders = {Path(match) for match in matches if os.path.isdir(match)}
            for match in matches:
                if folders.isdisjoint(Path(match).parents) or not _comes_with_folder(match):  # as in `images/**`
                    yield from _in_path(match, without)
            if not matches:
                yield Source(name, problem="no file matches this pattern")
        else:
            yield from _in_path(name, without)


def _pattern(name: str) -> str:
    """Return a glob pattern with existing folders escaped: in `images [1]/*.jpg`, only the star is special."""
    literal = name
    while glob.has_magic(literal) and not os.path.isdir(literal):
        literal = os.path.dirname(literal)
    return glob.escape(literal) + name[len(literal) :]


def _comes_with_folder(name: str) -> bool:
    """Return whether `_below` yields this file or folder of a matched folder. It yields no archives and no other files."""
    if os.path.isdir(name) or Path(name).suffix.lower() in filetypes.EXTENSIONS:
        return True
    return not _is_archive(name) and _starts_like_an_image(name)


def _in_path(name: str, without: Path | None) -> Iterator[Source]:
    """Yield the images of one path. A missing file yields itself: reading it raises the error."""
    if os.path.isdir(name):
        found, kind = _below(name, without), "folder"
    elif _is_archive(name):
        found, kind = _in_archive(name), "archive"
    else:
        yield Source.on_disk(name)
        return
    empty = True
    for source in found:
        empty = False
        yield source
    if empty:
        yield Source(name, problem=f"no images in this {kind}")


def _is_archive(name: str) -> bool:
    """Return whether a path has an archive's extension and is neither an image nor a pipe, which can block forever."""
    if not name.lower().endswith(archives.EXTENSIONS):
        return False
    return not os.path.exists(name) or (os.path.isfile(name) and not _starts_like_an_image(name))


def _below(folder: str, without: Path | None) -> Iterator[Source]:
    """Yield the images below a folder, and a source with a problem for each folder that cannot be listed."""
    problems: list[OSError] = []
    seen = {_identity(without)} if without and without.exists() else set()
    for here, folders, files in os.walk(folder, onerror=problems.append, followlinks=True):
        while problems:
            yield _listing_problem(problems.pop())
        try:
            identity = _identity(here)
        except OSError as error:  # deleted after it was listed
            folders.clear()
            yield _listing_problem(error)
            continue
        if identity in seen:  # a link to a folder above, or the folder to skip
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not names.is_foreign_folder(name))
        for name in sorted(files):
            path = os.path.join(here, name)
            if not names.foreign_file(name) and (
                Path(name).suffix.lower() in filetypes.EXTENSIONS or _starts_like_an_image(path)
            ):
                yield Source.on_disk(path)
    for problem in problems:
        yield _listing_problem(problem)


def _identity(path: str | Path) -> tuple[int, int]:
    """Return what identifies a file or folder on this machine, whatever its path: (device, inode)."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _listing_problem(error: OSError) -> Source:
    """Return a source that reports a folder that cannot be listed."""
    return Source(str(error.filename), problem=f"cannot be listed: {error.strerror}")


def _starts_like_an_image(path: str) -> bool:
    """Return whether a file is an image by its first bytes, supported or not; also true if it cannot be read.

    Images that cannot be used are reported later, with a tool that converts them.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return filetypes.is_image(file.read(filetypes.HEAD), Path(path).suffix.lower())
    except OSError:
        return True


def _in_archive(archive: str) -> Iterator[Source]:
    """Yield the images of an archive, one at a time. They have no file, even if their names look like paths."""
    for member in archives.members(archive):
        yield Source(f"{archive}/{member.name}" if member.name else archive, member.content, member.problem)


def arrivals(folder: Path, without: Path | None = None, *, every: float = 0.5) -> Iterator[list[Source]]:
    """Poll a folder without end and yield, after each poll, the images that are new or changed.

    An image is yielded once two polls find the same size and time, so that no half-written file is read. Polling also works on
    network folders, for which the operating system sends no notifications.

    Args:
        folder: the folder to watch, with its subfolders.
        without: a folder to skip.
        every: seconds between two polls.

    Raises:
        ImgclfError: the folder no longer exists.
    """
    seen: dict[str, tuple[tuple[int, int], bool]] = {}  # size and time at the last poll, and whether it was yielded
    while True:
        if not folder.is_dir():
            raise ImgclfError(f"{folder}: cannot be watched, because the folder no longer exists")
        now: dict[str, tuple[tuple[int, int], bool]] = {}
        arrived = []
        for source in _below(str(folder), without):
            try:
                status = os.stat(source.name)
            except OSError:  # deleted again, or a folder that cannot be listed
                continue
            state = (status.st_size, status.st_mtime_ns)
            before, yielded = seen.get(source.name, (None, False))
            if before == state and not yielded:
                arrived.append(source)
            now[source.name] = (state, before == state)
        seen = now
        yield arrived
        time.sleep(every)
