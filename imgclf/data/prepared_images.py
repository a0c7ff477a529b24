"""Prepared images: each image is decoded once, at the model's size, into a folder for Keras' loader."""

import contextlib
import dataclasses
import errno
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from imgclf.core.config import Preprocessing, Subset
from imgclf.core.errors import ImgclfError
from imgclf.core.files import contained
from imgclf.core.files.state_folder import state_folder
from imgclf.core.names import free
from imgclf.core.parallel import process_map
from imgclf.core.progress import Progress
from imgclf.core.shards import Shard
from imgclf.data.dataset import Dataset
from imgclf.data.file_index import content_hashes
from imgclf.images import pixel_files, preprocess


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A folder of images `<subset>/<class>/<content hash>.bmp` at the model's size. It is complete and never changes."""

    folder: Path
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]  # (path, reason) of every sample without usable pixels
    made: int  # images decoded now; the others were decoded earlier
    files: Mapping[Subset, Mapping[str, str]]  # subset -> prepared file, relative to the subset's folder -> source path


def prepare(
    root: Path, subsets: Mapping[Subset, Dataset], preprocessing: Preprocessing, progress: Progress | None = None
) -> Prepared:
    """Decode every sample once into a lossless file at the model's size, on all cores.

    Pixels are stored by content (`store/`), so a new split, a renamed file or a second run decodes nothing again. The folders
    that Keras reads consist of hard links into the store (copies if the file system has no links). The name of such a folder is
    a hash of its list of files and classes.
    """
    samples = [sample for subset in subsets.values() for sample in subset.samples]
    usable, fresh, skipped = store_pixels(root, [sample.path for sample in samples], preprocessing, progress)
    base = _base(root, preprocessing)
    store = base / "store"
    files: dict[Subset, dict[str, str]] = {}
    for subset, dataset in subsets.items():
        files[subset] = {}
        for sample in dataset.samples:
            if sample.path in usable:
                files[subset][_free_name(files[subset], f"{sample.label}/{usable[sample.path]}")] = sample.path
    class_names = next(iter(subsets.values())).class_names
    folder = base / _view_name(files, class_names)
    if fresh:  # a new file may replace a damaged one of the store: then replace the old links in all folders too
        for file in base.glob("*/*/*/*.bmp"):
            digest = content_of(file.as_posix())
            if digest in fresh and "." not in file.parts[-4]:  # skip a folder that another run is just making
                with contained.at(file.parent) as place:
                    temporary = contained.temporary_name(file.name)
                    link_or_copy(pixel_files.stored_path(store, digest), place.path / temporary)
                    place.replace(temporary, file.name)
    if not folder.exists():
        _link_view(folder, store, files, class_names)
    return Prepared(folder, preprocessing, class_names, tuple(skipped), len(fresh), files)


def store_pixels(
    root: Path, paths: Sequence[str], preprocessing: Preprocessing, progress: Progress | None = None, shard: Shard | None = None
) -> tuple[dict[str, str], set[str], list[tuple[str, str]]]:
    """Decode images into the store, on all cores.

    Args:
        shard: The shard that the paths are, if they are not all files of the folder.

    Returns:
        Content hash by path, the hashes of the images decoded now, and (path, reason) of unusable files.

    Raises:
        ImgclfError: The disk is full.
    """
    base = _base(root, preprocessing)
    hashes = content_hashes(root, paths, shard=shard)
    size = len(preprocess.encode(np.zeros((preprocessing.height, preprocessing.width, 3), np.uint8), ".bmp"))
    shared = (str(root), str(base / "store"), preprocessing, size)
    usable: dict[str, str] = {}
    skipped = []
    fresh: set[str] = set()
    try:
        with contextlib.closing(
            process_map(pixel_files.store_image, shared, [(path, hashes.get(path, "")) for path in paths])
        ) as kept:
            for done, (path, (digest, new, reason)) in enumerate(zip(paths, kept, strict=True), 1):
                if not digest:
                    skipped.append((path, reason))
                else:
                    usable[path] = digest
                    if new:
                        fresh.add(digest)
                if progress:
                    progress(done, len(paths))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ImgclfError(
            f"{base}: the disk is full: {len(paths):,} prepared images take {size * len(paths) / 1e6:,.0f} MB there; "
            "free some space (you can delete prepared images of other sizes in the same folder), or use a smaller --image-size"
        ) from error
    return usable, fresh, skipped


def stored(root: Path, preprocessing: Preprocessing, digest: str) -> Path:
    """Return the path of one stored image, lossless and at the model's size."""
    return pixel_files.stored_path(_base(root, preprocessing) / "store", digest)


def _base(root: Path, preprocessing: Preprocessing) -> Path:
    return state_folder(root) / "prepared" / preprocessing.hash


def shard(prepared: Prepared, index: int, count: int) -> Prepared:
    """Return the portion of one of `count` workers: every `count`-th file of each subset from `index` on, in its own folder."""
    if count == 1:
        return prepared
    files: dict[Subset, dict[str, str]] = {
        subset: dict(sorted(names.items())[index::count]) for subset, names in prepared.files.items()
    }
    base = prepared.folder.parent
    folder = base / _view_name(files, prepared.class_names)
    if not folder.exists():
        _link_view(folder, base / "store", files, prepared.class_names)
    return dataclasses.replace(prepared, folder=folder, files=files)


def _view_name(files: Mapping[Subset, Mapping[str, str]], class_names: Sequence[str]) -> str:
    content = "\n".join(sorted(f"{subset}/{name}" for subset in files for name in files[subset]) + list(class_names))
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def content_of(name: str) -> str:
    """Return the SHA-256 of the source of a prepared file, which is in its name."""
    return name.rsplit("/", 1)[1][:64]


def _free_name(taken: Mapping[str, str], stem: str) -> str:
    """Return `stem.bmp`, or a numbered name if the same content occurs twice."""
    return free(stem, ".bmp", taken.__contains__)


def _link_view(folder: Path, store: Path, files: Mapping[Subset, Mapping[str, str]], class_names: Sequence[str]) -> None:
    temporary = folder.with_name(contained.temporary_name(f"{folder.name}.view"))
    for subset, names in files.items():
        for label in class_names:
            contained.make_folder(temporary / subset / label)
        for name in names:
            source = pixel_files.stored_path(store, content_of(name))
            link_or_copy(source, temporary / subset / name)
    try:
        with contained.at(folder.parent) as base:
            base.replace(temporary.name, folder.name)
    except OSError:  # another run made the same folder meanwhile
        if not folder.exists():
            raise
        shutil.rmtree(temporary, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> bool:
    """Make a hard link, or a copy if no link is possible between the two places; return whether it is a link."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
        return False
    return True
