"""What a data folder holds: which files, of which class and part, and which of them are pictures."""

import dataclasses
import os
import random
import stat
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from imgclf.base.config import PARTS, Part
from imgclf.base.errors import ImageError, ImgclfError
from imgclf.base.folders import STATE_NAME, check_data_folder
from imgclf.base.parallel import ordered_map
from imgclf.base.remedies import why
from imgclf.pixels import images

PART_NAMES: dict[str, Part] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
LARGEST_AUTO_SIZE, LARGEST_AUTO_SIZE_OF_MANY, MANY = 96, 128, 10_000  # pixels a side; pictures
LITTER = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}  # what Windows and macOS leave in folders of pictures


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One picture: its path relative to the data folder (forward slashes), and its class name."""

    path: str
    label: str | None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Sorted samples under one root, and the sorted class names that give each its number."""

    root: Path
    samples: tuple[Sample, ...]
    class_names: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Pictures a class, every class named, in class order."""
        counts = dict.fromkeys(self.class_names, 0)
        for sample in self.samples:
            if sample.label is not None:
                counts[sample.label] += 1
        return counts

    def subset(self, paths: Iterable[str]) -> "Dataset":
        """The samples whose paths are given; the class names stay."""
        kept = set(paths)
        return dataclasses.replace(self, samples=tuple(s for s in self.samples if s.path in kept))


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """One file of a data folder: its class and part as the folders say, or the rule by which it is ignored."""

    path: str
    label: str | None
    part: Part | None
    ignored: str = ""


def scan(root: Path) -> list[Found]:
    """Every file under a data folder, sorted by path; imgclf's own `.imgclf` is left out. Raises ImgclfError."""
    folders, loose = _top_level(root)
    parts = part_folders(root)
    found = [Found(name, None, None, _litter(name) or "not in a class folder") for name in loose]
    for name in folders:
        if _is_hidden(name):
            found += [Found(path, None, None, "in a hidden folder") for path in _walk(root, name)]
        elif name in parts:
            inner_folders, inner_loose = _top_level(root / name)
            found += [
                Found(f"{name}/{file}", None, parts[name], _litter(file) or "not in a class folder") for file in inner_loose
            ]
            for label in inner_folders:
                found += _class_files(root, f"{name}/{label}", label, parts[name])
        else:
            found += _class_files(root, name, name, None)
    return sorted(found, key=lambda file: file.path)


def part_folders(root: Path) -> dict[str, Part]:
    """The train, validation and test folders of a data folder that is already split, by name; empty if it is not."""
    names = [name for name in _top_level(root)[0] if not _is_hidden(name)]
    parts = {name: PART_NAMES[name.lower()] for name in names if name.lower() in PART_NAMES}
    if "train" not in parts.values() or len(parts) < 2:
        return {}
    others = [name for name in names if name not in parts]
    if others:
        if all(any(not _is_hidden(inner) for inner in _top_level(root / name)[0]) for name in parts):
            raise ImgclfError(
                f"{root}: {', '.join(sorted(parts))} look like the parts of a split, and {', '.join(others[:3])} beside them "
                "do not; move one or the other away"
            )
        return {}
    if not any(_top_level(root / name)[0] for name in parts):
        raise ImgclfError(
            f"{root}: {', '.join(sorted(parts))} hold no class folders; expected {root / names[0]}/<class>/<image>"
        )
    for part in PARTS:
        same = sorted(name for name in parts if parts[name] == part)
        if len(same) > 1:
            raise ImgclfError(f"{root}: {' and '.join(same)} are the same part of a split; keep one of them")
    return parts


def _class_files(root: Path, folder: str, label: str, part: Part | None) -> list[Found]:
    if _is_hidden(label):
        return [Found(path, None, part, "in a hidden folder") for path in _walk(root, folder)]
    _check_class_name(root / folder, label)
    return [
        Found(path, label, part, "in a hidden folder" if _hidden(path) else _litter(path.rsplit("/", 1)[-1]))
        for path in _walk(root, folder)
    ]


def _is_hidden(folder: str) -> bool:
    return folder.startswith(".") or folder == "__MACOSX"


def _hidden(path: str) -> bool:
    return any(_is_hidden(piece) for piece in path.split("/")[:-1])


def _litter(name: str) -> str:
    if name.lower() in LITTER:
        return "a system file"
    return "a hidden file" if name.startswith(".") else ""


def _check_class_name(folder: Path, label: str) -> None:
    if not label.isprintable() or label != label.strip():
        shown = ascii(label)
        raise ImgclfError(
            f"{folder.parent}: the class folder {shown} has a name with control characters, undecodable bytes or spaces at "
            "its ends; rename the folder"
        )


