"""The images of a data folder as samples with labels."""

import dataclasses
import os
import random
import stat
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from imgclf.core.errors import ImageError, ImgclfError
from imgclf.core.parallel import ordered_map
from imgclf.data.layout import Found, classes, scan
from imgclf.images import header
from imgclf.images.formats import filetypes

LARGEST_AUTO_SIZE, LARGEST_AUTO_SIZE_OF_MANY, MANY = 96, 128, 10_000  # pixels a side; images


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One image: its path relative to the data folder (forward slashes), and its class name."""

    path: str
    label: str | None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Sorted samples under one root, and the sorted class names that give each its number."""

    root: Path
    samples: tuple[Sample, ...]
    class_names: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Images a class, every class named, in class order."""
        counts = dict.fromkeys(self.class_names, 0)
        for sample in self.samples:
            if sample.label is not None:
                counts[sample.label] += 1
        return counts

    def subset(self, paths: Iterable[str]) -> "Dataset":
        """The samples whose paths are given; the class names stay."""
        kept = set(paths)
        return dataclasses.replace(self, samples=tuple(s for s in self.samples if s.path in kept))


def index(root: Path, *, minimum_classes: int = 1) -> tuple[Dataset, list[tuple[str, str]]]:
    """The images under a data folder, and the (path, reason) of every file in a class folder that is none.

    A file is an image when its first bytes say so, whatever its name; whether it decodes is found out later.
    Raises ImgclfError for a folder without class folders, with fewer than `minimum_classes`, or with an empty class.
    """
    class_names = classes(root, minimum_classes)
    files = [file for file in scan(root) if file.label is not None and not file.ignored]
    problems = ordered_map(lambda file: _not_an_image(root / file.path), files)
    return select(root, class_names, zip(files, problems, strict=True))


def select(root: Path, class_names: Sequence[str], files: Iterable[tuple[Found, str]]) -> tuple[Dataset, list[tuple[str, str]]]:
    """Files as a Dataset, those with a reason against them skipped; raises ImgclfError for a class without images."""
    samples, skipped = [], []
    for file, problem in files:
        if problem:
            skipped.append((file.path, problem))
        else:
            samples.append(Sample(file.path, file.label))
    dataset = Dataset(root, tuple(samples), tuple(class_names))
    for name, count in dataset.counts().items():
        if count == 0:
            raise ImgclfError(f"{root}: the class folder {name} has no images; add some, or remove the folder")
    return dataset, skipped


def _not_an_image(path: Path) -> str:
    """ "" if a file begins like an image, else the reason."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "not a regular file"
        with open(path, "rb") as file:
            head = file.read(filetypes.HEAD)
            if not head:
                return "zero bytes"
            kind, ending = filetypes.sniff(head), path.suffix.lower()
            if kind == "TIFF" and (raw := filetypes.raw(file, ending)):
                return filetypes.raw_refusal(raw)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if kind else filetypes.refusal(head, ending)[1]


def auto_image_size(training: Dataset, seed: int) -> int:
    """96 pixels, 128 from 10,000 images on; fewer when the median short side of 200 is less, in steps of 8, 32 at least."""
    largest = LARGEST_AUTO_SIZE if len(training.samples) < MANY else LARGEST_AUTO_SIZE_OF_MANY
    drawn = random.Random(seed).sample(training.samples, min(200, len(training.samples)))
    sides = []
    for sample in drawn:
        try:
            head = header.read_header(training.root / sample.path)
        except ImageError:
            continue
        sides.append(min(head.width, head.height))
    if not sides:
        return largest
    return max(32, min(largest, int(statistics.median(sides)) // 8 * 8))
