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
from imgclf.data.manifest import Manifest, current_manifest


def check_export(data: Path, target: Path) -> None:
    """Raise ImgclfError if the target is not a new or empty folder, or lies in the data folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ImgclfError(
            f"{target}: exists and is not an empty folder; choose another, because an export is never mixed with other files"
        )
    check_outside(target, "--export", data)


def export(manifest: Manifest, data: Path, target: Path, link: Link, progress: Progress | None = None) -> list[str]:
    """Write the images of the manifest to `target/<subset>/<class>/...`, and return notes.

    An image that changed after the split is skipped, because its new content may be in another subset. File names that differ
    only in case or Unicode form get a number.

    Raises:
        ImgclfError: The target is not new or empty, or is in the data folder; an image disappeared meanwhile; or a link cannot
            be made.
    """
    check_export(data, target)
    classes = manifest.class_names
    if twins := same_but_for_case(classes):
        raise ImgclfError(
            f"{data}: {twins}; there an export would mix them in one folder; rename one, or merge them and split again"
        )
    manifest, notes = current_manifest(data, manifest)
    target = target.resolve()
    folders = layout.subset_folders(data)
    building = target.with_name(contained.temporary_name(target.name))
    copied = numbered = 0
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
            numbered += not name.endswith(inner)
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
    file_index.update_stamps(data, placed)
    if numbered:
        notes.append(f"images renamed with a number because names differ only in case or Unicode form: {numbered}")
    if copied:
        notes.append(f"{copied} images were copied, because hard links between these two places are not possible")
    return notes


def _free(name: str, taken: set[str]) -> str:
    """Reserve and return a name that is unique even on disks that ignore case and Unicode form."""
    name = names.free(*os.path.splitext(name), lambda other: names.folded(other) in taken)
    taken.add(names.folded(name))
    return name


def same_but_for_case(classes: Sequence[str]) -> str:
    """Return a message if the names of two classes differ only in case or Unicode form, else """ ""
    found: dict[str, str] = {}
    for name in classes:
        if found.setdefault(names.folded(name), name) != name:
            return f"the classes {found[names.folded(name)]} and {name} differ only in case, which macOS and Windows ignore"
    return ""


def _place(source: Path, target: Path, link: Link) -> int:
    """Link or copy one image; return 1 if a copy was made because a hard link was not possible."""
    if link == "symlink":
        target.symlink_to(source.resolve(strict=True))
        return 0
    if link == "hard":
        return 0 if prepared_images.link_or_copy(source.resolve(), target) else 1
    shutil.copy2(source, target)
    return 0