def _top_level(root: Path) -> tuple[list[str], list[str]]:
    """Sorted names of (folders, other entries) directly in a folder, `.imgclf` left out."""
    check_data_folder(root)
    folders: list[str] = []
    others: list[str] = []
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                if entry.name != STATE_NAME:
                    (folders if _is_folder(entry) else others).append(entry.name)
    except OSError as error:
        raise ImgclfError(f"{root}: cannot be listed: {why(error, 'choose another folder')}") from error
    return sorted(folders), sorted(others)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False


def _walk(root: Path, folder: str) -> Iterator[str]:
    """Paths of all files below a folder; linked folders are followed, each real folder once, so that no loop holds us."""
    seen: set[tuple[int, int]] = set()
    stack = [folder]
    while stack:
        here = stack.pop()
        try:
            status = os.stat(root / here)
        except FileNotFoundError:  # it went away while we looked
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        folders, files = _top_level(root / here)
        stack += [f"{here}/{name}" for name in folders]
        yield from (f"{here}/{name}" for name in files)


def is_linked(root: Path, path: str) -> bool:
    """Whether a file of a data folder is a symbolic link, or lies in a linked folder: another name of a file elsewhere."""
    base, pieces = os.fspath(root), path.split("/")
    return any(os.path.islink(f"{base}/{'/'.join(pieces[:depth])}") for depth in range(1, len(pieces) + 1))


def index(root: Path, *, minimum_classes: int = 1) -> tuple[Dataset, list[tuple[str, str]]]:
    """The pictures under a data folder, and the (path, reason) of every file in a class folder that is none.

    A file is a picture when its first bytes say so, whatever its name; whether it decodes is found out later.
    Raises ImgclfError for a folder without class folders, with fewer than `minimum_classes`, or with an empty class.
    """
    names = classes(root, minimum_classes)
    files = [file for file in scan(root) if file.label is not None and not file.ignored]
    problems = ordered_map(lambda file: _not_a_picture(root / file.path), files)
    return select(root, names, zip(files, problems, strict=True))


def classes(root: Path, minimum: int = 1) -> list[str]:
    """The class names of a data folder; raises ImgclfError when there are none, or fewer than `minimum`."""
    names = class_folders(root)
    if not names:
        here = next((path for path in sorted(root.iterdir()) if path.is_file() and not path.name.startswith(".")), None)
        holds = f"it holds files such as {here.name} directly" if here else "it is empty"
        raise ImgclfError(f"{root}: no class folders; {holds}. Expected {root}/<class>/<image>, one folder per class")
    if len(names) < minimum:
        raise ImgclfError(f"{root}: one class only ({names[0]}); a classifier needs two or more class folders")
    return names


def select(root: Path, names: Sequence[str], files: Iterable[tuple[Found, str]]) -> tuple[Dataset, list[tuple[str, str]]]:
    """Files as a Dataset, those with a reason against them left out; raises ImgclfError for a class without pictures."""
    samples, left_out = [], []
    for file, problem in files:
        if problem:
            left_out.append((file.path, problem))
        else:
            samples.append(Sample(file.path, file.label))
    dataset = Dataset(root, tuple(samples), tuple(names))
    for name, count in dataset.counts().items():
        if count == 0:
            raise ImgclfError(f"{root}: the class folder {name} has no images; add some, or remove the folder")
    return dataset, left_out


def class_folders(root: Path) -> list[str]:
    """Sorted class names: the folders under the root, or under its train, validation and test folders."""
    parts = part_folders(root)
    names = {name for part in parts for name in _top_level(root / part)[0]} if parts else set(_top_level(root)[0])
    return sorted(name for name in names if not _is_hidden(name))


def _not_a_picture(path: Path) -> str:
    """ "" if a file begins like a picture, else the reason."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "not a regular file"
        with open(path, "rb") as file:
            head = file.read(32)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not head:
        return "zero bytes"
    return "" if images.sniff(head) else "not an image"


def auto_image_size(training: Dataset, seed: int) -> int:
    """96 pixels, 128 from 10,000 pictures on; fewer when the median short side of 200 is less, in steps of 8, 32 at least."""
    largest = LARGEST_AUTO_SIZE if len(training.samples) < MANY else LARGEST_AUTO_SIZE_OF_MANY
    drawn = random.Random(seed).sample(training.samples, min(200, len(training.samples)))
    sides = []
    for sample in drawn:
        try:
            head = images.read_header(training.root / sample.path)
        except ImageError:
            continue
        sides.append(min(head.width, head.height))
    if not sides:
        return largest
    return max(32, min(largest, int(statistics.median(sides)) // 8 * 8))
