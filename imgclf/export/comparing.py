"""Compare an exported file with its run."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import ExportConfig, Subset
from imgclf.core.errors import ImageError, ImgclfError
from imgclf.core.files.state_folder import command
from imgclf.core.parallel import ordered_map
from imgclf.core.progress import Stages
from imgclf.data.manifest import Row
from imgclf.evaluation.intervals import wilson_interval
from imgclf.export import formats
from imgclf.export.contents import Predict
from imgclf.images import decode, preprocess
from imgclf.images.formats import filetypes
from imgclf.models.bundle import Bundle

COMPARED = 1000  # images at most that the exported file is held against the run on
_TIMED = 20


@dataclasses.dataclass(frozen=True)
class FromBytes:
    """How a SavedModel's own decoder does on the images' files: those that are JPEG or PNG and that it reads."""

    images: int
    difference: float
    agreement: float
    agreement_interval: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What the run and the exported file predict to the same images.

    before, after: probabilities (n, classes) of the run and of the file. true: (n,) classes. pixels: some of the images.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    true: NDArray[np.int64]
    pixels: list[decode.Image]

    @property
    def images(self) -> int:
        return len(self.true)

    @property
    def right(self) -> tuple[int, int]:
        """How many labels are right, of the run and of the file."""
        return int((self.before.argmax(1) == self.true).sum()), int((self.after.argmax(1) == self.true).sum())

    @property
    def difference(self) -> float:
        """The largest of any class's probability."""
        return float(np.abs(self.after - self.before).max())

    @property
    def agreement(self) -> float:
        """The share of images with the same label."""
        return float((self.after.argmax(1) == self.before.argmax(1)).mean())


def compare(run: Bundle, predict: Predict, root: Path, rows: list[Row], report: Stages) -> Comparison:
    """Classify the images by the run and by the file. Raises ImgclfError when none of them can be read."""

    def one(row: Row) -> tuple[NDArray[np.float64], NDArray[np.float64], decode.Image] | None:
        image = load_image(run, root, row)
        return None if image is None else (run.probability(image), predict(image), image)

    before, after, true = [], [], []
    pixels: list[decode.Image] = []
    for done, (row, found) in enumerate(zip(rows, ordered_map(one, rows), strict=True), 1):
        if found is not None:
            before.append(found[0])
            after.append(found[1])
            true.append(run.class_names.index(row.label))
            if len(pixels) < _TIMED:
                pixels.append(found[2])
        report("comparing", done, len(rows))
    if not true:
        raise ImgclfError(
            f"{root}: none of the {len(rows)} images for the comparison can be read; run {command('clean', root)}"
        )
    return Comparison(np.array(before), np.array(after), np.array(true), pixels)


def hold(path: Path, config: ExportConfig, comparison: Comparison, subset: Subset) -> None:
    """Raise ImgclfError when an exported file is not what the run is."""
    on = f"on {comparison.images} {subset} images"
    if config.quantize == "int8":
        apart = 1 - comparison.agreement
        if not apart <= config.limit + 1e-9:
            raise ImgclfError(
                f"{path}: not exported: another label than the run's {round(apart * comparison.images)} times {on}, and "
                f"{config.limit:g} of them are allowed; take --quantize float16, or allow more with --tolerance"
            )
    elif not comparison.difference <= config.limit:
        lossless = "take --quantize none, or " if config.quantize != "none" else ""
        raise ImgclfError(
            f"{path}: not exported: a probability differs from the run's by {comparison.difference:.2g} {on}, and "
            f"{config.limit:g} is allowed; {lossless}allow more with --tolerance"
        )


def on_bytes(path: Path, run: Bundle, root: Path, rows: list[Row], report: Stages) -> tuple[FromBytes | None, list[str]]:
    """A SavedModel that decodes by itself, against the run that does so with OpenCV; and a note on the files it refuses."""
    predict = formats.open_bytes(path)

    def one(row: Row) -> tuple[NDArray[np.float64], NDArray[np.float64] | None] | None:
        try:
            data = decode.read(root / row.path)
            if filetypes.sniff(data) not in ("JPEG", "PNG"):
                return None
            return run.probability(preprocess.apply(run.preprocessing, decode.decode(data))), predict(data)
        except ImageError:
            return None

    pairs, refused = [], 0
    for done, found in enumerate(ordered_map(one, rows), 1):
        if found and found[1] is not None:
            pairs.append(found)
        elif found:
            refused += 1
        report("comparing files", done, len(rows))
    words = "JPEG and PNG files whose bytes the SavedModel refuses, as where the mark at their end is missing"
    notes = [f"{words}: {refused}"] if refused else []
    if not pairs:
        return None, notes
    before, after = np.array(pairs).transpose(1, 0, 2)
    agreement = float((before.argmax(1) == after.argmax(1)).mean())
    interval = wilson_interval(round(agreement * len(pairs)), len(pairs))
    return FromBytes(len(pairs), float(np.abs(before - after).max()), agreement, interval), notes


def milliseconds(predict: Callable[[decode.Image], Any], pixels: list[decode.Image]) -> float:
    predict(pixels[0])
    taken = []
    for image in pixels:
        began = time.perf_counter()
        predict(image)
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def load_image(run: Bundle, root: Path, row: Row) -> decode.Image | None:
    try:
        return preprocess.load(run.preprocessing, root / row.path)
    except ImageError:
        return None
