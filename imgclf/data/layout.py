"""List the files of a data folder, with the class and subset of each."""

import dataclasses
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from imgclf.core import names
from imgclf.core.config import SUBSETS, Subset
from imgclf.core.errors import ImgclfError
from imgclf.core.files.paths import STATE_NAME
from imgclf.core.files.state_folder import check_data_folder
from imgclf.core.remedies import why

SUBSET_NAMES: dict[str, Subset] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "eval": "val", "dev": "val",
    "test": "test", "testing": "test", "holdout": "test",
}  # fmt: skip
_SUBSET_NAME = re.compile(r"([a-z]+?)(?:[-_ ]?(?:set|images))?[-_ ]?[0-9]*")  # also test1, train2017, training_set


@dataclasses.dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a data folder: its class and subset by folder name, or the rule by which it is ignored."""

    path: str
    label: str | None
    subset: Subset | None
    ignored: str = ""


def scan(root: Path) -> list[DataFile]:
    """List every file under a data folder, sorted by path, without imgclf's own folder `.imgclf`.

    Raises ImgclfError if a folder cannot be listed or the layout is ambiguous.
    """
    folders, loose = _top_level(root)
    subsets = subset_folders(root)
    found = [DataFile(name, None, None, names.foreign_file(name) or "not in a class folder") for name in loose]
    for name in folders:
        if names.is_foreign_folder(name):
            found += _foreign_files(root, name, None)
        elif name in subsets:
            for file in _top_level(root / name)[1]:
                found.append(
                    DataFile(f"{name}/{file}", None, subsets[name], names.foreign_file(file) or "not in a class folder")
                )
            found += _class_folders_files(root, f"{name}/", subsets[name])
        elif subsets:  # a train, val or test folder without class folders: unlabelled images
            found += [DataFile(path, None, None, "not in a class folder") for path in _walk(root, name)]
    if not subsets:
        found += _class_folders_files(root, "", None)
    return sorted(found, key=lambda file: file.path)


def subset_folders(root: Path) -> dict[str, Subset]:
    """Return the train, validation and test folders of a data folder that is already split; empty if it is not split.

    A folder without class folders is not included if another one has class folders; this may be a test set without labels.

    Returns:
        The subset by folder name.

    Raises:
        ImgclfError: The folders may be subsets or classes, or two folders are the same subset.
    """
    folders = _own_folders(root)
    subsets = {name: subset for name in folders if (subset := _subset_named(name))}
    if "train" not in subsets.values() or len(subsets) < 2:
        return {}
    shown = ", ".join(sorted(subsets))
    others = [name for name in folders if name not in subsets]
    if others:
        raise ImgclfError(
            f"{root}: {shown} look like the folders of a split, but {', '.join(others[:3])} in the same folder "
            f"{'does' if len(others) == 1 else 'do'} not; move {'it' if len(others) == 1 else 'them'} away, "
            f"or rename {shown} if these are classes"
        )
    labelled = {name: subset for name, subset in subsets.items() if _own_folders(root / name)}
    if not labelled and len(set(subsets.values())) == 1:  # classes such as train1, train2
        return {}
    if "train" not in labelled.values():
        name = next(name for name, subset in subsets.items() if subset == "train")
        file = next((file for file in _top_level(root / name)[1] if not names.foreign_file(file)), None)
        holds = f"; {root / name / file} is not in a class folder" if file else ""
        raise ImgclfError(f"{root}: no class folders in {shown}; expected {root / name}/<class>/<image>{holds}")
    # A second train folder is an error even if it has no class folders. A val or test folder without class folders is ignored.
    for subset in SUBSETS:
        same = sorted(name for name in (subsets if subset == "train" else labelled) if subsets[name] == subset)
        if len(same) > 1:
            raise ImgclfError(f"{root}: {' and '.join(same)} are the same subset of the split ({subset}); keep one of them")
    return labelled


def unlabelled_note(root: Path) -> list[str]:
    """Return notes on subset folders without class folders, such as the test set of a competition."""
    subsets = subset_folders(root)
    unlabelled = [name for name in _own_folders(root) if subsets and name not in subsets]
    return [
        f"{root / name} has no class folders, so its images are not used; classify them with `imgclf predict`"
        for name in unlabelled
    ]


def _subset_named(name: str) -> Subset | None:
    match = _SUBSET_NAME.fullmatch(name.lower())
    return SUBSET_NAMES.get(match[1]) if match else None


def _own_folders(folder: Path) -> list[str]:
    """Return the sorted names of the subfolders that may contain images."""
    return [name for name in _top_level(folder)[0] if not names.is_foreign_folder(name)]


def _class_folders(folder: Path) -> dict[str, str]:
    """Return class names by folder name as spelled on disk.

    Raises ImgclfError for an invalid class name, and for two folders that differ only in Unicode form.
    """
    found = _own_folders(folder)
    for name in found:
        if wrong := names.problem(name):
            raise ImgclfError(f"{folder}: the name of the class folder {name!a} contains {wrong}; rename the folder")
    if twins := names.collision(found):
        raise ImgclfError(
            f"{folder}: the class folders {twins[0]!a} and {twins[1]!a} have the same name, {names.nfc(twins[0])}, in two "
            "Unicode forms (composed and decomposed); move all images into one of them"
        )
    return {name: names.nfc(name) for name in found}


def _class_folders_files(root: Path, above: str, subset: Subset | None) -> list[DataFile]:
    """List the files of all class folders in a folder ("" or `train/`), and of its hidden and system folders."""
    found = []
    for name in _top_level(root / above)[0] if above else ():
        if names.is_foreign_folder(name):
            found += _foreign_files(root, above + name, subset)
    for name, label in _class_folders(root / above).items():
        inner = set()
        for path in _walk(root, above + name):
            pieces = path[len(above) + len(name) + 1 :].split("/")
            inner.add(pieces[0] if len(pieces) > 1 else "")
            is_foreign = any(names.is_foreign_folder(piece) for piece in pieces[:-1])
            found.append(DataFile(path, label, subset, _FOREIGN if is_foreign else names.foreign_file(pieces[-1])))
        inside = {split: folder for folder in sorted(inner) if (split := _subset_named(folder))}
        if "train" in inside and len(inside) > 1:
            shown = " and ".join(f"{above}{name}/{folder}" for folder in inside.values())
            raise ImgclfError(
                f"{root}: {shown} look like the folders of a split inside a class; move them to {inside['train']}/{name} and "
                "so on, or rename them if they are not a split"
            )
    return found


_FOREIGN = "in a hidden or system folder"


def _foreign_files(root: Path, folder: str, subset: Subset | None) -> list[DataFile]:
    return [DataFile(path, None, subset, _FOREIGN) for path in _walk(root, folder)]


def _top_level(root: Path) -> tuple[list[str], list[str]]:
    """Return the sorted names of (folders, other entries) directly in a folder, without `.imgclf`."""
    check_data_folder(root)
    folders: list[str] = []
    others: list[str] = []
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                if entry.name != STATE_NAME:
                    (folders if _is_folder(entry) else others).append(entry.name)
    except OSError as error:
        remedy = "fix its permissions, or move it out of the data folder"
        raise ImgclfError(f"{root}: cannot be listed: {why(error, remedy)}") from error
    return sorted(folders), sorted(others)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False


def _walk(root: Path, folder: str) -> Iterator[str]:
    """Yield the paths of all files below a folder. Links to folders are followed, but each real folder is visited only once.

    In hidden and system folders, links are not followed and unreadable folders are skipped.
    """
    seen: set[tuple[int, int]] = set()
    stack = [folder]
    while stack:
        here = stack.pop()
        is_foreign = any(names.is_foreign_folder(piece) for piece in here.split("/"))
        try:
            status = os.stat(root / here, follow_symlinks=not is_foreign)
            if (status.st_dev, status.st_ino) in seen or not stat.S_ISDIR(status.st_mode):
                continue
            folders, files = _top_level(root / here)
        except FileNotFoundError:  # removed by another process meanwhile
            continue
        except (OSError, ImgclfError):
            if is_foreign:
                continue
            raise
        seen.add((status.st_dev, status.st_ino))
        stack += [f"{here}/{name}" for name in folders]
        yield from (f"{here}/{name}" for name in files)


def is_linked(root: Path, path: str) -> bool:
    """Return whether a file of a data folder is a symbolic link, or lies in a linked folder."""
    base, pieces = os.fspath(root), path.split("/")
    return any(os.path.islink(f"{base}/{'/'.join(pieces[:depth])}") for depth in range(1, len(pieces) + 1))


def classes(root: Path, minimum: int = 1) -> list[str]:
    """Return the class names of a data folder; raises ImgclfError if there are none, or fewer than `minimum`."""
    found = class_folders(root)
    if not found:
        file = next((path for path in sorted(root.iterdir()) if path.is_file() and not names.foreign_file(path.name)), None)
        holds = f"it contains files such as {file.name} directly" if file else "it is empty"
        raise ImgclfError(f"{root}: no class folders; {holds}. Expected {root}/<class>/<image>, one folder per class")
    if len(found) < minimum:
        only = names.spelled(root, found[0])
        inner = [] if subset_folders(root) else _own_folders(root / only)
        hint = (
            f"; if the classes are the folders in {root / only} ({', '.join(inner[:3])}...), use that folder" if inner else ""
        )
        raise ImgclfError(f"{root}: only one class ({found[0]}); a classifier needs at least two class folders{hint}")
    return found


def class_folders(root: Path) -> list[str]:
    """Return the sorted class names in NFC: the folders under the root, or under its train, validation and test folders."""
    places = [root / subset for subset in subset_folders(root)] or [root]
    return sorted({label for place in places for label in _class_folders(place).values()})


def merged_note(root: Path, paths: Iterable[str]) -> list[str]:
    """Return a note on subfolders of class folders, whose images are merged into the class."""
    depth = 2 if subset_folders(root) else 1
    folders = {path.rpartition("/")[0] for path in paths if path.count("/") > depth}
    if not folders:
        return []
    number, count = len(class_folders(root)), len(folders)
    return [
        f"{number:,} class{'es' if number > 1 else ''}; {count:,} subfolder{'s were' if count > 1 else ' was'} merged into "
        f"{'them' if number > 1 else 'it'}, such as {min(folders)}"
    ]
