"""Collect the inputs of a split: usable images, their hashes and their groups."""

import dataclasses
from pathlib import Path

from imgclf.core.config import SplitConfig, Subset
from imgclf.core.progress import Stages, stage
from imgclf.data import allocation, dataset, duplicates, file_index, layout
from imgclf.data.grouping import user_groups


@dataclasses.dataclass(frozen=True)
class Material:
    """The inputs of a split.

    samples: Usable images.
    hashes: SHA-256 by path.
    keys: The user's group keys by path.
    groups: Group by path, from duplicates, near-duplicates and keys.
    folders: Subset by folder name if the data folder is already split, else empty.
    skipped: (path, reason) of unusable files.
    """

    samples: tuple[dataset.Sample, ...]
    hashes: dict[str, str]
    keys: dict[str, str]
    groups: dict[str, str]
    folders: dict[str, Subset]
    notes: list[str]
    skipped: list[tuple[str, str]]


def gather(data: Path, config: SplitConfig, progress: Stages | None) -> Material:
    """Scan a data folder, find duplicates and near-duplicates, and build the groups."""
    with file_index.images(data, minimum_classes=2, progress=stage(progress, "decoding")) as found:
        scanned, _files, chosen, skipped = found
        first_of = duplicates.groups(scanned, stage(progress, "comparing")).tolist()
    paths = [sample.path for sample in chosen.samples]
    all_hashes = scanned.hashes()
    hashes = {path: all_hashes[path] for path in paths}
    keys, notes = user_groups(paths, config)
    pairs = [
        (scanned.paths[index], scanned.paths[first])
        for index, first in enumerate(first_of)
        if index != first and scanned.paths[index] in hashes
    ]
    groups = allocation.group(hashes, keys, pairs)
    return Material(chosen.samples, hashes, keys, groups, layout.subset_folders(data), notes, skipped)
