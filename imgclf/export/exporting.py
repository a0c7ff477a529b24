"""`imgclf export`: write a finished run in another format, and keep the file only if it predicts the same as the run."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import imgclf
from imgclf.core.config import ExportConfig, Format, Quantize, Subset
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.files import atomic, contained
from imgclf.core.files.paths import StrPath
from imgclf.core.files.state_folder import check_data_folder, check_outside, command
from imgclf.core.parallel import ordered_map
from imgclf.core.progress import Stages
from imgclf.data import file_index, scoring
from imgclf.data.manifest import Row
from imgclf.evaluation import baseline
from imgclf.evaluation.baseline import Baseline
from imgclf.evaluation.intervals import wilson_interval
from imgclf.export import formats
from imgclf.export.comparing import (
    COMPARED,
    FromBytes,
    check_tolerance,
    compare,
    compare_files,
    load_image,
    milliseconds,
)
from imgclf.images import decode
from imgclf.models.bundle import Bundle

FOLDER = "export"  # folder inside a run for exports without --out

_CALIBRATION_IMAGES = 200  # at most, for the value ranges of int8


@dataclasses.dataclass(frozen=True)
class Export:
    """An exported file compared with its run, on images of one subset of the run's split.

    difference: largest difference in the probability of any class. agreement: fraction of images with the same label. before:
    of the run; after: of the exported file. Sizes are in bytes. Times are medians in milliseconds per image, on one thread
    except for TensorFlow. Intervals are 95% Wilson intervals. baseline: on the same images, compared with the file's accuracy.
    """

    run: str
    path: str
    format: Format
    quantize: Quantize
    tolerance: float
    subset: Subset
    images: int
    difference: float
    agreement: float
    agreement_interval: tuple[float, float]
    accuracy_before: float
    interval_before: tuple[float, float]
    accuracy_after: float
    interval_after: tuple[float, float]
    baseline: Baseline
    size_before: int
    size_after: int
    ms_before: float
    ms_after: float
    representative_images: int  # number of images from which int8 got its value ranges
    from_bytes: FromBytes | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"schema": "export/1", **dataclasses.asdict(self)}


def check(config: ExportConfig, out: Path | None) -> None:
    """Check the options before anything is computed.

    Raises:
        UsageError: The format does not support the quantization, or --out has the wrong extension.
        ImgclfError: A package is not installed, or --out cannot be created.
    """
    form, quantize = config.format, config.quantize
    supported = formats.FORMATS[form].quantize
    if quantize not in supported:
        others = ", ".join(name for name, one in formats.FORMATS.items() if quantize in one.quantize)
        raise UsageError(
            f"--format {form} does not support --quantize {quantize}, only {', '.join(supported)}; "
            f"{quantize} is supported by {others}"
        )
    ending = formats.FORMATS[form].ending
    if out and ending and out.suffix != ending:
        raise UsageError(f"--out {out}: the name of a {form} file must end with {ending}")
    if out and out.exists():
        raise ImgclfError(f"{out}: exists already, and an export never overwrites it; give --out another name")
    above = next((folder for folder in out.absolute().parents if folder.exists()), None) if out else None
    if above and not above.is_dir():
        raise ImgclfError(f"{above}: a file, not a folder; give --out another place")
    formats.check_packages(form)


def default_path(run: Path, config: ExportConfig) -> Path:
    """Return the path of an export without --out: `export/model-int8.tflite` or similar in the run's folder.

    Raises LinkError if the run's folder `export` is a link, since runs may come from other people.
    """
    with contained.Folder.named(run) as folder, contextlib.suppress(FileNotFoundError):
        folder.below(FOLDER).close()
    stem = "saved-model" if config.format == "saved-model" else "model"
    quantized = "" if config.quantize == "none" else f"-{config.quantize}"
    return run / FOLDER / f"{stem}{quantized}{formats.FORMATS[config.format].ending}"


def export(
    run: Bundle,
    config: ExportConfig | None = None,
    *,
    data: StrPath | None = None,
    out: StrPath | None = None,
    progress: Stages | None = None,
) -> Export:
    """Write a run in another format, compare the file with the run on the test set, and keep it if they agree.

    Without a test set, the validation set is used. Every format returns one calibrated probability for each class.

    Args:
        data: The data folder, if it was moved.
        out: A new file or folder. The default is `default_path`, where an earlier export is replaced.

    Raises:
        ImgclfError: The file differs from the run by more than the tolerance (the file is then removed), the images cannot be
            used, or the file cannot be written.
        UsageError: See `check`.
    """
    config = config or ExportConfig()
    data = None if data is None else Path(data)
    out = None if out is None else Path(out)
    check(config, out)
    report: Stages = progress or (lambda stage, done, total: None)
    root, rows, notes = _images(run, data)
    subset, compared = _compared(root, rows)
    path = out or default_path(run.path, config)
    check_outside(path, "--out", root)
    report("loading TensorFlow", 0, 1)
    network = formats.calibrated(run.network(), run.temperature)
    with _temporary_path(path, config.format) as temporary:
        report("converting", 0, 1)
        examples = _examples(run, root, rows) if config.quantize == "int8" else []
        formats.write(network, temporary, config.format, config.quantize, _note(run, config.quantize), examples)
        predict = formats.open_exported(temporary, config.format)
        comparison = compare(run, predict, root, compared, report)
        check_tolerance(path, config, comparison, subset)
        is_decoding = config.format == "saved-model"
        from_bytes, more = compare_files(temporary, run, root, compared, report) if is_decoding else (None, [])
        size = sum(file.stat().st_size for file in (temporary, *temporary.rglob("*")) if file.is_file())
        ms_before, ms_after = milliseconds(run.probability, comparison.pixels), milliseconds(predict, comparison.pixels)
    right_before, right_after = comparison.right
    interval = wilson_interval(right_after, comparison.images)
    trivial = _baseline(run, comparison.true, right_after)
    warning = trivial.warning("accuracy", right_after / comparison.images, interval, run.info.next_step)
    return Export(
        run=str(run.path),
        path=str(path),
        format=config.format,
        quantize=config.quantize,
        tolerance=config.limit,
        subset=subset,
        images=comparison.images,
        difference=comparison.difference,
        agreement=comparison.agreement,
        agreement_interval=wilson_interval(round(comparison.agreement * comparison.images), comparison.images),
        accuracy_before=right_before / comparison.images,
        interval_before=wilson_interval(right_before, comparison.images),
        accuracy_after=right_after / comparison.images,
        interval_after=interval,
        baseline=trivial,
        size_before=run.file.stat().st_size,
        size_after=size,
        ms_before=ms_before,
        ms_after=ms_after,
        representative_images=len(examples),
        from_bytes=from_bytes,
        notes=(*notes, *more, *filter(None, [warning])),
    )


def _images(run: Bundle, data: Path | None) -> tuple[Path, list[Row], list[str]]:
    """Return the data folder, the rows of the run's split whose images exist unchanged, and notes on the other images."""
    root = data or Path(run.info.data.path)
    if data is None and not root.is_dir():
        raise ImgclfError(
            f"{root}: the run's data folder is no longer there; an export is compared with the run on its images; "
            "give the new path: imgclf export FOLDER"
        )
    check_data_folder(root)
    manifest, _others, notes = scoring.as_named(root, scoring.manifest_of(run))
    wanted = [row for row in manifest.rows if (root / row.path).is_file()]
    hashes = file_index.content_hashes(root, [row.path for row in wanted])
    rows = [row for row in wanted if hashes.get(row.path) == row.sha256]
    lost = len(manifest.rows) - len(rows)
    if lost:
        notes.append(f"skipped images of the run's split that are missing or have changed: {lost}")
    return root, rows, notes


