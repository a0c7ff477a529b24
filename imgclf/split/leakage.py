"""Find leakage: duplicates and near-duplicates in two subsets of a split."""

import dataclasses
from pathlib import Path
from typing import Any

from imgclf.core.config import SUBSETS, Subset
from imgclf.core.errors import ImgclfError
from imgclf.core.files.state_folder import command
from imgclf.core.progress import Stages, stage
from imgclf.data import duplicates, file_index, layout
from imgclf.data.manifest import as_spelled, manifest_path, read_manifest


@dataclasses.dataclass(frozen=True, slots=True)
class Leak:
    """An image with duplicates or near-duplicates in another subset, and the most similar one of them.

    exact: The pixels are the same; then similarity is 1.
    """

    path: str
    subset: Subset
    other: str
    other_subset: Subset
    exact: bool
    mirrored: bool
    similarity: float


@dataclasses.dataclass(frozen=True)
class Leakage:
    """The leakage between the subsets of a folder.

    where: The place that defines the subsets: "its folders", or the path of the manifest.
    images: Number of images compared, by subset.
    skipped: (path, reason) of unusable files.
    """

    data: Path
    where: str
    images: dict[Subset, int]
    leaks: tuple[Leak, ...]
    skipped: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON."""
        return {
            "schema": "split-check/1",
            "data": str(self.data),
            "source": self.where,
            "images": self.images,
            "leaks": [dataclasses.asdict(leak) for leak in self.leaks],
            "skipped": [list(item) for item in self.skipped],
        }


def find_leakage(data: Path, progress: Stages | None = None) -> Leakage:
    """Find duplicates and near-duplicates in two subsets of a data folder.

    The subsets are its train, val and test folders, or else those of its manifest. Raises ImgclfError if it has neither.
    """
    with file_index.images(data, progress=stage(progress, "decoding")) as found:
        scanned, files, chosen, skipped = found
        if layout.subset_folders(data):
            where = "its folders"
        else:
            path = manifest_path(data)
            if not path.exists():
                raise ImgclfError(
                    f"{data}: not split: it has no train and test folders and no manifest; run {command('split', data)}"
                )
            where = str(path)
            manifest = as_spelled(read_manifest(path), scanned.paths)
            subset_of = {row.path: row.split for row in manifest.rows}
            files = [dataclasses.replace(file, subset=subset_of.get(file.path)) for file in files]
        leaks = []
        for leak in duplicates.leaks(scanned, files, stage(progress, "comparing")):
            one, other = files[leak.index], files[leak.other]
            if one.subset and other.subset:
                leaks.append(Leak(one.path, one.subset, other.path, other.subset, leak.exact, leak.mirrored, leak.similarity))
        leaks.sort(key=lambda leak: (-leak.similarity, leak.path))
    subset = {file.path: file.subset for file in files}
    counts: dict[Subset, int] = dict.fromkeys(SUBSETS, 0)
    for sample in chosen.samples:
        if (own := subset[sample.path]) is not None:
            counts[own] += 1
    return Leakage(data, where, counts, tuple(leaks), tuple(skipped))
