"""What a person may name as images: files, folders, globs, archives; each as one image after the other, never as a list."""

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
    """One image to be read: a file, or bytes that came from elsewhere; or why there is nothing to read.

    file: None for what came from an archive, a pipe or a request: its name is only text, and may be that of somebody's file.
    """

    name: str
    content: bytes | None = None
    problem: str = ""
    file: Path | None = None

    @classmethod
    def on_disk(cls, name: str) -> "Source":
        return cls(name, file=Path(name))

    def pixels(self) -> decode.Image:
        """The decoded image, (h, w, 3) uint8 RGB; raises ImageError."""
        if self.problem:
            raise ImageError("unreadable", self.problem)
        content = decode.read(self.file) if self.file else self.content or b""
        return decode.decode(content, header.header(content, Path(self.name).suffix))


Inputs = StrPath | Source | Iterable[StrPath | Source]


def listed(inputs: Inputs) -> Iterable[StrPath | Source]:
    """The inputs; a single one as the only one."""
    return [inputs] if isinstance(inputs, str | os.PathLike | Source) else inputs


def expand(inputs: Inputs, without: Path | None = None) -> Iterator[Source]:
    """Every image asked for, in order; a source with a problem where an input stands for none.

    inputs: paths, globs and sources, or a single one of them.
    A folder expands to the files below it that are images by name or first bytes, sorted. Hidden files, system files (`@eaDir`,
    `Thumbs.db`) and the folder `without` are skipped. An archive, recognised by its extension, expands to its images. A name
    with *, ? or [ that is not an existing file is a glob. Files in a folder that it matches are returned once.
    """
    for one in listed(inputs):
        if isinstance(one, Source):
            yield one
            continue
        name = os.fspath(one)
        if glob.has_magic(name) and not os.path.lexists(name):
            matches = sorted(glob.glob(_pattern(name), recursive=True))
            folders = {Path(match) for match in matches if os.path.isdir(match)}
            for match in matches:
                if folders.isdisjoint(Path(match).parents) or not _comes_with_its_folder(match):  # as of `photos/**`
                    yield from _named(match, without)
            if not matches:
                yield Source(name, problem="no file matches this pattern")
        else:
            yield from _named(name, without)


def _pattern(name: str) -> str:
    """A glob pattern with existing folders escaped: in `photos [1]/*.jpg`, only the star is special."""
    literal = name
    while glob.has_magic(literal) and not os.path.isdir(literal):
        literal = os.path.dirname(literal)
    return glob.escape(literal) + name[len(literal) :]


def _comes_with_its_folder(name: str) -> bool:
    """Whether `_below` gives a file or folder; archives and what is no image are taken by their names."""
    if os.path.isdir(name) or Path(name).suffix.lower() in filetypes.ENDINGS:
        return True
    return not _is_archive(name) and _begins_like_one(name)


def _named(name: str, without: Path | None) -> Iterator[Source]:
    """The images that an existing name stands for; a missing one for itself, which will be said when it is read."""
    if os.path.isdir(name):
        found, kind = _below(name, without), "folder"
    elif _is_archive(name):
        found, kind = _members(name), "archive"
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
    """Whether a name is that of an archive, and not of an image, nor of a pipe, which would be waited for without end."""
    if not name.lower().endswith(archives.ENDINGS):
        return False
    return not os.path.exists(name) or (os.path.isfile(name) and not _begins_like_one(name))


def _below(folder: str, without: Path | None) -> Iterator[Source]:
    problems: list[OSError] = []
    seen = {_identity(without)} if without and without.exists() else set()
    for here, folders, files in os.walk(folder, onerror=problems.append, followlinks=True):
        while problems:
            yield _unlisted(problems.pop())
        try:
            identity = _identity(here)
        except OSError as error:  # gone since it was listed
            folders.clear()
            yield _unlisted(error)
            continue
        if identity in seen:  # a link back up
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not names.is_foreign_folder(name))
        for name in sorted(files):
            path = os.path.join(here, name)
            if not names.foreign_file(name) and (Path(name).suffix.lower() in filetypes.ENDINGS or _begins_like_one(path)):
                yield Source.on_disk(path)
    for problem in problems:
        yield _unlisted(problem)


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _unlisted(error: OSError) -> Source:
    return Source(str(error.filename), problem=f"cannot be listed: {error.strerror}")


def _begins_like_one(path: str) -> bool:
    """Whether a file with an unknown extension is an image by its first bytes, supported or not, or is unreadable.

    Unusable images are reported later, with a tool to convert them.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return filetypes.is_image(file.read(filetypes.HEAD), Path(path).suffix.lower())
    except OSError:
        return True


def _members(archive: str) -> Iterator[Source]:
    """The images in an archive, read one after the other. They have no file, whatever their names look like."""
    for member in archives.members(archive):
        yield Source(f"{archive}/{member.name}" if member.name else archive, member.content, member.problem)


def arrivals(folder: Path, without: Path | None = None, *, every: float = 0.5) -> Iterator[list[Source]]:
    """Round after round, `every` so many seconds and without end, the images in a folder that are new or have changed.

    One counts as arrived when two looks found it the same, so that none is read half-written. By looking and not by the
    system's notices, which network folders do not give. Raises ImgclfError when the folder goes away.
    """
    seen: dict[str, tuple[tuple[int, int], bool]] = {}  # size and time at the last look, and whether it was given
    while True:
        if not folder.is_dir():
            raise ImgclfError(f"{folder}: no longer a folder that could be watched")
        now: dict[str, tuple[tuple[int, int], bool]] = {}
        arrived = []
        for source in _below(str(folder), without):
            try:
                status = os.stat(source.name)
            except OSError:  # gone again, or a folder that cannot be listed
                continue
            mark = (status.st_size, status.st_mtime_ns)
            before, given = seen.get(source.name, (None, False))
            if before == mark and not given:
                arrived.append(source)
            now[source.name] = (mark, before == mark)
        seen = now
        yield arrived
        time.sleep(every)
