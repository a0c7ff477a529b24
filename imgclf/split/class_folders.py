"""Export a split as class folders that other tools read."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from imgclf.core import names
from imgclf.core.config import SUBSETS, Link
from imgclf.core.errors import ImgclfError
from imgclf.core.files import contained
from imgclf.core.files.state_folder import check_outside
from imgclf.core.progress import Progress
from imgclf.core.remedies import why
from imgclf.data import file_index, index_tables, layout, prepared_images
from imgclf.data.manifest import Manifest, as_they_are


def check_export(data: Path, target: Path) -> None:
    """Refuse a target that is no new or empty folder, or that lies in the data folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ImgclfError(
            f"{target}: exists and is not an empty folder; an export never mixes with other files, choose another"
        )
    check_outside(target, "--export", data)


def export(manifest: Manifest, data: Path, target: Path, link: Link, progress: Progress | None = None) -> list[str]:
    """Make `target/<subset>/<class>/...` with the images of the manifest; returns notes. The target must be new or empty.

    One that changed since the split is skipped, for what it shows now may be in another subset. Raises ImgclfError when the
    target is not empty or is in the data folder, or if an image disappears meanwhile or a link cannot be made. Names that
    differ only in case get a number.
    """
    check_export(data, target)
    classes = manifest.class_names
    if twins := same_but_for_case(classes):
        raise ImgclfError(
            f"{data}: {twins}; an export would mix them in one folder there: rename one, or merge them and split again"
        )
    manifest, notes = as_they_are(data, manifest)
    target = target.resolve()
    folders = layout.subset_folders(data)
    building = target.with_name(contained.temporary_name(target.name))
    copied = numbered_ = 0
    taken: set[str] = set()
    placed = []
    try:
        building.mkdir()
        for subset in SUBSETS:
            for label in classes:
                (building / subset / label).mkdir(parents=True)
        for done, row in enumerate(manifest.rows, 1):
            inner = row.path.split("/", 2 if folders else 1)[-1]
            name = _free(f"{row.split}/{row.label}/{inner}", taken)
            numbered_ += not name.endswith(inner)
            place = building / name
            place.parent.mkdir(parents=True, exist_ok=True)
            before = index_tables.stamp(data / row.path)
            copied += _place(data / row.path, place, link)
            placed.append((row.path, before, index_tables.stamp(data / row.path)))
            if progress:
                progress(done, len(manifest.rows))
        if target.exists():
            target.rmdir()
        os.rename(building, target)
    except OSError as error:
        raise ImgclfError(f"{target}: export failed at {error.filename}: {why(error)}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    file_index.keep_known(data, placed)
    if numbered_:
        notes.append(f"images renamed with a number because names differ only in case or Unicode spelling: {numbered_}")
    if copied:
        notes.append(f"{copied} images were copied: no hard links between these two places")
    return notes


def _free(name: str, taken: set[str]) -> str:
    """Reserve a name that is also unique on disks that ignore case and Unicode form."""
    name = names.free(*os.path.splitext(name), lambda other: names.folded(other) in taken)
    taken.add(names.folded(name))
    return name


def same_but_for_case(classes: Sequence[str]) -> str:
    """A message on two classes that are the same to macOS and Windows; "" for none."""
    found: dict[str, str] = {}
    for name in classes:
        if found.setdefault(names.folded(name), name) != name:
            return f"the classes {found[names.folded(name)]} and {name} differ only in case, which macOS and Windows ignore"
    return ""


def _place(source: Path, target: Path, link: Link) -> int:
    """Put one image in place; 1 when a hard link became a copy."""
    if link == "symlink":
        target.symlink_to(source.resolve(strict=True))
        return 0
    if link == "hard":
        return 0 if prepared_images.link_or_copy(source.resolve(), target) else 1
    shutil.copy2(source, target)
    return 0
