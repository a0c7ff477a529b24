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
from imgclf.export import saved_model
from imgclf.export.predicting import Predict
from imgclf.images import decode, preprocess
from imgclf.images.formats import filetypes
from imgclf.models.bundle import Bundle

COMPARED = 1000  # images at most for the comparison with the run
_TIMED = 20  # images at most for the measurement of speed


@dataclasses.dataclass(frozen=True)
class FromBytes:
    """Comparison of a SavedModel that decodes the files itself with the run, on the JPEG and PNG files that it can decode.

    The fields have the same meaning as in `exporting.Export`.
    """

    images: int
    difference: float
    agreement: float
    agreement_interval: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Predictions of the run and of the exported file for the same images.

    before, after: probabilities (n, classes) of the run and of the file. true: class indices (n,). pixels: some of the images.
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
        """Numbers of correct labels of the run and of the file."""
        return int((self.before.argmax(1) == self.true).sum()), int((self.after.argmax(1) == self.true).sum())

    @property
    def difference(self) -> float:
        """The largest difference in the probability of any class."""
        return float(np.abs(self.after - self.before).max())

    @property
    def agreement(self) -> float:
        """The fraction of images with the same label."""
        return float((self.after.argmax(1) == self.before.argmax(1)).mean())


def compare(run: Bundle, predict: Predict, root: Path, rows: list[Row], report: Stages) -> Comparison:
    """Classify the images with the run and with the file. Raises ImgclfError if no image can be read."""

    def classify(row: Row) -> tuple[NDArray[np.float64], NDArray[np.float64], decode.Image] | None:
        image = load_image(run, root, row)
        return None if image is None else (run.probability(image), predict(image), image)

    before, after, true = [], [], []
    pixels: list[decode.Image] = []
    for done, (row, result) in enumerate(zip(rows, ordered_map(classify, rows), strict=True), 1):
        if result is not None:
            before.append(result[0])
            after.append(result[1])
            true.append(run.class_names.index(row.label))
            if len(pixels) < _TIMED:
                pixels.append(result[2])
        report("comparing", done, len(rows))
    if not true:
        raise ImgclfError(
            f"{root}: none of the {len(rows)} images for the comparison can be read; run {command('clean', root)}"
        )
    return Comparison(np.array(before), np.array(after), np.array(true), pixels)


def check_tolerance(path: Path, config: ExportConfig, comparison: Comparison, subset: Subset) -> None:
    """Raise ImgclfError if the exported file differs from the run by more than the tolerance.

    The tolerance is a fraction of different labels for int8, and a difference in probability otherwise.
    """
    images = f"{comparison.images} {subset} images"
    if config.quantize == "int8":
        disagreement = 1 - comparison.agreement
        if not disagreement <= config.limit + 1e-9:
            raise ImgclfError(
                f"{path}: not exported: the label differs from the run's for {round(disagreement * comparison.images)} of "
                f"{images}; the allowed fraction is {config.limit:g}; use --quantize float16, or a higher --tolerance"
            )
    elif not comparison.difference <= config.limit:
        lossless = "use --quantize none, or " if config.quantize != "none" else "use "
        raise ImgclfError(
            f"{path}: not exported: a probability differs from the run's by {comparison.difference:.2g} on {images}; "
            f"the allowed difference is {config.limit:g}; {lossless}a higher --tolerance"
        )


def compare_files(path: Path, run: Bundle, root: Path, rows: list[Row], report: Stages) -> tuple[FromBytes | None, list[str]]:
    """Compare a SavedModel that decodes JPEG and PNG files itself with the run, which decodes them with OpenCV.

    Returns:
        The comparison (None without such files), and notes on the files that the SavedModel cannot decode.
    """
    predict = saved_model.open_bytes(path)

    def classify(row: Row) -> tuple[NDArray[np.float64], NDArray[np.float64] | None] | None:
        try:
            data = decode.read(root / row.path)
            if filetypes.sniff(data) not in ("JPEG", "PNG"):
                return None
            return run.probability(preprocess.apply(run.preprocessing, decode.decode(data))), predict(data)
        except ImageError:
            return None

    pairs, undecoded = [], 0
    for done, result in enumerate(ordered_map(classify, rows), 1):
        if result and result[1] is not None:
            pairs.append(result)
        elif result:
            undecoded += 1
        report("comparing files", done, len(rows))
    text = "JPEG and PNG files that the SavedModel cannot decode, for example because the end marker is missing"
    notes = [f"{text}: {undecoded}"] if undecoded else []
    if not pairs:
        return None, notes
    before, after = np.array(pairs).transpose(1, 0, 2)
    agreement = float((before.argmax(1) == after.argmax(1)).mean())
    interval = wilson_interval(round(agreement * len(pairs)), len(pairs))
    return FromBytes(len(pairs), float(np.abs(before - after).max()), agreement, interval), notes


def milliseconds(predict: Callable[[decode.Image], Any], pixels: list[decode.Image]) -> float:
    """Return the median time per image, after a first call that is not measured."""
    predict(pixels[0])
    seconds = []
    for image in pixels:
        start = time.perf_counter()
        predict(image)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def load_image(run: Bundle, root: Path, row: Row) -> decode.Image | None:
    """Return the image at the run's size; None if it cannot be read."""
    try:
        return preprocess.load(run.preprocessing, root / row.path)
    except ImageError:
        return None