def _evenly(rows: list[Row], most: int) -> list[Row]:
    """Select at most so many rows, evenly spaced. Rows are sorted by path, so all but rare classes are included."""
    return rows[:: math.ceil(len(rows) / most)] if rows else []


def _compared(root: Path, rows: list[Row]) -> tuple[Subset, list[Row]]:
    """Return the subset for the comparison, test if there is one and validation otherwise, and some of its rows."""
    subset: Subset = "test" if any(row.split == "test" for row in rows) else "val"
    compared = _evenly([row for row in rows if row.split == subset], COMPARED)
    if not compared:
        raise ImgclfError(
            f"{root}: an export is compared with the run on images of its {subset} set, but none of them exists unchanged; "
            "restore them, or give another folder: imgclf export FOLDER"
        )
    return subset, compared


def _calibration_rows(rows: list[Row]) -> list[Row]:
    """Select the images for int8: validation images, which the test set does not contain, or else training images."""
    validation = [row for row in rows if row.split == "val"]
    return _evenly(validation or [row for row in rows if row.split == "train"], _CALIBRATION_IMAGES)


def _examples(run: Bundle, root: Path, rows: list[Row]) -> list[decode.Image]:
    """Load the images from which int8 gets its value ranges. Raises ImgclfError if none of them can be read."""
    images = ordered_map(lambda row: load_image(run, root, row), _calibration_rows(rows))
    examples = [image for image in images if image is not None]
    if not examples:
        raise ImgclfError(f"{root}: none of the images for int8 quantization can be read; run {command('clean', root)}")
    return examples


def _baseline(run: Bundle, true: NDArray[np.int64], right: int) -> Baseline:
    """Return the baseline on images with the classes `true`, (n,), compared with `right` correct labels of the file."""
    name = run.info.metrics.val_baseline.class_name
    return baseline.baseline(name, int((true == run.class_names.index(name)).sum()), right, len(true))


def _note(run: Bundle, quantize: Quantize) -> dict[str, Any]:
    """Return the metadata of the exported file. The probabilities are calibrated: the weights include the temperature."""
    return {
        "format": 1,
        "class_names": list(run.class_names),
        "preprocessing": dataclasses.asdict(run.preprocessing),
        "temperature": run.temperature,
        "calibrated": True,
        "quantize": quantize,
        "model": run.info.model,
        "run": run.path.resolve().name,
        "finished": run.info.finished,
        "imgclf": imgclf.__version__,
    }


@contextlib.contextmanager
def _temporary_path(path: Path, form: Format) -> Iterator[Path]:
    """Yield a temporary path, which is renamed to `path` if the block succeeds. Otherwise remove it and all new folders."""
    created = [folder for folder in path.absolute().parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic.atomic_folder(path) if form == "saved-model" else atomic.atomic_path(path) as temporary:
            yield temporary
    except BaseException:
        for folder in created:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
