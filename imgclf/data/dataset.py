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
from imgclf.data.layout import DataFile, classes, scan
from imgclf.images import header
from imgclf.images.formats import filetypes

LARGEST_AUTO_SIZE, LARGEST_AUTO_SIZE_OF_MANY, MANY = 96, 128, 10_000  # side in pixels (twice), number of images


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One image: its path relative to the data folder (forward slashes), and its class name."""

    path: str
    label: str | None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Sorted samples under one root, and the sorted class names; the index of a class is its position among them."""

    root: Path
    samples: tuple[Sample, ...]
    class_names: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Return the number of images of every class, in class order; 0 for an empty class."""
        counts = dict.fromkeys(self.class_names, 0)
        for sample in self.samples:
            if sample.label is not None:
                counts[sample.label] += 1
        return counts

    def subset(self, paths: Iterable[str]) -> "Dataset":
        """Return the dataset with only these paths and the same class names."""
        kept = set(paths)
        return dataclasses.replace(self, samples=tuple(s for s in self.samples if s.path in kept))


def index(root: Path, *, minimum_classes: int = 1) -> tuple[Dataset, list[tuple[str, str]]]:
    """List the images of a data folder.

    A file counts as an image if its first bytes match an image format, whatever its name. It is not decoded here.

    Returns:
        The dataset, and (path, reason) of every file in a class folder that is not an image.

    Raises:
        ImgclfError: The folder has fewer than `minimum_classes` class folders, or a class folder has no images.
    """
    class_names = classes(root, minimum_classes)
    files = [file for file in scan(root) if file.label is not None and not file.ignored]
    problems = ordered_map(lambda file: _not_an_image(root / file.path), files)
    return select(root, class_names, zip(files, problems, strict=True))


def select(
    root: Path, class_names: Sequence[str], files: Iterable[tuple[DataFile, str]]
) -> tuple[Dataset, list[tuple[str, str]]]:
    """Return (dataset, skipped) from (file, reason to skip it or ""); raises ImgclfError if a class has no images."""
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
    """Return "" if the first bytes of a file match an image format, else the reason."""
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
    """Return the side of the model's input in pixels: 96, or 128 from 10,000 images on.

    If the median of the shorter side of 200 random images is smaller, it is used instead: rounded down to a multiple of 8, at
    least 32.
    """
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
